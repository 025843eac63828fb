"""Answers without looking."""

from __future__ import annotations

import pytest

from senna_autoprune.evaluation.measures import controls

LABELS = ["KEEP, STRAIGHT\n"] * 70 + ["STOP, STRAIGHT\n"] * 25 + ["KEEP, LEFT_TURN\n"] * 5


def test_majority() -> None:
    assert controls.majority_answer(LABELS) == "KEEP, STRAIGHT\n"
    assert controls.majority_answer(["b", "a", "b", "a"]) == "a"  # a tie goes to the alphabet, not to the order
    with pytest.raises(ValueError, match="no labels"):
        controls.majority_answer([])


def test_random_answers_follow_the_frequencies_and_the_seed() -> None:
    many = LABELS * 40
    drawn = controls.random_answers(many, seed=1)
    assert drawn == controls.random_answers(many, seed=1)
    assert drawn != controls.random_answers(many, seed=2)
    assert set(drawn) == set(LABELS)
    assert drawn.count("KEEP, STRAIGHT\n") / len(drawn) == pytest.approx(0.70, abs=0.03)
    right = sum(a == b for a, b in zip(drawn, many, strict=True)) / len(many)
    assert right == pytest.approx(controls.expected_random_accuracy(many), abs=0.03)
    assert controls.random_answers([], seed=1) == []
