"""Paired distances over questions that come in scenes: is a pruned plan further from the truth, and by how many metres at most?

A distance has no largest value, and most questions of a pruned model change nothing: a t test of their mean takes "nothing
happened in 40 scenes" for certainty. So it is made as if one more scene had lost ``event`` metres, and three more had changed by
that much, ``event`` being what the model changes when it sees nothing at all. With no change seen in S scenes the bound then is
3.9 events / S, and with k scenes that lost one it lies on the exact Poisson bound (k = 1: 5.3 for 4.7; 5: 10.7 for 10.5; 20: 28.9
for 29.1): never below the rule of three.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import copysign, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from senna_autoprune.evaluation.measures.clusters import by_cluster

Array = NDArray[Any]
LOST, MOVED = 1.0, 3.0  # scenes with an event that are thought to the ones seen
_HIGHEST = 12.0  # of z: what nothing crosses


@dataclass(frozen=True)
class Gains:
    """Paired distances, counted by scene: arrays (S,).

    gain: metres by which "after" is nearer to the truth than "before", summed over the scene's questions (negative: worse).
    moved: the same without signs; count: questions. event: metres, see above.
    """

    gain: Array
    moved: Array
    count: Array
    event: float = 0.0

    @classmethod
    def of(cls, before: Sequence[float], after: Sequence[float], clusters: Sequence[Hashable], event: float = 0.0) -> Gains:
        """A question without a distance on one side (NaN) counts for nothing, its scene still is a scene.

        Raises:
            ValueError: sequences of different lengths.
        """
        if not len(before) == len(after) == len(clusters):
            raise ValueError(f"{len(before)} distances before, {len(after)} after, {len(clusters)} clusters")
        gap = np.asarray(before, dtype=float) - np.asarray(after, dtype=float)
        known = np.isfinite(gap)
        gap = np.where(known, gap, 0.0)
        rows = np.stack([gap, np.abs(gap), known.astype(float)], axis=1).reshape(-1, 3)
        gain, moved, count = by_cluster(rows, clusters).T
        return cls(gain, moved, count, event)

    @property
    def scenes(self) -> int:
        return len(self.count)

    @property
    def questions(self) -> float:
        return float(self.count.sum())

    def take(self, scenes: Array) -> Gains:
        """Only these scenes (indices or a mask)."""
        return Gains(self.gain[scenes], self.moved[scenes], self.count[scenes], self.event)

    @property
    def reversed(self) -> Gains:
        """Before and after exchanged."""
        return Gains(-self.gain, self.moved, self.count, self.event)

    @property
    def gap(self) -> Array:
        """(S,) metres gained."""
        return self.gain

    @property
    def difference(self) -> float:
        """Mean metres gained; negative: worse."""
        return float(self.gain.sum()) / self.questions

    @property
    def changed(self) -> float:
        """Mean metres that a distance changed by, whichever way."""
        return float(self.moved.sum()) / self.questions

    @property
    def typical(self) -> float:
        """Root mean square over scenes of their mean change: what one event is."""
        means = self.gain[self.count > 0] / self.count[self.count > 0]
        return sqrt(float((means**2).mean())) if len(means) else 0.0

    def spread(self) -> float:
        """Standard deviation of a scene's part in the mean gain, the thought scenes in: the standard error is this over sqrt(S)."""
        residuals = self.gain - self.difference * self.count
        each = self.questions / self.scenes
        total = float((residuals**2).sum()) + MOVED * (self.event * each) ** 2
        return sqrt(total / (self.scenes - 1)) / each if self.scenes > 1 else 0.0

    def test(self, margin: float, alpha: float, level: float) -> tuple[float, float]:
        """Student's t of "gain <= -margin" as a normal z, and the one-sided bound of the gain at 1 - ``level``.

        Args:
            alpha: of the whole test; not needed here. level: of this look at it.
        """
        from scipy.special import ndtri, stdtr, stdtrit

        error, middle = self.spread() / sqrt(self.scenes), self.difference - LOST * self.event / self.scenes
        if self.scenes < 2 or error == 0:
            distance = middle + margin
            return (copysign(_HIGHEST, distance) if distance else 0.0), middle
        z = float(ndtri(stdtr(self.scenes - 1, (middle + margin) / error)))
        return min(max(z, -_HIGHEST), _HIGHEST), middle - float(stdtrit(self.scenes - 1, 1 - level)) * error

    def scenes_needed(self, margin: float, level: float, power: float) -> float:
        """Scenes that show "not worse by more than the margin" with this power, if what was observed is the truth; inf: no number."""
        from math import inf

        from scipy.special import ndtri

        room = margin + min(self.difference, 0.0)
        if room <= 0:
            return inf
        z = float(ndtri(power) - ndtri(level))
        return max((z * self.spread() / room) ** 2, (LOST + sqrt(MOVED) * -float(ndtri(level))) * self.event / room)
