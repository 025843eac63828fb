"""Alpha-spending bounds against published tables and against simulated tests."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from senna_autoprune.evaluation.measures.sequential import conditional_power, obrien_fleming, pocock, spending_bounds

FIFTHS = [0.2, 0.4, 0.6, 0.8, 1.0]


def test_bounds_equal_the_published_tables() -> None:
    """Reboussin, DeMets, Kim and Lan (2000), five equal looks, one-sided 0.025: the tables of their program."""
    found = spending_bounds(FIFTHS, 0.025, obrien_fleming)
    assert found == pytest.approx([4.8769, 3.3569, 2.6803, 2.2898, 2.0310], abs=2e-4)
    found = spending_bounds(FIFTHS, 0.025, pocock)
    assert found == pytest.approx([2.4380, 2.4268, 2.4101, 2.3966, 2.3859], abs=2e-4)


def test_one_look_is_the_fixed_test() -> None:
    assert spending_bounds([1.0], 0.05) == pytest.approx([norm.isf(0.05)], abs=1e-9)


def test_bounds_hold_their_level_in_simulated_tests() -> None:
    """200,000 Brownian paths: the share that crosses any bound is alpha, whatever the looks' spacing."""
    shares = np.array([0.3, 0.5, 0.9, 1.0])
    bounds = np.array(spending_bounds(list(shares), 0.05))
    rng = np.random.default_rng(1)
    steps = rng.normal(size=(200_000, 4)) * np.sqrt(np.diff(shares, prepend=0.0))
    z = np.cumsum(steps, axis=1) / np.sqrt(shares)
    assert (z >= bounds).any(axis=1).mean() == pytest.approx(0.05, abs=0.002)
    fixed = (z >= norm.isf(0.05)).any(axis=1).mean()
    assert fixed > 0.09  # what looking without bounds would cost


@pytest.mark.parametrize("shares", [[], [0.5, 0.5], [0.6, 0.4], [0.0, 1.0], [0.5, 1.2]])
def test_looks_must_ascend(shares: list[float]) -> None:
    with pytest.raises(ValueError, match="ascend"):
        spending_bounds(shares, 0.05)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.2])
def test_alpha_is_a_small_share(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha"):
        spending_bounds([0.5, 1.0], alpha)


def test_conditional_power_equals_simulated_continuations() -> None:
    z, share, bound = 0.4, 0.4, 1.65
    rng = np.random.default_rng(2)
    drift = z * np.sqrt(share) / share
    last = z * np.sqrt(share) + drift * (1 - share) + rng.normal(size=200_000) * np.sqrt(1 - share)
    assert conditional_power(z, share, bound) == pytest.approx((last >= bound).mean(), abs=0.004)
    assert conditional_power(1.65, 1.0, 1.65) == 1.0 and obrien_fleming(0.05, 0.0) == 0.0
    assert (conditional_power(1.7, 1.0, 1.65), conditional_power(1.6, 1.0, 1.65)) == (1.0, 0.0)
