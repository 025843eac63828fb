"""Halves and looks; the sequential test's decisions; its false-safe rate, power and saving by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from senna_autoprune.evaluation.budget.design import design
from senna_autoprune.evaluation.budget.sequence import Look, Rules, examine, in_sequence, look
from senna_autoprune.evaluation.measures.intervals import CAUTIOUS, Paired, difference_interval
from senna_autoprune.evaluation.measures.paired_tests import non_inferiority
from senna_autoprune.evaluation.measures.retention import bootstrap, mean_measure
from senna_autoprune.evaluation.measures.verdict import NOT_SHOWN, SAFE
from tools.maintain import simulate as simulated
from tools.maintain.at_once import covered, covered_by_bootstrap

SCENES = [f"s{i}" for i in range(150)]


def test_halves_are_disjoint_seeded_and_whole() -> None:
    one, again, other = design(SCENES, 1), design(SCENES[::-1] * 2, 1), design(SCENES, 2)
    assert one == again != other
    assert set(one.choose).isdisjoint(one.certify) and set(one.choose) | set(one.certify) == set(SCENES)
    assert one.stops == (25, 50, 75)
    assert one.upto(0) == one.certify[:25]
    assert design(SCENES[:29], 0, looks=5).stops == (15,)  # a look sees ten scenes at least
    assert design(SCENES, 0, choose_share=0.0).choose == ()


def test_one_look_is_the_fixed_test() -> None:
    pairs = simulated.scenes(np.random.default_rng(1), 75, 5, 0.01, 0.01, 0.05)
    found, fixed = look(Rules(0.02, 0.05, (75,)), 0, pairs, 0), non_inferiority(pairs, 0.02)
    assert found.z == pytest.approx(fixed.z)
    assert found.lower == pytest.approx(fixed.lower, abs=1e-6)
    assert found.dangerous_upper == pytest.approx(1 - 0.05 ** (1 / 75), abs=1e-4)


def test_what_passed_stays_passed_and_both_must() -> None:
    rules = Rules(0.06, 0.06, (30, 60))
    good = Paired(np.full(60, 20.0), np.zeros(60), np.zeros(60), np.full(60, 20.0))
    first = look(rules, 0, good.take(np.arange(30)), 0)
    assert first.accurate and not first.harmless and first.outcome is None
    bad = Paired(np.full(60, 16.0), np.full(60, 4.0), np.zeros(60), np.full(60, 20.0))
    second = look(rules, 1, bad, 0, first)
    assert second.accurate and second.z < second.bound and second.outcome == SAFE


def test_hopeless_budgets_stop_early_with_the_reason() -> None:
    rules = Rules(0.02, 0.02, (75, 160))
    bad = Paired(np.full(75, 4.0), np.ones(75), np.zeros(75), np.full(75, 5.0))
    assert look(rules, 0, bad, 0).reason.startswith("accuracy: stopped early, hopeless")
    fine = Paired(np.full(75, 5.0), np.zeros(75), np.zeros(75), np.full(75, 5.0))
    assert look(rules, 0, fine, 3).reason == "safety: stopped early, it can no longer be shown"


def test_the_first_failure_ends_the_sequence() -> None:
    asked: list[float] = []

    def test(budget: float) -> list[Look]:
        asked.append(budget)
        n = np.full(75, 10.0)
        lost = np.full(75, 0.0 if budget > 0.2 else 3.0)
        return [look(Rules(0.05, 0.05, (75,)), 0, Paired(n - lost, lost, np.zeros(75), n), 0)]

    done = in_sequence([0.1, 0.3, 0.2, 0.4], test)
    assert asked == [0.4, 0.3, 0.2]
    assert [found[-1].outcome for _, found in done] == [SAFE, SAFE, NOT_SHOWN]


def test_false_safe_rate_at_the_margin_and_early_stops() -> None:
    """300 of the 10,000 models of docs/results/statistics.md: true loss = margin, correlation 0.1, 75 scenes x 10."""
    rng = np.random.default_rng(4)
    rules, safe, scenes = Rules(0.02, 0.5, (25, 50, 75)), 0, 0
    for _ in range(300):
        pairs = simulated.scenes(rng, 75, 10, 0.03, 0.01, 0.1)
        looks = examine(rules, lambda index, pairs=pairs: (pairs.take(np.arange(rules.stops[index])), 0))
        safe += looks[-1].outcome == SAFE
        scenes += looks[-1].scenes
    assert safe / 300 <= 0.075
    assert scenes / 300 < 70


def test_the_whole_procedure_on_a_few_models() -> None:
    """300 of the 10,000 of ``make test-slow``: at the margin hardly one is certified, after two safe budgets a cliff never is."""
    at_the_margin, cliff = simulated.TRUTHS[0], simulated.TRUTHS[4]
    assert (at_the_margin.unsafe, cliff.unsafe) == (0, 2)
    assert (simulated.outcomes(6, at_the_margin, 10, 300).safe > 0).mean() <= 0.08
    found = simulated.outcomes(6, cliff, 34, 300)
    assert found.safe.max() == 2 and (found.safe == 2).mean() > 0.75
    assert found.asked.sum() < found.whole.sum()


@pytest.mark.parametrize("truth", simulated.TRUTHS, ids=lambda truth: truth.name)
def test_many_models_at_once_are_the_package_model_by_model(truth: simulated.Truth) -> None:
    models = simulated.Models(np.random.default_rng(7), truth, 10, 40)
    fast, slow = simulated.whole_procedure(models), simulated.one_by_one(models)
    for name in ("safe", "asked", "whole"):
        np.testing.assert_array_equal(getattr(fast, name), getattr(slow, name))


@pytest.mark.parametrize(("questions", "correlation"), [(3, 0.0), (34, 0.2)])
def test_many_intervals_at_once_are_the_package_one_by_one(questions: int, correlation: float) -> None:
    """Score, bound, and both intervals' cover of the truth; some draws hold no flip at all."""
    many = simulated.many(np.random.default_rng(9), 60, 40, questions, 0.012, 0.008, correlation)
    z, held = many.scores(-0.02, 0.95, CAUTIOUS), covered(many, -0.004)
    boots = covered_by_bootstrap(many, -0.004, 200, 3)
    for model in range(60):
        lost, gained, count = (one[model] for one in (many.lost, many.gained, many.count))
        pairs = Paired(count - lost - gained, lost, gained, count)
        assert z[model] == pytest.approx(non_inferiority(pairs, 0.02).z, rel=1e-9, abs=1e-9)
        found = difference_interval(pairs)
        assert held[model] == (found.low <= -0.004 <= found.high)  # type: ignore[operator]
        drawn = bootstrap([np.stack([pairs.gap, count], axis=1)], mean_measure, 200, 3)
        assert boots[model] == (drawn.low is not None and drawn.high is not None and drawn.low <= -0.004 <= drawn.high)
    assert 0 < held.sum() <= 60 and boots.sum() < 60
