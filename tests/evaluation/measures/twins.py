"""Slow, obvious versions of the intervals and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import log, sqrt

import numpy as np
from scipy.optimize import minimize
from scipy.stats import norm, t


def restricted_score(both: float, lost: float, gained: float, n: float, null: float, kind: str) -> float:
    """Score statistic of a paired difference or ratio: the likelihood maximised numerically under the hypothesis."""
    cells = (both, gained, lost, n - both - gained - lost)

    def probabilities(free: Sequence[float]) -> tuple[float, ...]:
        p11, p01 = (1 / (1 + np.exp(-v)) for v in free)
        p10 = p01 + null if kind == "difference" else null * (p11 + p01) - p11
        return p11, p10, p01, 1 - p11 - p10 - p01

    def unlikely(free: Sequence[float]) -> float:
        p = probabilities(free)
        return 1e9 if min(p) <= 0 else -sum(count * log(chance) for count, chance in zip(cells, p, strict=True))

    options = {"xatol": 1e-9, "fatol": 1e-13, "maxiter": 4000}
    starts = product((-0.5, 0.5, 1.5), (-4, -3, -2))
    best = min((minimize(unlikely, start, method="Nelder-Mead", options=options) for start in starts), key=lambda found: found.fun)
    _, p10, p01, _ = probabilities(best.x)
    if kind == "difference":
        return ((gained - lost) / n - null) / sqrt((p10 + p01 - null**2) / n)
    return ((both + gained) / n - null * (both + lost) / n) / sqrt(null * (p10 + p01) / n)


def design_effect_by_questions(residuals: Mapping[str, Sequence[float]], quantile: float, correlation: float, trust: float) -> float:
    """Scene -> its questions' residuals: question by question, with t in place of z."""
    scenes, questions = len(residuals), sum(map(len, residuals.values()))
    touched = sum(any(abs(r) > 1e-12 for r in found) for found in residuals.values())
    squares = sum(r * r for found in residuals.values() for r in found)
    seen = scenes / (scenes - 1) * sum(sum(found) ** 2 for found in residuals.values()) / squares
    mean_size = sum(len(found) ** 2 for found in residuals.values()) / questions
    weight = touched / (touched + trust)
    mixed = weight * seen + (1 - weight) * (1 + (mean_size - 1) * correlation)
    return float(max(1.0, mixed) * (t.ppf(quantile, scenes - 1) / norm.ppf(quantile)) ** 2)


def sign_flip_by_listing(differences: Sequence[float]) -> float:
    """All 2^S sign patterns, one by one."""
    seen = abs(sum(differences))
    flipped = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in product((-1, 1), repeat=len(differences))]
    return sum(value >= seen - 1e-9 for value in flipped) / len(flipped)


def holm_by_steps(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which hypotheses Holm's procedure rejects, step by step."""
    order, rejected = sorted(range(len(p_values)), key=lambda i: p_values[i]), [False] * len(p_values)
    for step, index in enumerate(order):
        if p_values[index] > alpha / (len(p_values) - step):
            break
        rejected[index] = True
    return rejected
