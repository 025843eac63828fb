"""A benchmark's answers, kept and read back (what a kill leaves of the file: tests/files/test_kept.py). Needs no lmms-eval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from senna_autoprune.files.kept import KeptAnswers
from senna_autoprune.lmms.answers import Answer, Cost, keep, kept_answer, mean_cost

IDENTITY = {"model": "tiny", "method": "autoprune", "tokens": 8}
COST = Cost(prompt_tokens=20, new_tokens=3, visual_tokens=16, average_visual_tokens=8.0, flops_full=10.0, flops_pruned=5.0)


def test_answers_come_back(tmp_path: Path) -> None:
    scored = Answer("", COST, loss=0.5, greedy=True)
    with KeptAnswers(tmp_path / "log.sqlite", IDENTITY, "") as log:
        keep(log, "a", Answer("answer a", COST))
        keep(log, "s", scored)
    with KeptAnswers(tmp_path / "log.sqlite", IDENTITY, "") as log:
        assert [kept_answer(log, key) for key in "asc"] == [Answer("answer a", COST), scored, None]


def test_without_a_file_nothing_is_kept() -> None:
    keep(None, "a", Answer("answer a", COST))
    assert kept_answer(None, "a") is None


@pytest.mark.parametrize("value", [{}, {"text": "x"}, {"text": "x", "cost": 3}, {"text": "x", "cost": {"tokens": 1}}, {"cost": {}}])
def test_what_is_no_answer_is_computed_again(tmp_path: Path, value: dict[str, Any]) -> None:
    with KeptAnswers(tmp_path / "log.sqlite", IDENTITY, "") as log:
        log.add("a", value)
        assert kept_answer(log, "a") is None
        keep(log, "a", Answer("again", COST))
        assert kept_answer(log, "a") == Answer("again", COST)


def test_mean_cost_sums_flops_and_leaves_out_questions_without_images() -> None:
    long = Cost(900, 3, 16, 4.0, 1000.0, 100.0)
    blind = Cost(5, 3, 0, 0.0, 77.0, 77.0)
    found = mean_cost([COST, long, blind])
    assert found["flops_share"] == pytest.approx(105 / 1010)  # the mean of the shares would be 0.3
    assert (found["visual_tokens"], found["visual_tokens_unpruned"], found["questions_with_images"]) == (6.0, 16.0, 2.0)
    assert mean_cost([blind]) == {}
    assert mean_cost([Cost(20, 3, 16, 16.0)])["flops_share"] == 1.0
