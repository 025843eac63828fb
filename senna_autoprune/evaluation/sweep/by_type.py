"""A sweep by question type: what each cell retains of each type, and pooled as the paper pools its benchmarks.

The paper's "ratio" (Tables 1 and 2) is the mean over benchmarks of pruned / unpruned; here the mean over the closed question types.
Types of free text have no right or wrong: of them the share of answers that say what the unpruned model says, left out of the ratio.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from senna_autoprune.evaluation.measures.adapted import Reading
from senna_autoprune.evaluation.measures.clusters import Clusters, by_cluster, clusters_of
from senna_autoprune.evaluation.measures.retention import Interval, accuracy, accuracy_retention, bootstrap
from senna_autoprune.evaluation.measures.rightness import agree, closed, labelled, right
from senna_autoprune.evaluation.runs.rows import MAJORITY, NO_IMAGE, UNPRUNED, AnswerRow, QuestionRow
from senna_autoprune.evaluation.sweep.cells import Cell, texts_of

Array = NDArray[Any]
CONSTANTS = 50  # most frequent labels of a type among which the best constant answer is looked for
RATIO, POOLED = "ratio", "pooled"  # mean of the types' retentions; retention over all closed questions


def by_type(
    cells: Sequence[Cell],
    questions: Sequence[QuestionRow],
    rows: Sequence[AnswerRow],
    resamples: int = 2000,
    seed: int = 0,
    reading: Reading | None = None,
) -> dict[str, Any] | None:
    """Everything of the sweep that goes by question type; None where fewer than two types were asked, or unpruned was not.

    Only questions that every setting answered count, and of closed types only those with a label.

    Args:
        reading: of the run's adapter; None: as Senna's answers are read.
    Returns:
        ``types``: kind -> questions, and whether it is ``closed``; ``plain``: kind -> accuracy of unpruned, no-image and the best
        constant answer; ``cells``: row, kind, budget and ``retention`` by type (agreement with unpruned where it is not closed), with
        ``pooled`` and ``ratio``.
    """
    texts = texts_of(rows)
    if UNPRUNED not in texts:
        return None
    common = [q for q in questions if all(q.question in found for found in texts.values())]
    counted = [q for q in common if labelled(q, reading) or not closed(q.type, reading)]
    kinds = {kind: [q for q in counted if q.type == kind] for kind in dict.fromkeys(q.type for q in counted)}
    if len(kinds) < 2:
        return None
    parts = {kind: _Part(mine, texts, closed(kind, reading), reading) for kind, mine in kinds.items()}
    there = [cell for cell in cells if cell.setting.name in texts]
    return {
        "types": {kind: {"questions": len(part.questions), "closed": part.closed} for kind, part in parts.items()},
        "plain": {kind: part.plain() for kind, part in parts.items() if part.closed},
        "cells": [{**cell.named(), "retention": _retention(parts, cell.setting.name, resamples, seed)} for cell in there],
    }


class _Part:
    """The questions of one type. ``hits``: setting -> right or wrong; of free text, whether it says what unpruned says."""

    def __init__(self, questions: list[QuestionRow], texts: Mapping[str, Mapping[int, str]], closed: bool, reading: Reading | None) -> None:
        self.questions, self.closed, self.reading = questions, closed, reading
        self.scenes: Clusters = clusters_of(questions)
        before = texts[UNPRUNED]
        self.hits: dict[str, list[bool]] = {
            name: [
                right(q, found[q.question], reading) if closed else agree(q, before[q.question], found[q.question], reading)
                for q in questions
            ]
            for name, found in texts.items()
        }

    def plain(self) -> dict[str, Any]:
        """Accuracy unpruned, without images, and of the best constant answer (with its words)."""
        found = {name: accuracy(self.hits[name], self.scenes).to_dict() for name in (UNPRUNED, NO_IMAGE) if name in self.hits}
        labels = [text for text, _ in Counter(q.label.strip() for q in self.questions).most_common(CONSTANTS)]
        constant = {text: [right(q, text, self.reading) for q in self.questions] for text in labels}
        best = max(constant, key=lambda text: sum(constant[text]))
        return {**found, MAJORITY: {**accuracy(constant[best], self.scenes).to_dict(), "answer": best}}

    def retention(self, name: str) -> dict[str, Any]:
        """Of one setting: right after / right before, or the share that says the same."""
        if self.closed:
            return accuracy_retention(self.hits[UNPRUNED], self.hits[name], self.scenes).to_dict()
        return accuracy(self.hits[name], self.scenes).to_dict()


def _retention(parts: Mapping[str, _Part], name: str, resamples: int, seed: int) -> dict[str, Any]:
    found = {kind: part.retention(name) for kind, part in parts.items()}
    judged = [part for part in parts.values() if part.closed]
    if len(judged) > 1:
        before, after = ([hit for part in judged for hit in part.hits[which]] for which in (UNPRUNED, name))
        scenes = Clusters(scene for part in judged for scene in part.scenes)
        found[POOLED] = accuracy_retention(before, after, scenes).to_dict()
        found[RATIO] = mean_ratio([(part.hits[UNPRUNED], part.hits[name]) for part in judged], scenes, resamples, seed).to_dict()
    return found


def mean_ratio(pairs: Sequence[tuple[Sequence[bool], Sequence[bool]]], scenes: Sequence[str], resamples: int, seed: int) -> Interval:
    """The mean over groups of right after / right before, with its bootstrap interval over scenes.

    Args:
        pairs: (before, after) of each group's questions. scenes: of all questions, group after group.
    Returns:
        undefined where a group has no right answer before.
    """
    count, columns = sum(len(before) for before, _ in pairs), 2 * len(pairs)
    rows, start = np.zeros((count, columns)), 0
    for place, (before, after) in enumerate(pairs):
        rows[start : start + len(before), 2 * place] = before
        rows[start : start + len(before), 2 * place + 1] = after
        start += len(before)

    def measure(sums: Array) -> Array:  # (..., 2 G) -> (...)
        return np.mean(sums[..., 1::2] / np.where(sums[..., ::2] > 0, sums[..., ::2], np.nan), axis=-1)

    return bootstrap([by_cluster(rows, scenes)], measure, resamples, seed)
