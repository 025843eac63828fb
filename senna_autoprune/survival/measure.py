"""Survival of evidence per layer, and its means over objects against chance.

survival of an object at layer l = (weight of its tokens that enter l) / (weight of all its tokens)
chance = (tokens that enter l) / (visual tokens)

Chance is exact for a random choice of as many tokens, whatever the weights; so the random control must lie on it. Merged tokens count for
neither: a mixture of dropped tokens has no place. Objects count alike, however large. Intervals: percentile bootstrap over scenes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from senna_autoprune.evaluation.measures.clusters import by_cluster
from senna_autoprune.evaluation.measures.retention import bootstrap, mean_measure

Array = NDArray[Any]
RESAMPLES = 1000


@dataclass(frozen=True)
class ObjectSurvival:
    """One object of one question under one setting. survival, chance: (L,) shares, by decoder layer."""

    setting: str
    question: int
    scene: str
    name: str
    band: str
    view: str
    survival: Array
    chance: Array
    flipped: bool | None = None
    decides_plan: bool | None = None


def survival_of(weights: Array, kept: Sequence[Array]) -> tuple[Array, Array]:
    """(n, L) survival of n objects, NaN for one that no token shows, and (L,) chance.

    Args:
        weights: (n, V) how much of each visual token shows each object.
        kept: per layer, the indices of the tokens that enter it unmerged (``PromptTrace.kept``).
    """
    entered = np.zeros((len(kept), weights.shape[1]))
    for layer, ids in enumerate(kept):
        entered[layer, np.asarray(ids, dtype=np.int64)] = 1
    whole = weights.sum(1, keepdims=True)  # (n, 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(whole > 0, weights @ entered.T / whole, np.nan), entered.mean(1)


def summary(rows: Sequence[ObjectSurvival], seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Means of some objects of one setting.

    Returns:
        ``objects``, ``scenes``; ``by_layer``: {"survival": (L,), "chance": (L,)}; ``mean`` and ``chance`` over layers; ``gain`` (their
        difference) with ``low`` and ``high`` over scenes (None where there is one only, or all are alike); ``lost``: share of objects of
        which less than a tenth is left in the last layer.
    """
    survival, chance = np.stack([row.survival for row in rows]), np.stack([row.chance for row in rows])  # (n, L)
    gain = (survival - chance).mean(1)
    sums = by_cluster(np.stack([gain, np.ones(len(gain))], 1), [row.scene for row in rows])  # (S, 2)
    found = bootstrap([sums], mean_measure, resamples, seed)
    return {
        "objects": len(rows),
        "scenes": len(sums),
        "by_layer": {"survival": survival.mean(0).tolist(), "chance": chance.mean(0).tolist()},
        "mean": float(survival.mean()),
        "chance": float(chance.mean()),
        "gain": {"value": float(gain.mean()), "low": found.low, "high": found.high},
        "lost": float((survival[:, -1] < 0.1).mean()),
    }


GROUPS: dict[str, Callable[[ObjectSurvival], str | None]] = {
    "class": lambda row: row.name,
    "distance": lambda row: row.band,
    "view": lambda row: row.view,
    "role": lambda row: None if row.decides_plan is None else ("decides the plan" if row.decides_plan else "does not"),
    "flipped": lambda row: None if row.flipped is None else ("flipped" if row.flipped else "same answer"),
}


def measures(rows: Iterable[ObjectSurvival], seed: int = 0, resamples: int = RESAMPLES) -> dict[str, Any]:
    """By setting: ``all`` and, for each of ``GROUPS``, its values, as ``summary`` makes them."""
    by_setting: dict[str, list[ObjectSurvival]] = {}
    for row in rows:
        by_setting.setdefault(row.setting, []).append(row)
    found: dict[str, Any] = {}
    for setting, mine in by_setting.items():
        found[setting] = {"all": summary(mine, seed, resamples)}
        for name, key in GROUPS.items():
            values = sorted({value for row in mine if (value := key(row)) is not None})
            found[setting][name] = {v: summary([row for row in mine if key(row) == v], seed, resamples) for v in values}
    return found
