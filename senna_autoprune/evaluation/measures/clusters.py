"""Which questions belong together: the one partition that every interval and test of the project uses.

Keyframes of one scene are 0.5 s apart and share road, weather and traffic, so they are wrong together. A scene is the unit
that is resampled, sign-flipped and counted; where it is unknown each sample is a cluster of its own, and the run says so.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property
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


class Clusters(list[str]):
    """The cluster of each question, which knows them as numbers, too: many measures sum by the same ones."""

    @cached_property
    def codes(self) -> tuple[NDArray[np.intp], int]:
        """(Q,) the number of each question's cluster, in order of first appearance, and how many there are."""
        return _codes(self)


def clusters_of(questions: Iterable[InScene]) -> Clusters:
    """``cluster_of`` each question, in order."""
    return Clusters(map(cluster_of, questions))


def _codes(clusters: Sequence[Hashable]) -> tuple[NDArray[np.intp], int]:
    order = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    return np.array([order[cluster] for cluster in clusters], dtype=np.intp), len(order)


def by_cluster(rows: Array, clusters: Sequence[Hashable]) -> Array:
    """Sums of per-question statistics (Q, D) or (Q,) within each cluster -> (S, D) or (S,), clusters in order of first
    appearance.

    Raises:
        ValueError: not one cluster a row.
    """
    if len(rows) != len(clusters):
        raise ValueError(f"{len(rows)} rows, {len(clusters)} clusters")
    codes, count = clusters.codes if isinstance(clusters, Clusters) else _codes(clusters)
    if not len(rows):
        return np.zeros((0, *rows.shape[1:]))
    if rows.ndim == 1:
        return np.bincount(codes, weights=rows, minlength=count)
    columns = [np.bincount(codes, weights=column, minlength=count) for column in rows.reshape(len(rows), -1).T]
    return np.stack(columns, axis=1).reshape(count, *rows.shape[1:])


def scene_warning(scenes: int) -> str | None:
    """What must be said beside figures over so few scenes; None where there are enough."""
    if scenes < NO_VERDICT:
        return f"{scenes} scenes: too few for a verdict ({NO_VERDICT} are needed, {FEW_SCENES} for intervals that were checked)"
    if scenes < FEW_SCENES:
        return f"{scenes} scenes: fewer than {FEW_SCENES}, so the intervals are rougher than they look"
    return None
