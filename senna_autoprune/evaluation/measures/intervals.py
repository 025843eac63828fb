"""Intervals of shares, of their differences and of their ratios, over questions that come in scenes.

A percentile bootstrap over scenes covers as little as 81 % where a point is lost, and prints [100, 100] where nothing flipped.
Score intervals ask of every possible value whether the data could come from it, so zero flips still leave a bound:

- a share: Wilson (1927); - a paired difference: Tango (1998); - a paired ratio: Nam and Blackwelder (2002).

They are made for independent questions; dividing their counts by the *design effect* (variance of the scenes' sums over the
variance that independent questions would have) makes room for scenes whose questions err together. It is estimated, never
below 1, pulled towards what a within-scene correlation of 0.1 would give while few scenes hold any flip, and Student's t stands
for z. Coverage by simulation: tools/maintain/simulate.py, docs/results/statistics.md.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from senna_autoprune.evaluation.measures.clusters import by_cluster

Array = NDArray[Any]
Hits = Sequence[bool] | NDArray[np.bool_]  # right or wrong, question by question
LEVEL = 0.95


class Prior(NamedTuple):
    """What is believed of the correlation within a scene while few scenes tell: ``scenes`` with a flip weigh as much."""

    correlation: float
    scenes: float


USUAL = Prior(0.1, 2.0)  # of intervals: chosen so that they cover 93 to 97 % where they promise 95
CAUTIOUS = Prior(0.2, 12.0)  # of claims of safety: errs on the side of "not shown"; with 3 scenes 6.8 % were wrongly called safe


@dataclass(frozen=True)
class Bounds:
    """A value with its interval, as shares; None where undefined. ``design_effect``: what the counts were divided by."""

    value: float | None
    low: float | None
    high: float | None
    scenes: int
    design_effect: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Paired:
    """Paired right-or-wrong answers, counted by scene: arrays (S,).

    both: right before and after; lost: right only before; gained: right only after; count: questions.
    """

    both: Array
    lost: Array
    gained: Array
    count: Array

    @classmethod
    def of(cls, before: Hits, after: Hits, clusters: Sequence[Hashable]) -> Paired:
        """ValueError: sequences of different lengths."""
        if not len(before) == len(after) == len(clusters):
            raise ValueError(f"{len(before)} answers before, {len(after)} after, {len(clusters)} clusters")
        u, p = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
        rows = np.stack([u & p, u & ~p, ~u & p, np.ones(len(u), dtype=bool)], axis=1).reshape(-1, 4)
        return cls(*by_cluster(rows.astype(np.float64), clusters).T)

    @property
    def scenes(self) -> int:
        return len(self.count)

    @property
    def questions(self) -> float:
        return float(self.count.sum())

    def take(self, scenes: Array) -> Paired:
        """Only these scenes (indices or a mask)."""
        return Paired(self.both[scenes], self.lost[scenes], self.gained[scenes], self.count[scenes])

    @property
    def reversed(self) -> Paired:
        """Before and after exchanged."""
        return Paired(self.both, self.gained, self.lost, self.count)

    @property
    def gap(self) -> Array:
        """(S,) after - before."""
        return self.gained - self.lost

    @property
    def difference(self) -> float:
        """Share right after minus share right before."""
        return float(self.gap.sum()) / self.questions

    @property
    def changed(self) -> float:
        """Share of questions that are right on one side alone."""
        return float(self.lost.sum() + self.gained.sum()) / self.questions

    def test(self, margin: float, alpha: float, level: float) -> tuple[float, float]:
        """Tango's score of "after - before <= -margin", and the one-sided bound of after - before at 1 - ``level``.

        Args:
            alpha: of the whole test: what the (cautious) design effect is made for; ``level``: of this look at it.
        """
        effect = difference_effect(self, 1 - alpha, CAUTIOUS)
        lost, gained = float(self.lost.sum()) / effect, float(self.gained.sum()) / effect

        def score(difference: float) -> float:
            return difference_score(lost, gained, self.questions / effect, difference)

        return score(-margin), lower_end(score, self.difference, -1.0, 1 - level)


def design_effect(sums: Array, independent: float, touched: int, count: Array, quantile: float, prior: Prior = USUAL) -> float:
    """Variance of a scene-clustered total over that of as many independent questions, >= 1.

    Args:
        sums: (S,) the scenes' sums of residuals (mean zero over the questions).
        independent: the sum over questions of squared residuals.
        touched: scenes with any event in them; the estimate rests on these.
        count: (S,) questions of each scene.
        quantile: of the one-sided level that the interval is made for: t instead of z pays for an estimated variance.
    """
    from scipy.special import ndtri, stdtrit

    scenes = len(count)
    if scenes < 2 or count.sum() == 0:
        return 1.0
    estimate = scenes / (scenes - 1) * float((sums**2).sum()) / independent if independent > 0 else 1.0
    believed = 1 + (float((count**2).sum() / count.sum()) - 1) * prior.correlation
    weight = touched / (touched + prior.scenes)
    inflation = float(stdtrit(scenes - 1, quantile) / ndtri(quantile)) ** 2
    return max(1.0, weight * estimate + (1 - weight) * believed) * inflation


def share_interval(hits: Array, count: Array, level: float = LEVEL) -> Bounds:
    """Wilson's score interval of a share over scenes. Args: (S,) hits and questions of each scene."""
    from scipy.special import ndtri

    total = float(count.sum())
    if total == 0:
        return Bounds(None, None, None, len(count))
    p, quantile = float(hits.sum()) / total, (1 + level) / 2
    touched = int(((hits > 0) & (hits < count)).sum())
    if len(count) < 2:
        return Bounds(p, None, None, len(count))
    effect = design_effect(hits - p * count, total * p * (1 - p), touched, count, quantile)
    n, z = total / effect, float(ndtri(quantile))
    middle, half = (p + z * z / (2 * n)) / (1 + z * z / n), z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Bounds(p, max(middle - half, 0.0), min(middle + half, 1.0), len(count), effect)


def difference_score(lost: float, gained: float, n: float, difference: float) -> float:
    """Tango's score statistic of "after - before = difference": (gained - lost - n d) over its standard error under that."""
    a = 2 * n
    b = -gained - lost + (2 * n - gained + lost) * difference
    c = -lost * difference * (1 - difference)
    discordant = (sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)  # restricted estimate of P(lost)
    variance = n * (2 * discordant + difference * (1 - difference))
    distance = gained - lost - n * difference
    if variance <= 1e-12:
        return 0.0 if abs(distance) < 1e-12 else float(np.copysign(np.inf, distance))
    return distance / sqrt(variance)


def difference_effect(pairs: Paired, quantile: float, prior: Prior = USUAL) -> float:
    """Design effect of after - before."""
    total, d = pairs.questions, pairs.gained - pairs.lost
    mean = float(d.sum()) / total
    events = float((pairs.lost + pairs.gained).sum())
    touched = int(((pairs.lost + pairs.gained) > 0).sum())
    return design_effect(d - mean * pairs.count, events - total * mean * mean, touched, pairs.count, quantile, prior)


def difference_interval(pairs: Paired, level: float = LEVEL) -> Bounds:
    """Share right after minus share right before, with Tango's interval at the design effect; in (-1, 1)."""
    total = pairs.questions
    if total == 0:
        return Bounds(None, None, None, pairs.scenes)
    lost, gained = float(pairs.lost.sum()), float(pairs.gained.sum())
    value, quantile = (gained - lost) / total, (1 + level) / 2
    if pairs.scenes < 2:
        return Bounds(value, None, None, pairs.scenes)
    effect = difference_effect(pairs, quantile)
    low, high = _invert(lambda d: difference_score(lost / effect, gained / effect, total / effect, d), value, (-1.0, 1.0), quantile)
    return Bounds(value, low, high, pairs.scenes, effect)


def ratio_score(both: float, lost: float, gained: float, n: float, ratio: float) -> float:
    """Nam and Blackwelder's score statistic of "after / before = ratio", with their closed restricted estimate."""
    after, before = (both + gained) / n, (both + lost) / n
    only_after, only_before, neither = gained / n, lost / n, 1 - (both + lost + gained) / n
    root = sqrt(max((after - ratio**2 * before) ** 2 + 4 * ratio**2 * only_after * only_before, 0.0))
    p10 = (-after + ratio**2 * (before + 2 * only_after) + root) / (2 * ratio * (ratio + 1))
    p01 = ratio * p10 - (ratio - 1) * (1 - neither)
    variance, distance = ratio * max(p10 + p01, 0.0) / n, after - ratio * before
    if variance <= 1e-15:
        return 0.0 if abs(distance) < 1e-12 else float(np.copysign(np.inf, distance))
    return distance / sqrt(variance)


def ratio_interval(pairs: Paired, level: float = LEVEL) -> Bounds:
    """Right after / right before (retention of accuracy) with its interval; undefined where nothing was right before."""
    both, lost, gained = (float(one.sum()) for one in (pairs.both, pairs.lost, pairs.gained))
    if both + lost == 0:
        return Bounds(None, None, None, pairs.scenes)
    value, quantile = (both + gained) / (both + lost), (1 + level) / 2
    if pairs.scenes < 2:
        return Bounds(value, None, None, pairs.scenes)
    residuals = pairs.both + pairs.gained - value * (pairs.both + pairs.lost)  # (S,)
    independent = gained + value**2 * lost + (1 - value) ** 2 * both
    touched = int(((pairs.lost + pairs.gained) > 0).sum())
    effect = design_effect(residuals, independent, touched, pairs.count, quantile)
    counts = (both / effect, lost / effect, gained / effect, pairs.questions / effect)
    low, high = _invert(lambda r: ratio_score(*counts, r), value, (1e-9, 1 + 40 * (value + 1)), quantile)
    return Bounds(value, low, high, pairs.scenes, effect)


def lower_end(score: Callable[[float], float], value: float, lowest: float, quantile: float) -> float:
    """Where a falling score statistic passes z(quantile), between ``lowest`` and ``value``."""
    from scipy.special import ndtri

    return _crossing(score, float(ndtri(quantile)), value, lowest)


def _invert(score: Callable[[float], float], value: float, span: tuple[float, float], quantile: float) -> tuple[float, float]:
    """Both ends of the interval, within ``span``."""
    from scipy.special import ndtri

    inside, z = min(max(value, span[0]), span[1]), float(ndtri(quantile))
    return _crossing(score, z, inside, span[0]), _crossing(score, -z, inside, span[1])


def _crossing(score: Callable[[float], float], target: float, inner: float, outer: float) -> float:
    from scipy.optimize import brentq

    def gap(x: float) -> float:
        return float(np.clip(score(x), -1e6, 1e6)) - target

    return outer if gap(outer) * gap(inner) > 0 else float(brentq(gap, inner, outer, xtol=1e-9))


def scenes_upper(hit: int, scenes: int, level: float = LEVEL) -> float | None:
    """Exact one-sided upper bound (Clopper and Pearson) of the share of scenes in which something happens, from ``hit`` of
    ``scenes``; 0 of 67 is at most 4.4 %. None of no scenes.
    """
    from scipy.special import betaincinv

    if scenes == 0:
        return None
    return 1.0 if hit >= scenes else float(betaincinv(hit + 1, scenes - hit, level))


def mean_interval(sums: Array, count: Array, level: float = LEVEL) -> Bounds:
    """Student's t interval of a mean over questions with the scenes' variance: for distances, not for shares."""
    from scipy.special import stdtrit

    total, scenes = float(count.sum()), len(count)
    if total == 0:
        return Bounds(None, None, None, scenes)
    mean = float(sums.sum()) / total
    if scenes < 2:
        return Bounds(mean, None, None, scenes)
    error = sqrt(scenes / (scenes - 1) * float(((sums - mean * count) ** 2).sum())) / total
    half = float(stdtrit(scenes - 1, (1 + level) / 2)) * error
    return Bounds(mean, mean - half, mean + half, scenes)
