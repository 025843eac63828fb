"""Retention curves: areas in closed form, renormalised, monotone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from senna_autoprune.pruning.parts.curves import CURVES, CurveParameters, retention_curve


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("k", [0.0, 1e-12, 1e-3, 0.2, 0.4, 2.0, 30.0])
@pytest.mark.parametrize("x", [-4.0, 0.0, 14.9, 40.0])
def test_closed_form_area_is_the_integral(name, k, x):
    shape, area = CURVES[name]
    numeric = quad(lambda depth: float(shape(np.array(depth), k, x, 32)), 0, 32, points=sorted({min(max(x, 0.0), 32.0), 0.1}), limit=400)[0]
    assert area(k, x, 32) == pytest.approx(numeric, abs=1e-6)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(CURVES)), st.floats(0, 5), st.floats(-10, 50), st.integers(2, 40), st.floats(1, 20000))
def test_renormalised_curve_has_the_budget_as_area_and_never_rises(name, k, x, layers, area):
    if CURVES[name][1](k, x, layers) < 1e-6:
        return
    curve = retention_curve(name, k, x, layers, area)
    values = curve(np.linspace(0, layers, 20001))
    assert (np.diff(values) <= 1e-9 * values.max()).all()
    assert float(np.sum((values[1:] + values[:-1]) / 2) * layers / 20000) == pytest.approx(area, rel=1e-2)


def test_low_information_defers_the_drop_and_steepens_it():
    eq8 = CurveParameters.for_depth(32)
    assert (eq8.k0, eq8.gamma, eq8.x0, eq8.beta) == (0.4, 0.2, 14.9, 0.2)
    assert eq8.inflexion(0.1) > eq8.inflexion(1.5)
    assert eq8.steepness(0.1) > eq8.steepness(1.5) > 0 == eq8.steepness(7)
    assert eq8.inflexion(0.7) == pytest.approx(14.9 + eq8.steepness(0.7))  # the release's x0 + k
    shallow = CurveParameters.for_depth(8)
    assert (shallow.k0, shallow.gamma, shallow.x0) == pytest.approx((1.6, 0.8, 3.725))
