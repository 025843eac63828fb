"""Measures of a sample that was not drawn evenly, weighted back to the questions it was drawn from.

``questions sample`` stores a weight with each question: its group's share of the file over its share of the sample. A weighted share
(sum of w over the right ones / sum of w over all) estimates the file's (Hajek 1971); a plain share is the sample's own. Intervals:
percentile bootstrap over scenes, as the score intervals are made for even weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from senna_autoprune.evaluation.measures.adapted import Reading
from senna_autoprune.evaluation.measures.clusters import clusters_of
from senna_autoprune.evaluation.measures.retention import bootstrap, by_scene, mean_measure
from senna_autoprune.evaluation.measures.rightness import agree, closed, labelled, right
from senna_autoprune.evaluation.runs.rows import UNPRUNED, QuestionRow

WEIGHT = "weight"  # of a question's attributes

Array = NDArray[Any]


def weights_of(questions: Sequence[QuestionRow]) -> Array | None:
    """(Q,) weights, 1 where a question has none; None where none has one, or all are alike."""
    found = np.array([float(question.attributes.get(WEIGHT, 1.0)) for question in questions])
    return None if not len(found) or np.ptp(found) <= 1e-9 * found.max() else found


def effective_size(weights: Array) -> float:
    """Kish's: (sum w)^2 / sum w^2, as many evenly drawn questions as the weighted ones are worth."""
    return float(weights.sum() ** 2 / (weights**2).sum())


def weighted_share(hits: Sequence[bool], weights: Array, scenes: Sequence[str], resamples: int, seed: int) -> dict[str, Any]:
    """Share of the weight that is hit, with its interval over scenes."""
    rows = np.stack([np.asarray(hits, dtype=float) * weights, weights], axis=1)  # (Q, 2)
    return bootstrap([by_scene(rows, scenes)], mean_measure, resamples, seed).to_dict()


def weighted_retention(
    before: Sequence[bool], after: Sequence[bool], weights: Array, scenes: Sequence[str], resamples: int, seed: int
) -> dict[str, Any]:
    """Weight right after over weight right before, with its interval over scenes; undefined where nothing was right before."""
    rows = np.stack([np.asarray(one, dtype=float) * weights for one in (after, before)], axis=1)  # (Q, 2)
    return bootstrap([by_scene(rows, scenes)], mean_measure, resamples, seed).to_dict()


def weighted_measures(
    questions: Sequence[QuestionRow],
    texts: Mapping[str, Mapping[int, str]],
    reading: Reading | None,
    seed: int,
    resamples: int,
) -> dict[str, Any] | None:
    """Of questions of one type: ``effective`` size, and by setting ``accuracy`` and ``retention`` (where answers are right or wrong
    and there are labels) and ``agreement`` with unpruned. None where the questions are not weighted.

    Args:
        texts: setting -> question -> answer; settings that lack one of the questions are left out.
    """
    weights = weights_of(questions)
    if weights is None:
        return None
    texts = {name: found for name, found in texts.items() if all(q.question in found for q in questions)}
    scenes = clusters_of(questions)
    known = [i for i, q in enumerate(questions) if closed(q.type, reading) and labelled(q, reading)]
    there = [scenes[i] for i in known]

    def rights(name: str) -> list[bool]:
        return [right(questions[i], texts[name][questions[i].question], reading) for i in known]

    before = rights(UNPRUNED) if UNPRUNED in texts else None
    settings: dict[str, Any] = {}
    for name, found in texts.items():
        entry: dict[str, Any] = {}
        if known:
            hits = rights(name)
            entry["accuracy"] = weighted_share(hits, weights[known], there, resamples, seed)
            if before is not None and name != UNPRUNED:
                entry["retention"] = weighted_retention(before, hits, weights[known], there, resamples, seed)
        if before is not None and name != UNPRUNED:
            same = [agree(q, found[q.question], texts[UNPRUNED][q.question], reading) for q in questions]
            entry["agreement"] = weighted_share(same, weights, scenes, resamples, seed)
        settings[name] = entry
    return {"count": len(questions), "labelled": len(known), "effective": effective_size(weights), "settings": settings}
