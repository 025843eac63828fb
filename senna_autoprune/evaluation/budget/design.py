"""What is fixed before any pruned answer exists: which scenes choose, which certify, in which order, and when is looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from senna_autoprune.evaluation.measures.clusters import NO_VERDICT


@dataclass(frozen=True)
class Design:
    """choose, certify: scenes of the two halves, the second in the order in which they are asked.

    stops: how many of ``certify`` have been asked at each look, ascending; the last is all.
    """

    choose: tuple[str, ...]
    certify: tuple[str, ...]
    stops: tuple[int, ...]

    def upto(self, look: int) -> tuple[str, ...]:
        """Scenes asked by a look (from 0)."""
        return self.certify[: self.stops[look]]


def design(scenes: Sequence[str], seed: int, choose_share: float = 0.5, looks: int = 3) -> Design:
    """Split distinct scenes by seed and place the looks: equal blocks, each of at least ``NO_VERDICT`` scenes."""
    names = sorted(set(scenes))
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    cut = int(len(order) * choose_share)
    certify = order[cut:]
    blocks = max(1, min(looks, len(certify) // NO_VERDICT))
    stops = [round(len(certify) * (block + 1) / blocks) for block in range(blocks)]
    return Design(tuple(order[:cut]), tuple(certify), tuple(stops))
