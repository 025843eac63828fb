"""Which questions a run asks: limits read no more than they need, and spread over scenes by the seed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.questions import load_questions
from senna_autoprune.evaluation.config import AskConfig
from senna_autoprune.nuscenes.questions_file import QuestionWriter
from tests.evaluation.conftest import PLAN, record

SCENES, EACH = 9, 5


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "a.jpg").write_bytes(b"x")
    records = [
        record(f"t{scene}-{n}", ["a.jpg"], PLAN.format(speed=n), "KEEP, STRAIGHT", scene_token=f"s{scene}")
        for scene in range(SCENES)
        for n in range(EACH)
    ]
    path = tmp_path / "qa.json"
    path.write_text(json.dumps(records))
    return path


def asked(file: Path, **limits: int) -> list[tuple[int, str]]:
    rows, _ = load_questions(AskConfig(questions=str(file), **limits))  # type: ignore[arg-type]
    return [(row.question, row.scene) for row in rows]


def lines(file: Path) -> Path:
    """The same questions as ``questions build`` writes them: a record a line."""
    written = file.with_name("lines.json")
    with QuestionWriter(written) as writer:
        for one in json.loads(file.read_text()):
            scene = one.pop("scene_token")
            writer.write({**one, "senna_prune": {"scene": scene}})
    return written


@pytest.mark.parametrize("limit", [1, 7, SCENES, SCENES + 2, SCENES * EACH - 1, 999])
def test_a_limit_takes_of_all_scenes_in_turn(file: Path, limit: int) -> None:
    whole, drawn = asked(file), asked(file, limit=limit)
    assert len(drawn) == min(limit, len(whole)) and drawn == sorted(drawn) and set(drawn) <= set(whole)
    each = Counter(scene for _, scene in drawn)
    assert len(each) == min(limit, SCENES) and max(each.values()) - min(each.values()) <= 1
    assert set(asked(file, limit=max(1, limit // 2))) <= set(drawn)


def test_not_always_the_beginning_of_a_scene_and_another_seed_draws_others(file: Path) -> None:
    draws = [asked(file, limit=SCENES, seed=seed) for seed in range(4)]
    assert len({tuple(one) for one in draws}) == 4
    assert {number % EACH for one in draws for number, _ in one} == set(range(EACH))


@pytest.mark.parametrize("limits", [{"limit": 7}, {"limit": 30}, {"limit_scenes": 3}, {"limit": 7, "limit_scenes": 3}])
def test_a_file_of_lines_is_drawn_from_as_any_other(file: Path, limits: dict[str, int]) -> None:
    """Only what is asked is decoded; the twin reads all of it, twice."""
    assert asked(lines(file), **limits) == asked(file, **limits)


def test_no_more_is_decoded_than_is_asked(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = lines(file)
    records = written.read_text().splitlines()
    drawn = {number for number, _ in asked(written, limit=7)}
    broken = [line if number - 1 in drawn or line in "[]" else line.replace('"token"', "token") for number, line in enumerate(records)]
    written.write_text("\n".join(broken) + "\n")
    assert {number for number, _ in asked(written, limit=7)} == drawn
    with pytest.raises(SennaPruneError, match=r"record \d+ is broken"):
        asked(written, limit=8)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"scene": "s3"}}', '"scene": "s3"}, "senna_prune": {"scene": "s4"}}'),  # the last of two keys counts
        ('"senna_prune"', '"note": "\\"senna_prune\\": {\\"scene\\": \\"s9\\"}", "senna_prune"'),
        ('"from": "human"', '"from":  "human"'),
        ("},\n{", "},\n\n{"),
        ("]\n", "]"),
    ],
)
def test_a_file_that_only_looks_like_lines_is_read_as_it_is(file: Path, before: str, after: str) -> None:
    written = lines(file)
    written.write_text(written.read_text().replace(before, after))
    plain = written.with_name("plain.json")
    plain.write_text(json.dumps(json.loads(written.read_text()), indent=1))
    assert asked(written, limit=40) == asked(plain, limit=40)


def test_a_run_begun_with_the_first_questions_goes_on_with_them(file: Path) -> None:
    config = AskConfig(questions=str(file), limit=7)
    for stated, first in (({"limit": 7}, True), ({"limit": 7, "drawn": "by seed, over all scenes"}, False)):
        (file.parent / "config.yaml").write_text(json.dumps({"config": stated}))
        rows, _ = load_questions(config, file.parent)
        assert ([row.question for row in rows] == list(range(7))) == first


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_scenes_are_drawn_by_the_seed(file: Path, seed: int) -> None:
    whole, drawn = asked(file), asked(file, limit_scenes=3, seed=seed)
    names = {scene for _, scene in drawn}
    assert len(names) == 3 and drawn == [row for row in whole if row[1] in names]
    assert drawn == asked(file, limit_scenes=3, seed=seed)
    some = asked(file, limit_scenes=3, limit=7, seed=seed)
    assert some == sorted(some) and set(some) <= set(drawn)
    assert sorted(Counter(scene for _, scene in some).values()) == [2, 2, 3]


def test_another_seed_draws_other_scenes_and_more_than_there_are_is_all(file: Path) -> None:
    draws = {tuple(sorted({scene for _, scene in asked(file, limit_scenes=2, seed=seed)})) for seed in range(12)}
    assert len(draws) > 3
    assert asked(file, limit_scenes=100) == asked(file)


def test_what_questions_have_in_common_is_in_memory_once(file: Path) -> None:
    rows, _ = load_questions(AskConfig(questions=str(lines(file))))
    assert len(rows) == SCENES * EACH and {row.images for row in rows} == {("a.jpg",)}
    assert len({id(row.images) for row in rows}) == 1 and len({id(row.scene) for row in rows}) == SCENES
    conditions = {tuple(row.attributes.items()) for row in rows}
    assert len({id(row.attributes) for row in rows}) == len(conditions) > 1
