"""What the first half decides, by hand: how far a method is tried, which one is chosen, which budgets are certified."""

from __future__ import annotations

from math import ceil, inf
from types import SimpleNamespace
from typing import Any

import pytest
from scipy.stats import norm

from senna_autoprune.evaluation.budget.answers import Pairs
from senna_autoprune.evaluation.budget.certificate import needed, power_sentence, scenes_needed
from senna_autoprune.evaluation.budget.choose import Tried, best, candidate_grid, default_margin, explore
from senna_autoprune.evaluation.budget.sequence import Rules
from senna_autoprune.evaluation.measures.intervals import CAUTIOUS, difference_effect, scenes_upper
from senna_autoprune.evaluation.measures.paired_tests import sample_size
from senna_autoprune.evaluation.measures.verdict import METRES
from senna_autoprune.evaluation.runs.rows import QuestionRow

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


def asked(each: int, lost: int, dangerous: int | None) -> Pairs:
    """40 scenes of ``each`` questions; in ``lost`` scenes one is lost."""
    questions = tuple(QuestionRow(i, f"t{i}", "plan", "?", "", (), f"s{i // each}", True, {}) for i in range(40 * each))
    after = tuple(float(i % each > 0 or i >= each * lost) for i in range(40 * each))
    return Pairs(questions, (1.0,) * len(questions), after, None if dangerous is None else tuple(f"s{i}" for i in range(dangerous)))


def test_scenes_that_a_budget_would_need() -> None:
    """The questions of the formula, at so many a scene; and the scenes that safety needs, if those are more."""
    rules = Rules(0.02, 0.1, (20, 40))
    level = float(norm.sf(rules.bounds[-1]))
    for each in (1, 5):
        pairs = asked(each, 1, None)
        counted = pairs.counted
        effect = difference_effect(counted, 0.95, CAUTIOUS)
        questions = sample_size(1 / (40 * each), 0.02, level, 0.8, effect, -1 / (40 * each))
        expected = None if questions == inf else ceil(questions / each)
        found = needed(rules, pairs)
        assert (found["scenes"], found["scenes_accuracy"], found["scenes_safety"]) == (expected, expected, 0)
    assert needed(rules, asked(1, 1, 0))["scenes"] is None and needed(rules, asked(5, 1, 0))["scenes"] > 40
    careful = needed(Rules(0.9, 0.1, (20, 40)), asked(5, 0, 2))
    assert careful["scenes"] == careful["scenes_safety"] == scenes_needed(2 / 40, 0.1, level) > careful["scenes_accuracy"]
    assert needed(rules, asked(5, 0, 4))["scenes"] is None and needed(rules, asked(5, 0, 4))["scenes_safety"] is None
    assert power_sentence(0.2, careful) == (
        f"20 % would need about {careful['scenes']} scenes to certify on (80 % power, if its loss is the observed one)"
    )
    assert power_sentence(0.2, {"scenes": None}) == "20 %: no number of scenes would show it, if what was observed is the truth"


def test_safety_needs_just_so_many_scenes() -> None:
    for rate, safety in ((0.0, 0.05), (0.05, 0.1), (0.02, 0.05)):
        found = scenes_needed(rate, safety, 0.05)
        assert scenes_upper(round(rate * found), found, 0.95) <= safety < scenes_upper(round(rate * (found - 1)), found - 1, 0.95)
    assert scenes_needed(0.0, 0.05, 0.05) == 59 and scenes_needed(0.1, 0.1, 0.05) == inf
