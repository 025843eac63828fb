"""Which questions a run asks: limits read no more than they need, and spread over scenes by the seed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from senna_autoprune.evaluation.answering.questions import load_questions
from senna_autoprune.evaluation.config import AskConfig
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


def test_a_limit_stops_reading(file: Path) -> None:
    whole = asked(file)
    assert len(whole) == SCENES * EACH and asked(file, limit=7) == whole[:7]
    file.write_text(file.read_text()[:-200])  # cut off behind what is needed
    assert asked(file, limit=7) == whole[:7]


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
