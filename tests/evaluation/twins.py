"""Slow, obvious versions of the measures: one loop a definition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import comb

import numpy as np

from senna_autoprune.evaluation.measures.parsing import PATHS, SPEEDS, Plan


def macro_f1_by_counting(labels: Sequence[Plan], answers: Sequence[Plan]) -> float | None:
    """Mean over those of the nine meta-actions that occur of 2PR / (P + R), each from its own counts."""
    scores = []
    for axis, classes in (("speed", SPEEDS), ("path", PATHS)):
        for name in classes:
            true = [getattr(p, axis) == name for p in labels]
            said = [getattr(p, axis) == name for p in answers]
            if not any(true) and not any(said):
                continue
            tp = sum(t and s for t, s in zip(true, said, strict=True))
            precision = tp / sum(said) if any(said) else 0.0
            recall = tp / sum(true) if any(true) else 0.0
            scores.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    return sum(scores) / len(scores) if scores else None


def drawn_times(scenes: int, resamples: int, seed: int) -> np.ndarray:
    """(B, S) how often each scene is drawn: S draws with replacement from a seeded generator."""
    times = np.zeros((resamples, scenes), dtype=int)
    for row, drawn in zip(times, np.random.default_rng(seed).integers(0, scenes, (resamples, scenes)), strict=True):
        for scene in drawn:
            row[scene] += 1
    return times


def bootstrap_by_loops(
    scenes: Sequence[str],
    draws: np.ndarray,
    value: Callable[[list[int]], float | None],
    level: float = 0.95,
) -> tuple[float | None, float | None, int]:
    """(low, high, undefined) where ``draws`` (B, S) says how often each scene (by first appearance) is taken.

    ``value`` takes the question indices of a resample, repeated as often as their scene was drawn.
    """
    names = list(dict.fromkeys(scenes))
    values = []
    undefined = 0
    for row in draws:
        taken: list[int] = []
        for name, times in zip(names, row, strict=True):
            for _ in range(int(times)):
                taken += [i for i, scene in enumerate(scenes) if scene == name]
        result = value(taken)
        if result is None:
            undefined += 1
        else:
            values.append(result)
    if not values:
        return None, None, undefined
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high), undefined


def mcnemar_by_summing(lost: int, gained: int) -> float:
    """Two-sided exact binomial p at 1/2: both tails from the smaller count, at most 1."""
    total = lost + gained
    tail = sum(comb(total, i) for i in range(min(lost, gained) + 1)) / 2**total
    return min(1.0, 2 * tail)
