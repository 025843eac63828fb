"""What the first half decides, by hand: how far a method is tried, which one is chosen, which budgets are certified."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from senna_autoprune.evaluation.budget.choose import Tried, best, candidate_grid, default_margin, explore
from senna_autoprune.evaluation.measures.verdict import METRES

GRID = (0.1, 0.2, 0.4, 0.8)


def tried(*steps: tuple[float, float | None, bool]) -> list[Tried]:
    return [Tried("m", budget, difference, 0, 50, promising) for budget, difference, promising in steps]


def pairs(difference: float, hit: int | None = 0, scenes: int = 50, questions: int = 9) -> Any:
    return SimpleNamespace(
        questions=[None] * questions, scenes_hit=hit, counted=SimpleNamespace(difference=difference, scenes=scenes, questions=questions)
    )


def test_the_smallest_budget_wins_then_the_smallest_loss_then_the_first() -> None:
    small = tried((0.8, 0.0, True), (0.1, -0.019, True))
    large = tried((0.8, 0.0, True), (0.4, 0.0, True), (0.2, -0.1, False))
    assert best({"large": large, "small": small}) == "small"
    assert best({"worse": tried((0.4, -0.02, True)), "better": tried((0.4, -0.01, True))}) == "better"
    assert best({"one": large, "other": list(large)}) == "one"
    assert best({"lost": tried((0.8, -0.5, False)), "near": tried((0.8, -0.05, False)), "never": tried((0.8, None, False))}) == "near"
    assert best({"none": tried((0.8, -0.01, False)), "some": tried((0.8, -0.4, True))}) == "some"


def test_a_method_is_tried_from_the_top_until_it_loses_too_much_or_turns_dangerous() -> None:
    """Of 50 scenes two may be dangerous at 5 %; a loss of just the margin is too much."""
    found = explore("m", GRID, lambda budget: pairs(-0.019 if budget > 0.2 else -0.02, 2), 0.02, 0.05)
    assert [(one.budget, one.promising) for one in found] == [(0.8, True), (0.4, True), (0.2, False)]
    found = explore("m", GRID, lambda budget: pairs(0.0, 2 if budget == 0.8 else 3), 0.02, 0.05)
    assert [(one.budget, one.dangerous, one.promising) for one in found] == [(0.8, 2, True), (0.4, 3, False)]
    assert len(explore("m", GRID, lambda budget: pairs(0.0, None), 0.02, 0.05)) == 4  # nobody says which flips are dangerous
    found = explore("m", GRID, lambda budget: pairs(0.1) if budget > 0.2 else None, 0.02, 0.05)
    assert found[-1] == Tried("m", 0.2, None, 0, 0, False) and len(found) == 3
    assert explore("m", GRID, lambda budget: pairs(0.0, 1, questions=0), 0.02, 0.05) == [Tried("m", 0.8, None, 0, 0, False)]


def test_the_first_budget_that_did_not_promise_is_tried_too() -> None:
    assert candidate_grid(tried((0.8, 0.0, True), (0.4, 0.0, True), (0.2, -0.1, False)), GRID) == (0.8, 0.4, 0.2)
    assert candidate_grid(tried((0.8, -0.1, False)), GRID) == (0.8,)
    assert candidate_grid(tried(*((budget, 0.0, True) for budget in GRID)), GRID) == (0.8, 0.4, 0.2, 0.1)


def test_the_margin_is_half_of_what_the_best_control_loses() -> None:
    assert default_margin(0.0, {"no-image": -0.03, "majority": -0.5}) == pytest.approx(0.015)
    assert default_margin(0.0, {"no-image": -0.3, "majority": -0.5}) == 0.02 and default_margin(0.0, {"no-image": 0.01}) < 0
    assert default_margin(0.0, {"mean-path": -0.5}, METRES) == 0.1 and default_margin(0.0, {"mean-path": -0.1}, METRES) == 0.05
