"""What an adapter measures of one question type, beside the controls: its own measures, retention where there are labels, and
agreement with the unpruned model, which needs none.

The adapter is given as a ``Reading``; nothing here knows how it parses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from senna_autoprune.evaluation.measures.clusters import Clusters, clusters_of
from senna_autoprune.evaluation.measures.intervals import Paired
from senna_autoprune.evaluation.measures.metrics import Few, pair_once
from senna_autoprune.evaluation.measures.paired_tests import scene_test
from senna_autoprune.evaluation.measures.retention import accuracy, accuracy_retention, mcnemar
from senna_autoprune.evaluation.runs.rows import NO_IMAGE, PRUNING_CONTROLS, UNPRUNED, QuestionRow
from senna_autoprune.nuscenes.futures import Future

CLOSED = ("plan", "label", "choice")  # kinds of answers that are right or wrong


class Reading(Protocol):
    """``adapters.reading.Reading``."""

    def kind(self, question_type: str) -> str: ...

    def plain(self, question_type: str) -> bool: ...

    def answer(self, question_type: str, text: str, question: str = "") -> Any: ...

    def label(self, question_type: str, text: str, question: str = "") -> Any: ...

    def written(self, question_type: str, text: str, question: str = "") -> str: ...

    def same(self, one: Any, other: Any) -> bool: ...

    def measure(
        self, question_type: str, labels: Sequence[Any], answers: Sequence[Any], futures: Sequence[Future] | None = None
    ) -> dict[str, Any]: ...

    def agreement(self, answers: Sequence[Any], reference: Sequence[Any]) -> dict[str, Any]: ...


def adapted_measures(
    questions: Sequence[QuestionRow],
    texts: Mapping[str, Mapping[int, str]],
    reading: Reading,
    seed: int,
) -> dict[str, dict[str, Any]]:
    """setting -> the measures of its answers to questions of one type.

    Args:
        questions: of one type, answered by all settings. texts: setting -> question -> answer.
    Returns:
        of each setting ``kind``, ``count``, ``unlabelled``, ``agreement`` with ``interval`` (where unpruned was asked), and of
        the labelled questions the adapter's own ``measures``; where an answer is right or wrong also ``accuracy`` with its
        interval, ``retention``, ``scene_test_against`` and ``mcnemar_against`` (unpruned, random, uniform, no-image).
    """
    question_type, asked = questions[0].type, Few(q.text for q in questions)
    kind, numbers = reading.kind(question_type), [q.question for q in questions]

    def answer(text: str, words: str) -> Any:
        return reading.answer(question_type, text, words)

    def label(text: str, words: str) -> Any:
        return None if text.strip() == "" else reading.label(question_type, text, words)

    read = {name: pair_once(answer, Few(map(found.__getitem__, numbers)), asked) for name, found in texts.items()}
    labels = pair_once(label, Few(q.label for q in questions), asked)
    futures = [None if q.future is None else Future.of(q.future) for q in questions]
    with_future = any(future is not None for future in futures)
    known = [n for n in range(len(questions)) if (futures[n] if with_future else labels[n]) is not None]
    scenes = clusters_of(questions)
    labelled = Clusters(scenes[n] for n in known)
    right: dict[str, NDArray[np.bool_]] = {}
    true = labels.take(known)
    if kind in CLOSED and known:
        right = {name: np.array(pair_once(reading.same, found.take(known), true), dtype=bool) for name, found in read.items()}
    result = {}
    for name, found in read.items():
        entry: dict[str, Any] = {"kind": kind, "count": len(questions), "unlabelled": len(questions) - len(known)}
        if known:
            paths = [futures[n] for n in known] if with_future else None
            entry["measures"] = reading.measure(question_type, true, found.take(known), paths)  # type: ignore[arg-type]
        if UNPRUNED in read:
            same = pair_once(reading.same, found, read[UNPRUNED])
            entry["agreement"] = {**reading.agreement(found, read[UNPRUNED]), "interval": accuracy(same, scenes).to_dict()}
        if right:
            entry.update(_closed(name, right, labelled, seed))
        result[name] = entry
    return result


def _closed(name: str, right: Mapping[str, NDArray[np.bool_]], scenes: Sequence[str], seed: int) -> dict[str, Any]:
    """Accuracy, retention and paired tests of answers that are right or wrong."""
    hits, others = right[name], [other for other in (UNPRUNED, *PRUNING_CONTROLS, NO_IMAGE) if other in right and other != name]
    found: dict[str, Any] = {
        "accuracy": accuracy(hits, scenes).to_dict(),
        "scene_test_against": {other: scene_test(Paired.of(right[other], hits, scenes), seed).to_dict() for other in others},
        "mcnemar_against": {other: mcnemar(right[other], hits).to_dict() for other in others},
    }
    if UNPRUNED in right:
        found["retention"] = {"accuracy": accuracy_retention(right[UNPRUNED], hits, scenes).to_dict()}
    return found


def right_or_same(
    questions: Sequence[QuestionRow], texts: Mapping[str, Mapping[int, str]], reading: Reading
) -> tuple[dict[str, list[bool]], list[QuestionRow]]:
    """For every setting, which questions of one type it got right; without labels, which it answered as unpruned does.

    Returns:
        setting -> right or wrong over the same questions, and these questions.
    """
    common = [q for q in questions if all(q.question in found for found in texts.values())]
    closed = bool(common) and reading.kind(common[0].type) in CLOSED
    labels = {q.question: reading.label(q.type, q.label, q.text) for q in common if closed and q.label.strip()}
    labelled = [q for q in common if labels.get(q.question) is not None]
    unpruned = texts.get(UNPRUNED, {})
    asked = labelled or (common if unpruned else [])

    def truth(q: QuestionRow) -> Any:
        return labels[q.question] if labelled else reading.answer(q.type, unpruned[q.question], q.text)

    return {
        name: [reading.same(reading.answer(q.type, found[q.question], q.text), truth(q)) for q in asked] for name, found in texts.items()
    }, list(asked)


def read_severity(question: QuestionRow, unpruned: str, pruned: str, reading: Reading) -> str:
    """Severity of a changed answer that only the adapter can read; without a label it is judged against the unpruned one."""
    before, after = (reading.answer(question.type, text, question.text) for text in (unpruned, pruned))
    label = reading.label(question.type, question.label, question.text) if question.label.strip() else None
    if reading.same(before, after):
        return "wording"
    if label is not None and reading.same(after, label):
        return "repaired"
    was_right = type(before).__name__ != "Invalid" if label is None else reading.same(before, label)
    if type(after).__name__ == "Invalid" and type(before).__name__ != "Invalid":
        return "no_answer"
    return "broken" if was_right else "both_wrong"


def judges(question_type: str, reading: Reading | None) -> bool:
    """Whether the adapter, not the table of Senna's question types, says what a changed answer means."""
    if reading is None:
        return False
    own = question_type in ("plan", "vru", "light", "motion", "description", "explanation")
    return not (own and (reading.plain(question_type) or (question_type == "plan" and reading.kind("plan") == "plan")))
