"""Looking at a test while its data come in: alpha-spending bounds (Lan and DeMets 1983) and conditional power.

A test that is looked at K times and rejects at the first |z| above 1.645 is wrong far more often than 5 %. The spending
function says how much of alpha may be used by each share of the information; the bound of a look is the z that spends just
that much more, given that no earlier bound was crossed. The recursion is that of Armitage, McPherson and Rowe (1969): the
density of the running sum among the tests still going, convolved with the next block's normal increment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import exp, log, pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

Spending = Callable[[float, float], float]  # (alpha, information share) -> alpha spent by then
_GRID = 801  # points of the density; the tables' four decimals need about 400
_HIGHEST = 12.0  # a bound that nothing crosses
_WIDTH = 8.0  # standard deviations of the running sum below which no density is kept


def obrien_fleming(alpha: float, share: float) -> float:
    """2 (1 - Phi(z_{alpha/2} / sqrt(t))): spends next to nothing early, so that the last bound is near the fixed one."""
    from scipy.special import ndtr, ndtri

    return 2 * float(ndtr(ndtri(alpha / 2) / sqrt(share))) if share > 0 else 0.0


def pocock(alpha: float, share: float) -> float:
    """alpha log(1 + (e - 1) t): bounds of nearly the same height at every look."""
    return alpha * log(1 + (exp(1) - 1) * share)


def spending_bounds(shares: Sequence[float], alpha: float, spending: Spending = obrien_fleming) -> list[float]:
    """One-sided upper bounds of z at looks with these shares of the information (ascending; the last is 1 if the test ends).

    Raises:
        ValueError: shares are not ascending in (0, 1], or alpha is not in (0, 1/2).
    """
    from scipy.optimize import brentq

    if not shares or any(later <= earlier for earlier, later in zip([0.0, *shares], shares, strict=False)) or shares[-1] > 1 + 1e-12:
        raise ValueError("the information shares of the looks must ascend in (0, 1]")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha = {alpha} is not in (0, 0.5)")
    bounds: list[float] = []
    points: NDArray[Any] = np.array([0.0])  # the running sum S(t) = z sqrt(t) of the tests still going
    mass: NDArray[Any] = np.array([1.0])  # their probability at each point
    before, spent = 0.0, 0.0
    for share in shares:
        step, target = sqrt(share - before), spending(alpha, share) - spent
        crossing = partial(_crossing, points=points, mass=mass, step=step, scale=sqrt(share))
        bound = _HIGHEST
        if crossing(bound) < target:
            bound = float(brentq(lambda b, f=crossing, a=target: f(b) - a, -2.0, _HIGHEST, xtol=1e-10))
        bounds.append(bound)
        spent += crossing(bound)
        edges = np.linspace(-_WIDTH * sqrt(share), bound * sqrt(share), _GRID)
        density = np.exp(-(((edges[:, None] - points[None, :]) / step) ** 2) / 2) @ mass / (step * sqrt(2 * pi))  # (grid,)
        points, mass = edges, density * _simpson(edges)
        before = share
    return bounds


def _crossing(bound: float, points: NDArray[Any], mass: NDArray[Any], step: float, scale: float) -> float:
    """The probability that a test still going passes z = ``bound`` at this look."""
    from scipy.special import ndtr

    return float(mass @ ndtr((points - bound * scale) / step))


def _simpson(points: NDArray[Any]) -> NDArray[Any]:
    """Simpson's weights of an odd number of equally spaced points."""
    weights = np.ones(len(points))
    weights[1:-1:2], weights[2:-1:2] = 4, 2
    return weights * (points[1] - points[0]) / 3


def conditional_power(z: float, share: float, bound: float) -> float:
    """The chance that the last look crosses ``bound`` if the trend so far goes on (Lan and Wittes 1988): the last z given
    B = z sqrt(t) is normal with mean B / t and variance 1 - t. 1 or 0 at the last look.
    """
    from scipy.special import ndtr

    if share >= 1:
        return float(z >= bound)
    brownian = z * sqrt(share)
    return float(ndtr((brownian / share - bound) / sqrt(1 - share)))
