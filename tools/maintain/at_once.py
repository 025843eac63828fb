"""The package's statistics of paired answers for many simulated models at once: the same formulas over arrays (M, S), M models of S
scenes. ``simulate.py`` counts with these; tests hold them to the package's own functions, model by model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, ndtr, ndtri, stdtrit

from senna_autoprune.evaluation.budget.sequence import HOPELESS, Rules
from senna_autoprune.evaluation.measures.intervals import CAUTIOUS, USUAL, Prior

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Many:
    """Paired answers of many models, counted by scene: arrays (M, S), as ``intervals.Paired`` has them of one."""

    lost: Array
    gained: Array
    count: Array

    def first(self, scenes: int) -> Many:
        """The first so many scenes of each."""
        return Many(self.lost[:, :scenes], self.gained[:, :scenes], self.count[:, :scenes])

    def effects(self, quantile: float, prior: Prior) -> Array:
        """(M,) ``intervals.difference_effect``."""
        scenes, total = self.count.shape[1], self.count.sum(axis=1)
        gap, events = self.gained - self.lost, (self.lost + self.gained).sum(axis=1)
        mean = gap.sum(axis=1) / total
        independent = events - total * mean * mean
        squares = ((gap - mean[:, None] * self.count) ** 2).sum(axis=1)
        estimate = np.where(independent > 0, scenes / (scenes - 1) * squares / np.where(independent > 0, independent, 1.0), 1.0)
        believed = 1 + ((self.count**2).sum(axis=1) / total - 1) * prior.correlation
        touched = ((self.lost + self.gained) > 0).sum(axis=1)
        weight = touched / (touched + prior.scenes)
        inflation = float(stdtrit(scenes - 1, quantile) / ndtri(quantile)) ** 2
        return np.maximum(1.0, weight * estimate + (1 - weight) * believed) * inflation

    def scores(self, difference: float, quantile: float, prior: Prior) -> Array:
        """(M,) Tango's score of "after - before = difference" at the design effect: ``intervals.difference_score``."""
        effect = self.effects(quantile, prior)
        lost, gained, n = (one.sum(axis=1) / effect for one in (self.lost, self.gained, self.count))
        b = -gained - lost + (2 * n - gained + lost) * difference
        c = -lost * difference * (1 - difference)
        discordant = (np.sqrt(np.maximum(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        variance, distance = n * (2 * discordant + difference * (1 - difference)), gained - lost - n * difference
        known = variance > 1e-12
        certain = np.where(np.abs(distance) < 1e-12, 0.0, np.copysign(np.inf, distance))
        return np.where(known, distance / np.sqrt(np.where(known, variance, 1.0)), certain)


def covered(many: Many, truth: float, level: float = 0.95) -> Flags:
    """(M,) whether ``intervals.difference_interval`` holds the truth: its score there lies within z, so no end need be found."""
    quantile = (1 + level) / 2
    return np.abs(many.scores(truth, quantile, USUAL)) <= ndtri(quantile)


def covered_by_bootstrap(many: Many, truth: float, resamples: int, seed: int, level: float = 0.95) -> Flags:
    """(M,) whether the percentile bootstrap (``retention.bootstrap``) holds the truth; it has no interval where all resamples agree."""
    scenes = many.count.shape[1]
    drawn = np.random.default_rng(seed).integers(0, scenes, (resamples, scenes))  # as scipy draws
    counts = np.stack([np.bincount(row, minlength=scenes) for row in drawn])  # (B, S)
    values = (counts @ (many.gained - many.lost).T) / (counts @ many.count.T)  # (B, M)
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return (low != high) & (low <= truth) & (truth <= high)


def decide(rules: Rules, many: Many, hit: Flags) -> tuple[Flags, NDArray[np.int64]]:
    """``sequence.examine`` of one budget: (M,) whether it was called safe, and how many scenes were asked until then.

    Args:
        hit: (M, S) scenes with a newly dangerous flip.
    """
    models, last = len(hit), float(ndtr(-rules.bounds[-1]))
    accurate, harmless, going = np.zeros(models, bool), np.zeros(models, bool), np.ones(models, bool)
    safe, asked = np.zeros(models, bool), np.full(models, rules.stops[-1])
    for stop, bound in zip(rules.stops, rules.bounds, strict=True):
        z = many.first(stop).scores(-rules.margin, 1 - rules.alpha, CAUTIOUS)
        dangerous, share = hit[:, :stop].sum(axis=1), stop / rules.stops[-1]
        accurate |= z >= bound
        harmless |= bdtr(dangerous, stop, rules.safety) <= float(ndtr(-bound))
        passed = accurate & harmless
        given_up = np.zeros(models, bool)
        if share < 1:
            power = ndtr((z / np.sqrt(share) - rules.bounds[-1]) / np.sqrt(1 - share))
            given_up = (~harmless & (bdtr(dangerous, rules.stops[-1], rules.safety) > last)) | (~accurate & (power < HOPELESS))
        safe |= going & passed
        ended = going & (passed | given_up)
        asked[ended] = stop
        going &= ~ended
    return safe, asked
