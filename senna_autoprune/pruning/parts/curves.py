"""Complexity -> the shape of retention over depth, with areas in closed form (paper eq. 5-8).

A curve is a function f(l) on [0, L] with values in (0, 1]; only its *shape* matters, the budget decides its height.
Every curve takes the same two numbers: steepness ``k`` >= 0 (1/layer) and inflexion ``x`` (layer).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

REFERENCE_DEPTH = 32  # the depth for which the paper states k0, gamma and x0


@dataclass(frozen=True)
class CurveParameters:
    """Eq. 8's constants for one decoder depth: ``k = max(k0 - gamma I, 0)``, ``x = x0 + beta (k0/gamma - I)``."""

    k0: float
    gamma: float
    x0: float
    beta: float

    @classmethod
    def for_depth(
        cls,
        layers: int,
        k0: float | None = None,
        gamma: float | None = None,
        x0: float | None = None,
        beta: float | None = None,
    ) -> CurveParameters:
        """The paper's defaults (0.4, 0.2, 14.9 at 32 layers) scaled to ``layers``; what is given is used as it is.

        k is a rate per layer, so it scales with 32/L; x0 is a depth, so it scales with L/32; beta defaults to gamma
        (spec autoprune.md, paper step 2).
        """
        scale = REFERENCE_DEPTH / layers
        gamma = 0.2 * scale if gamma is None else gamma
        return cls(
            k0=0.4 * scale if k0 is None else k0,
            gamma=gamma,
            x0=14.9 / scale if x0 is None else x0,
            beta=gamma if beta is None else beta,
        )

    def steepness(self, complexity: float) -> float:
        """k of eq. 8, clamped at 0 where a very complex question would turn the curve upside down."""
        return max(self.k0 - self.gamma * complexity, 0.0)

    def inflexion(self, complexity: float) -> float:
        """x of eq. 8 with the sign that the paper's text and Fig. 2 have: a small I means a *later* drop."""
        reference = self.k0 / self.gamma if self.gamma else 0.0  # where k reaches 0
        return self.x0 + self.beta * (reference - complexity)


def logistic(depth: np.ndarray, k: float, x: float, layers: int) -> np.ndarray:
    """f(l) = 1 / (1 + exp(k (l - x))), eq. 5 without its amplitude."""
    return 1.0 / (1.0 + np.exp(np.clip(k * (np.asarray(depth, dtype=float) - x), -700, 700)))


def logistic_area(k: float, x: float, layers: int) -> float:
    """Integral of the logistic over [0, L], eq. 6: L - [softplus(k (L - x)) - softplus(-k x)] / k; L/2 at k = 0."""
    if k * layers < 1e-9:  # the difference of softplus loses all digits; the curve is flat to that precision
        return layers * float(logistic(np.array(layers / 2), k, x, layers))
    return layers - (_softplus(k * (layers - x)) - _softplus(-k * x)) / k


def tanh(depth: np.ndarray, k: float, x: float, layers: int) -> np.ndarray:
    """f(l) = (1 - tanh(k (l - x))) / 2: a logistic of twice the steepness."""
    return logistic(depth, 2 * k, x, layers)


def tanh_area(k: float, x: float, layers: int) -> float:
    """Integral of the tanh curve over [0, L]."""
    return logistic_area(2 * k, x, layers)


def linear(depth: np.ndarray, k: float, x: float, layers: int) -> np.ndarray:
    """f(l) = 1/2 - k/4 (l - x), cut to [0, 1]: the logistic's tangent at its midpoint, so k sets the slope."""
    return np.clip(0.5 - k / 4 * (np.asarray(depth, dtype=float) - x), 0.0, 1.0)


def linear_area(k: float, x: float, layers: int) -> float:
    """Integral of the cut line over [0, L]: a plateau of ones, a trapezium, a plateau of zeros."""
    if k == 0:
        return layers / 2
    top, bottom = x - 2 / k, x + 2 / k  # where the line meets one and zero
    start, end = min(max(top, 0.0), layers), min(max(bottom, 0.0), layers)
    slope = 0.5 * (end - start) - k / 8 * ((end - x) ** 2 - (start - x) ** 2)
    return start + slope


def exponential(depth: np.ndarray, k: float, x: float, layers: int) -> np.ndarray:
    """f(l) = exp(-k l): the decay rate is k, there is no inflexion."""
    return np.exp(-k * np.asarray(depth, dtype=float))


def exponential_area(k: float, x: float, layers: int) -> float:
    """Integral of the exponential over [0, L]: (1 - exp(-k L)) / k; L at k = 0."""
    return -math.expm1(-k * layers) / k if k > 0 else float(layers)


CurveFunction = Callable[[np.ndarray, float, float, int], np.ndarray]
AreaFunction = Callable[[float, float, int], float]
CURVES: dict[str, tuple[CurveFunction, AreaFunction]] = {
    "logistic": (logistic, logistic_area),
    "tanh": (tanh, tanh_area),
    "linear": (linear, linear_area),
    "exponential": (exponential, exponential_area),
}


def retention_curve(name: str, k: float, x: float, layers: int, area: float) -> Callable[[np.ndarray], np.ndarray]:
    """The curve ``name`` renormalised so that its integral over [0, L] is ``area`` token-layers (eq. 7).

    Raises:
        ValueError: if the name is unknown.
    """
    if name not in CURVES:
        raise ValueError(f"unknown curve {name!r}: choose one of {', '.join(CURVES)}")
    shape, integral = CURVES[name]
    height = area / max(integral(k, x, layers), 1e-12)
    return lambda depth: height * shape(depth, k, x, layers)


def _softplus(value: float) -> float:
    return max(value, 0.0) + math.log1p(math.exp(-abs(value)))
