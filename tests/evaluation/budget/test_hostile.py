"""What would make a certificate wrong without anybody noticing: answers that are missing, interrupted runs, odd scenes, odd grids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from senna_autoprune.evaluation.budget.config import BudgetConfig
from senna_autoprune.evaluation.budget.search import search
from tests.evaluation.budget.fake import KEEP, STOP, TURN, FakeEngine, Rule, question_file, safe_above, share_of, without_waiting
from tests.evaluation.budget.rederive import rederive


@pytest.fixture(scope="module", autouse=True)
def quick_store() -> Iterator[None]:
    with without_waiting():
        yield


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return question_file(tmp_path_factory.mktemp("questions"), 45, 3)


def config(questions: Path, out: Path, **changes: Any) -> BudgetConfig:
    values = {"questions": str(questions), "out": str(out), "margin": 8.0, "safety": 9.0, "grid": "0.2,0.4", "choose_share": 0.0}
    return BudgetConfig(**{**values, **changes})


def failing(answer: str | None) -> Rule:
    """Right down to 30 %; below that every third question gets ``answer``, None: none at all."""

    def rule(question: Any, setting: str) -> str | None:
        if setting == "no-image":
            return STOP
        return answer if share_of(setting) < 0.3 and question.question % 3 == 1 else str(question.label)

    return rule


@pytest.mark.parametrize("answer", [None, "", "I cannot tell", "STOP"])
def test_a_pruned_answer_that_is_missing_or_unreadable_is_wrong_and_misses_the_brake(questions: Path, tmp_path: Path, answer: Any) -> None:
    found = search(config(questions, tmp_path / "run"), FakeEngine(failing(answer))).certificate
    assert [(step["budget"], step["outcome"]) for step in found["sequence"]] == [(0.4, "safe"), (0.2, "not shown")]
    last = found["sequence"][1]["looks"][-1]
    assert last["difference"] == pytest.approx(-1 / 3)
    assert last["dangerous"] == last["scenes"]  # half a plan is none


def test_what_unpruned_could_not_answer_says_nothing_of_pruning(questions: Path, tmp_path: Path) -> None:
    def rule(question: Any, setting: str) -> str | None:
        return None if setting == "unpruned" and question.question % 9 == 0 else safe_above(0.3)(question, setting)

    result = search(config(questions, tmp_path / "run"), FakeEngine(rule))
    last = result.certificate["sequence"][0]["looks"][-1]
    assert (result.failed, last["questions"], last["difference"]) == (15, 120, 0.0)


def test_a_model_that_is_always_wrong_certifies_nothing(questions: Path, tmp_path: Path) -> None:
    wrong = {KEEP: STOP, STOP: TURN, TURN: KEEP}
    found = search(config(questions, tmp_path / "run"), FakeEngine(lambda question, setting: wrong[question.label])).certificate
    assert found["exit_code"] == 5 and "cannot show harm" in found["sentence"]


def test_a_model_that_is_always_right_still_has_a_bound(questions: Path, tmp_path: Path) -> None:
    found = search(config(questions, tmp_path / "run"), FakeEngine(safe_above(0.0))).certificate
    last = found["sequence"][-1]["looks"][-1]
    assert found["exit_code"] == 0 and last["difference"] == 0.0 and last["lower"] < -0.02 and last["dangerous_upper"] > 0.05
    assert "no loss" not in found["sentence"] and "no smaller budget was tried" in found["sentence"]


def test_a_run_that_is_killed_in_a_look_ends_in_the_same_certificate(questions: Path, tmp_path: Path) -> None:
    whole = search(config(questions, tmp_path / "whole"), FakeEngine(safe_above(0.3)))
    asked: list[tuple[int, str]] = []
    for patience in (40, 90, 100):
        count = 0

        def rule(question: Any, setting: str, patience: int = patience) -> str | None:
            nonlocal count
            count += 1
            if count > patience:
                raise KeyboardInterrupt
            return safe_above(0.3)(question, setting)

        engine = FakeEngine(rule)
        with pytest.raises(KeyboardInterrupt):
            search(config(questions, tmp_path / "killed"), engine)
        asked += engine.asked[:-1]
    engine = FakeEngine(safe_above(0.3))
    again = search(config(questions, tmp_path / "killed"), engine)
    asked += engine.asked
    same = ("sentence", "sequence", "controls", "margins", "halves", "strata", "needed", "power", "noise")
    assert {key: again.certificate[key] for key in same} == {key: whole.certificate[key] for key in same}
    assert len(asked) == len(set(asked)) == whole.rows  # nothing twice


def test_scenes_of_very_different_sizes_are_derived_again(tmp_path: Path) -> None:
    """Half of all questions stand in three scenes, and those lose answers."""
    path = question_file(tmp_path, 80, 3, lambda index: index % 3 if index < 120 else 3 + index % 60)

    def rule(question: Any, setting: str) -> str:
        if setting == "no-image":
            return STOP
        return KEEP if share_of(setting) < 0.3 and question.question < 60 and question.label == TURN else str(question.label)

    found = search(config(path, tmp_path / "run", margin=30.0), FakeEngine(rule)).certificate
    assert rederive(tmp_path / "run") == next((s["budget"] for s in reversed(found["sequence"]) if s["outcome"] == "safe"), None)
    looks = found["sequence"][-1]["looks"]
    assert len(found["halves"]["certify"]) == 63 and min(one["difference"] for one in looks) < 0


def test_no_budget_is_tested_twice() -> None:
    assert BudgetConfig(grid="0.2,0.2000000001,0.4,0.40").grid == (0.4, 0.2)
    assert BudgetConfig(grid=[0.3, 0.1, 0.3]).grid == (0.3, 0.1)
