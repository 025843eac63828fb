"""Which questions belong together: the one partition that every interval and test of the project uses.

Keyframes of one scene are 0.5 s apart and share road, weather and traffic, so they are wrong together. A scene is the unit
that is resampled, sign-flipped and counted; where it is unknown each sample is a cluster of its own, and the run says so.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
FEW_SCENES = 40  # below this the intervals were not simulated: a warning stands beside every figure
NO_VERDICT = 10  # below this no verdict is given


class InScene(Protocol):
    """What has a scene: a question of a run."""

    @property
    def scene(self) -> str: ...


def cluster_of(question: InScene) -> str:
    """The cluster of a question: its scene."""
    return question.scene


def clusters_of(questions: Iterable[InScene]) -> list[str]:
    """``cluster_of`` each question, in order."""
    return [cluster_of(question) for question in questions]


def by_cluster(rows: Array, clusters: Sequence[Hashable]) -> Array:
    """Sums of per-question statistics (Q, D) or (Q,) within each cluster -> (S, D) or (S,), clusters in order of first
    appearance.

    Raises:
        ValueError: not one cluster a row.
    """
    if len(rows) != len(clusters):
        raise ValueError(f"{len(rows)} rows, {len(clusters)} clusters")
    order = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    sums = np.zeros((len(order), *rows.shape[1:]), dtype=np.float64)
    np.add.at(sums, [order[cluster] for cluster in clusters], rows)
    return sums


def scene_warning(scenes: int) -> str | None:
    """What must be said beside figures over so few scenes; None where there are enough."""
    if scenes < NO_VERDICT:
        return f"{scenes} scenes: too few for a verdict ({NO_VERDICT} are needed, {FEW_SCENES} for intervals that were checked)"
    if scenes < FEW_SCENES:
        return f"{scenes} scenes: fewer than {FEW_SCENES}, so the intervals are rougher than they look"
    return None
