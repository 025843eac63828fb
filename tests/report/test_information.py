"""Mutual information beside correctness and tokens kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from senna_autoprune.adapters.reading import Reading
from senna_autoprune.report.information import Measured, information_grid, information_of, measured, separation
from senna_autoprune.report.run import read_run
from tests.report.runs import INFORMATION, made


def one(information: float, right: bool, before: bool = True) -> Measured:
    return Measured(information, before, right, 6.0, (12.0, 6.0, 4.0, 2.0))


def twin_auc(found: list[Measured]) -> float:
    """Pairs of a right and a wrong answer, one by one; a tie counts half."""
    pairs = [(a.information, b.information) for a in found for b in found if a.right_after and not b.right_after]
    return sum(1.0 if right > wrong else 0.5 if right == wrong else 0.0 for right, wrong in pairs) / len(pairs)


def test_questions_with_both_answers_and_a_measured_complexity(tmp_path: Path) -> None:
    run = made(tmp_path)
    run.answers = [row for row in run.answers if (row.question, row.setting) != (0, "unpruned")]
    run.answers = [row for row in run.answers if (row.question, row.setting) != (4, "autoprune")]
    found = measured(run.questions, run.answers, "autoprune")
    assert [entry.information for entry in found] == [INFORMATION[number] for number in (1, 2, 3, 5)]
    assert [(entry.right_before, entry.right_after) for entry in found] == [(True, False), (True, False), (True, True), (False, True)]
    assert found[0].quarters == (12, 6, 4, 2) and found[2].quarters == (12, 7, 3, 2) and found[0].tokens == 6
    assert measured(run.questions, run.answers, "random") == []


def test_an_adapters_choices_are_read_by_the_adapter(tmp_path: Path) -> None:
    run = made(tmp_path)
    reading = Reading.of({"parse": "choice"})
    kept = [q for q in run.questions if q.type == "plan"]
    asked = [replace(q, type="choice", text="? A. One. B. Two.", label="B") for q in kept]
    said = [replace(row, answer="The answer is B" if row.setting == "unpruned" else "A.") for row in run.answers]
    found = measured(asked, said, "autoprune", reading)
    assert len(found) == len(measured(run.questions, run.answers, "autoprune")) > 3
    assert all(entry.right_before and not entry.right_after for entry in found)


@pytest.mark.parametrize("seed", range(5))
def test_separation_is_that_of_counting_pairs(seed: int) -> None:
    random = np.random.default_rng(seed)
    found = [one(float(value) / 7, bool(value + random.integers(6) > 6)) for value in random.integers(0, 10, 40)]
    told = separation(found)
    assert told is not None
    assert told.auc == pytest.approx(twin_auc(found))
    assert (told.right, told.wrong) == (sum(e.right_after for e in found), sum(not e.right_after for e in found))
    assert told.median_right == np.median([e.information for e in found if e.right_after])
    assert 0 <= told.p_value <= 1


def test_nothing_is_separated_where_all_are_right() -> None:
    found = [one(0.1, True, before=False), one(0.2, True)]
    assert separation(found) is None
    before = separation(found, pruned=False)
    assert before is not None and (before.auc, before.right, before.wrong) == (1.0, 1, 1)


def test_quarters_of_the_questions_in_numbers() -> None:
    found = [one(value / 10, right=value > 2) for value in range(8)]
    grid = information_grid(found, "mutual information, nats")
    assert [row[:4] for row in grid.rows] == [
        ["0.000 to 0.100", "2", "100.0 %", "0.0 %"],
        ["0.200 to 0.300", "2", "100.0 %", "50.0 %"],
        ["0.400 to 0.500", "2", "100.0 %", "100.0 %"],
        ["0.600 to 0.700", "2", "100.0 %", "100.0 %"],
    ]
    assert grid.rows[0][4:] == ["6.0", "12.0", "6.0", "4.0", "2.0"]
    assert len(information_grid(found[:2], "x").rows) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"retention": 0.5}, "mutual information, nats"),
        ({"retention": 0.5, "mode": "release"}, "mutual information, bits over all heads"),
        ({"retention": 0.5, "indicator": "cosine"}, "cosine indicator"),
    ],
)
def test_the_number_is_named_with_its_unit(tmp_path: Path, options: dict[str, object], words: str) -> None:
    run = made(tmp_path)
    settings = {**run.description["settings"], "autoprune": {"method": "autoprune", "options": options}}
    run.description = {**run.description, "settings": settings}
    assert information_of(read_run(run.write()))[1] == words
