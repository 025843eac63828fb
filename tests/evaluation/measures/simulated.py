"""Simulated paired answers: scenes with their own chance of losing or gaining an answer (Dirichlet-multinomial)."""

from __future__ import annotations

import numpy as np

from senna_autoprune.evaluation.measures.intervals import Paired


def scenes(
    rng: np.random.Generator, count: int, questions: float, lost: float, gained: float, correlation: float, right: float = 0.9
) -> Paired:
    """``count`` scenes with about ``questions`` questions each; correlation: of two questions of one scene."""
    sizes = np.maximum(1, rng.poisson(questions, size=count))
    chance = np.array([lost, gained, 1 - lost - gained])
    if correlation:
        parts = rng.gamma(chance * (1 - correlation) / correlation, size=(count, 3)) + 1e-300
        shares = parts / parts.sum(axis=1, keepdims=True)
    else:
        shares = np.broadcast_to(chance, (count, 3))
    drawn = rng.multinomial(sizes, shares).astype(np.float64)
    both = rng.binomial(drawn[:, 2].astype(int), right).astype(np.float64)
    return Paired(both, drawn[:, 0], drawn[:, 1], sizes.astype(np.float64))
