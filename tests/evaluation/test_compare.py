"""Two runs, paired by question."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from senna_autoprune.cli import cli
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.compare import compare, read_side
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.files.yaml_files import dump_yaml, read_yaml
from tests.evaluation.budget.fake import KEEP, STOP, without_waiting

SCENES = 15


def made(folder: Path, method: str, wrong: set[int], questions: range = range(45)) -> Path:
    """A run in which unpruned is right throughout and ``method`` says KEEP, STRAIGHT to the ``wrong`` questions."""
    rows = [
        QuestionRow(i, f"t{i}", "plan", "plan?", STOP if i % 2 else KEEP, ("a.png",), f"scene-{i % SCENES}", True, {}) for i in questions
    ]
    description: dict[str, Any] = {"config": {"method": method}, "identity": {}}
    with without_waiting(), RunStore.start(folder, description, rows) as store:
        for row in rows:
            store.add(AnswerRow(row.question, "unpruned", "ok", row.label))
            store.add(AnswerRow(row.question, method, "ok", KEEP if row.question in wrong else row.label))
    return folder


def test_each_runs_own_method_is_compared_on_common_questions(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a", "fastv", {1, 3}), made(tmp_path / "b", "dart", {1, 5, 7, 9}, range(5, 50))
    found = compare(read_side(a), read_side(b))
    assert (found["a"]["setting"], found["b"]["setting"]) == ("fastv", "dart")
    assert (found["questions"], found["a"]["only"], found["b"]["only"]) == (40, 5, 5)
    assert found["accuracy_a"]["value"] == 1.0 and found["accuracy_b"]["value"] == pytest.approx(37 / 40)
    assert (found["scene_test"]["lost"], found["scene_test"]["gained"]) == (3, 0)
    assert found["scene_test"]["p_value"] == 0.25  # three scenes, all one way: 2 / 2^3
    assert found["flips"]["scenes"]["dangerous"] == 3  # missed brakes
    assert found["difference"]["low"] < -3 / 40 < found["difference"]["high"]
    assert found["sentence"].startswith("B (dart) against A (fastv): no difference is shown, -7.5 points of accuracy [")
    assert "p 0.25 by scene" in found["sentence"] and "in 3 of 15 scenes" in found["sentence"]
    missed = found["flips"]["by_severity"]["missed_brake"]
    assert (missed["count"], missed["rate"]) == (3, 3 / 40) and found["flips"]["compared"] == 40  # of the common ones
    assert missed["meaning"] == "label STOP or DECELERATE: A braked, B does not (or gives no usable answer)"
    assert all("pruned" not in one["meaning"] for one in found["flips"]["by_severity"].values())
    assert {(flip["a"], flip["b"]) for flip in found["flips"]["list"]} == {(STOP, KEEP)}


def test_a_decisive_loss_is_called_one_and_the_other_way_a_gain(tmp_path: Path) -> None:
    """Every second answer is lost: no sentence may begin with what it is *not* worse by."""
    a, b = made(tmp_path / "a", "fastv", set()), made(tmp_path / "b", "dart", set(range(1, 45, 2)))
    found, back = compare(read_side(a), read_side(b)), compare(read_side(b), read_side(a))
    low, high = found["difference"]["low"], found["difference"]["high"]
    assert high < -0.2
    assert found["sentence"].startswith(f"B (dart) is worse than A (fastv) by {math.floor(-1000 * high) / 10:.1f} points to ")
    assert f"{math.ceil(-1000 * low) / 10:.1f} points of accuracy (95 %, 15 scenes; -48.9 [" in found["sentence"]
    assert "not worse" not in found["sentence"]
    assert back["sentence"].startswith("B (fastv) is better than A (dart) by ") and "worse" not in back["sentence"]


def test_a_sweep_or_search_is_not_silently_its_unpruned_answers(tmp_path: Path) -> None:
    one = made(tmp_path / "one", "fastv@0.2", {1})
    many = made(tmp_path / "many", "fastv@0.2", {1})
    for run, more in ((one, "random@0.2"), (many, "dart@0.2")):
        described = read_yaml(run / "config.yaml")
        (run / "config.yaml").write_text(dump_yaml({**described, "config": {"methods": ["fastv", "dart"]}}))
        with without_waiting(), RunStore.start(run, {"config": {"methods": ["fastv", "dart"]}, "identity": {}}, []) as store:
            store.add(AnswerRow(0, more, "ok", KEEP))
            store.add(AnswerRow(0, "no-image", "ok", KEEP))
    assert read_side(one).setting == "fastv@0.2"
    with pytest.raises(SennaPruneError, match=r"many has several settings \(unpruned, dart@0.2, fastv@0.2\): name one with --setting"):
        read_side(many)
    assert read_side(many, "unpruned").setting == "unpruned"


def test_two_settings_of_one_run_and_the_page(tmp_path: Path) -> None:
    run = made(tmp_path / "a", "fastv", {1, 3})
    page = tmp_path / "compare.html"
    ended = CliRunner().invoke(cli, ["compare", str(run), str(run), "--setting", "unpruned", "--out", str(page)])
    assert ended.exit_code == 0, ended.output
    assert "B (fastv) against A (unpruned): no difference is shown, -4.4 points" in ended.output and "missed_brake" in ended.output
    assert "B (fastv) against A (unpruned)" in page.read_text() and "15 scenes: fewer than 40" in page.read_text()


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    a, b = made(tmp_path / "a", "fastv", set(), range(5)), made(tmp_path / "b", "fastv", set(), range(10, 15))
    with pytest.raises(SennaPruneError, match="no answered question"):
        compare(read_side(a), read_side(b))
    with pytest.raises(SennaPruneError, match="no planning answers of 'dart'; it has fastv, unpruned"):
        read_side(a, "dart")
    assert "no verdict, 5 scenes" in compare(read_side(a), read_side(a))["sentence"]
    wide, narrow = made(tmp_path / "wide", "fastv", {1}), made(tmp_path / "narrow", "fastv", {1, 3})
    assert compare(read_side(wide), read_side(narrow))["sentence"].startswith("B (fastv of narrow) against A (fastv of wide): no diff")
