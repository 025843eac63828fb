"""Curves and schedules: for every complexity, depth and budget they are finite, bounded, monotone, and spend the budget."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.budget import Budget, solve_flops, solve_tokens
from senna_autoprune.pruning.cost import LayerCost
from senna_autoprune.pruning.parts.curves import CURVES, CurveParameters, retention_curve

FUZZ = settings(settings.get_profile("fuzz"), max_examples=150)
LAYERS = st.integers(2, 80)
COMPLEXITY = st.floats(0, 20)
STEEPNESS = st.one_of(st.floats(0, 5), st.sampled_from((0.0, 1e-300, 1e-12, 1e-9, 1e-6, 100.0)))
INFLEXION = st.floats(-200, 200)
VISUAL = st.integers(2, 3000)
NAMES = st.sampled_from(tuple(CURVES))


def shape_of(name: str, k: float, x: float, layers: int) -> np.ndarray:
    """f(1) .. f(L-1): the layers that a schedule decides."""
    return np.asarray(CURVES[name][0](np.arange(1, layers), k, x, layers), dtype=float)


def integral_of(function: Callable[..., np.ndarray], k: float, x: float, layers: int) -> float:
    """Over [0, L], by trapeziums."""
    depth = np.linspace(0, layers, 40_001)
    values = function(depth, k, x, layers)
    return float(((values[1:] + values[:-1]) / 2 * np.diff(depth)).sum())


@FUZZ
@given(NAMES, STEEPNESS, INFLEXION, LAYERS)
def test_curves_lie_between_zero_and_one_and_never_rise(name: str, k: float, x: float, layers: int) -> None:
    values = CURVES[name][0](np.linspace(0, layers, 200), k, x, layers)
    assert np.isfinite(values).all()
    assert ((values >= 0) & (values <= 1)).all()
    assert (np.diff(values) <= 1e-15).all()


@FUZZ
@given(NAMES, STEEPNESS, INFLEXION, LAYERS)
def test_areas_are_the_integrals(name: str, k: float, x: float, layers: int) -> None:
    function, area = CURVES[name]
    measured = integral_of(function, k, x, layers)
    assert area(k, x, layers) >= -1e-9
    assert area(k, x, layers) == pytest.approx(measured, rel=1e-4, abs=1e-3)


@FUZZ
@given(NAMES, st.floats(0, 0.5), st.floats(0, 40), LAYERS, st.floats(0.01, 1))
def test_the_renormalised_curve_has_the_area_of_the_budget(name: str, k: float, x: float, layers: int, share: float) -> None:
    integral = CURVES[name][1]
    assume(integral(k, x, layers) > 1e-3)
    curve = retention_curve(name, k, x, layers, share * layers)
    assert integral_of(lambda depth, *_: curve(depth), k, x, layers) == pytest.approx(share * layers, rel=1e-3)


@FUZZ
@given(LAYERS, COMPLEXITY)
def test_parameters_of_any_complexity_are_finite_and_ordered(layers: int, complexity: float) -> None:
    curve = CurveParameters.for_depth(layers)
    assert curve.steepness(complexity) >= 0
    assert math.isfinite(curve.inflexion(complexity))
    assert curve.steepness(complexity) >= curve.steepness(complexity + 1)
    assert curve.inflexion(complexity) >= curve.inflexion(complexity + 1)


@FUZZ
@given(NAMES, STEEPNESS, INFLEXION, LAYERS, VISUAL, st.floats(0, 1.2))
def test_a_token_schedule_spends_its_budget_exactly(name: str, k: float, x: float, layers: int, visual: int, share: float) -> None:
    total = round(share * visual * layers)
    shape = shape_of(name, k, x, layers)
    assume(shape.max() > 0)
    low, high = visual + layers - 1, visual * layers
    if not low <= total <= high:
        with pytest.raises(SennaPruneError, match="nearest possible"):
            solve_tokens(shape, visual, total)
        return
    schedule = solve_tokens(shape, visual, total)
    assert visual + sum(schedule) == total
    assert all(1 <= count <= visual for count in schedule)
    assert all(later <= earlier for earlier, later in zip(schedule, schedule[1:], strict=False))


@FUZZ
@given(NAMES, STEEPNESS, INFLEXION, LAYERS, VISUAL, st.integers(0, 500), st.floats(0.001, 1))
def test_a_flops_schedule_never_exceeds_its_budget(
    name: str, k: float, x: float, layers: int, visual: int, text: int, share: float
) -> None:
    cost = LayerCost(hidden=64, query_width=64, key_width=32, mlp=128)
    shape = shape_of(name, k, x, layers)
    assume(shape.max() > 0)
    try:
        schedule = solve_flops(shape, visual, text, share, cost)
    except SennaPruneError as error:
        assert "nearest possible" in str(error)
        return
    spent = cost(visual + text) + sum(cost(count + text) for count in schedule)
    assert spent <= share * layers * cost(visual + text) * (1 + 1e-9)
    assert all(1 <= count <= visual for count in schedule)
    assert all(later <= earlier for earlier, later in zip(schedule, schedule[1:], strict=False))


ANY = st.one_of(st.none(), st.booleans(), st.integers(-10, 10**6), st.floats(), st.text(max_size=3))


@FUZZ
@given(st.dictionaries(st.sampled_from(("retention", "tokens", "tokens_per_view", "flops")), ANY, max_size=2), VISUAL, st.integers(0, 8))
def test_a_budget_is_refused_or_within_the_prompt(given_: dict[str, float], visual: int, views: int) -> None:
    try:
        budget = Budget(**given_)
        if budget.flops is not None:
            return
        average = budget.average_tokens(visual, views)
    except SennaPruneError as error:
        assert "budget" in str(error)
    else:
        assert 0 < average <= visual
