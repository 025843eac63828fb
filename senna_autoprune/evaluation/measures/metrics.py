"""Measures of planning, road-user and motion answers, as arithmetic on confusion counts (numpy, any leading batch
axes).

Counts of one axis are an array (..., C, C + 1): row = class of the label, column = class of the answer, last column =
``invalid``. Working on counts is what lets the bootstrap evaluate a measure for thousands of resamples at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from senna_autoprune.evaluation.measures.parsing import INVALID, PATHS, SPEEDS, Plan, RoadUsers, plan_meaning

Array = NDArray[Any]
T = TypeVar("T")
U = TypeVar("U")
R = TypeVar("R")


def confusion(labels: Sequence[str], answers: Sequence[str], classes: Sequence[str]) -> Array:
    """Counts (C, C + 1) of label class against answer class; an answer outside ``classes`` is counted as invalid.

    Raises:
        ValueError: a label is not one of ``classes``, or the lengths differ.
    """
    return _confusion(((*pair, times) for pair, times in Counter(zip(labels, answers, strict=True)).items()), classes)


def _confusion(pairs: Iterable[tuple[str, str, int]], classes: Sequence[str]) -> Array:
    """``confusion`` of (label, answer, how often)."""
    index = {name: i for i, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes) + 1), dtype=np.int64)
    for label, answer, times in pairs:
        if label not in index:
            raise ValueError(f"label {label!r} is not one of {', '.join(classes)}")
        counts[index[label], index.get(answer, len(classes))] += times
    return counts


class Few(list[T]):
    """A list of few objects, each at many places, that knows them by number: few texts and plans are the answers to many questions.

    It is not changed once it is made.
    """

    @cached_property
    def codes(self) -> tuple[NDArray[np.intp], list[T]]:
        """(Q,) the number of the object at each place, and the objects by number."""
        ids = list(map(id, self))
        known = dict(zip(ids, self, strict=True))
        number = {key: place for place, key in enumerate(known)}
        return np.fromiter(map(number.__getitem__, ids), dtype=np.intp, count=len(ids)), list(known.values())

    @classmethod
    def of(cls, codes: NDArray[np.intp], objects: list[T]) -> Self:
        """From what ``codes`` gives."""
        made = cls(map(objects.__getitem__, codes.tolist()))
        made.__dict__["codes"] = codes, objects
        return made

    def take(self, places: Sequence[int]) -> Self:
        """What stands at these places, which are different ones and ascend."""
        if len(places) == len(self):
            return self
        codes, objects = self.codes
        there, taken = np.unique(codes[np.asarray(places, dtype=np.intp)], return_inverse=True)
        return type(self).of(taken, [objects[number] for number in there.tolist()])


def few(items: Sequence[T]) -> Few[T]:
    """A sequence as one of few objects."""
    return items if isinstance(items, Few) else Few(items)


def each_once(function: Callable[[T], R], items: Sequence[T]) -> Few[R]:
    """``function`` of every item, called once for each object."""
    codes, objects = few(items).codes
    return Few.of(codes, list(map(function, objects)))


def pair_once(function: Callable[[T, U], R], first: Sequence[T], second: Sequence[U]) -> Few[R]:
    """``function`` of every pair, called once for each pair of objects."""
    codes, pairs, _ = _pairs(first, second)
    return Few.of(codes, [function(*pair) for pair in pairs])


def tally(first: Sequence[T], second: Sequence[U]) -> list[tuple[T, U, int]]:
    """Each pair of objects that occurs, and how often."""
    _, pairs, times = _pairs(first, second)
    return [(*pair, count) for pair, count in zip(pairs, times, strict=True)]


def _pairs(first: Sequence[T], second: Sequence[U]) -> tuple[NDArray[np.intp], list[tuple[T, U]], list[int]]:
    """(Q,) the number of each place's pair, the pairs of objects by number, and how often each occurs."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} items cannot be paired")
    (left, ones), (right, others) = few(first).codes, few(second).codes
    cells = left * len(others) + right
    if len(ones) * len(others) <= 4 * len(cells):
        counts = np.bincount(cells, minlength=len(ones) * len(others))
        there = np.flatnonzero(counts)
        number = np.zeros(len(counts), dtype=np.intp)
        number[there] = np.arange(len(there))
        codes, times = number[cells], counts[there]
    else:
        there, codes, times = np.unique(cells, return_inverse=True, return_counts=True)
    return codes, [(ones[cell // len(others)], others[cell % len(others)]) for cell in there.tolist()], times.tolist()


def class_f1(counts: Array) -> Array:
    """F1 of each class, (..., C); NaN for a class that is in neither labels nor answers. An invalid answer is a miss of
    its label.
    """
    counts = np.asarray(counts, dtype=np.float64)
    hit = np.diagonal(counts[..., :-1], axis1=-2, axis2=-1)  # (..., C)
    labelled = counts.sum(axis=-1)  # (..., C)
    answered = counts[..., :-1].sum(axis=-2)  # (..., C)
    with np.errstate(invalid="ignore", divide="ignore"):
        return 2 * hit / (labelled + answered)  # 2TP / (2TP + FN + FP)


def class_recall(counts: Array) -> Array:
    """Recall of each class, (..., C); NaN where no label has that class."""
    counts = np.asarray(counts, dtype=np.float64)
    hit = np.diagonal(counts[..., :-1], axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return hit / counts.sum(axis=-1)


def macro_f1(*axes: Array) -> Array:
    """Mean F1 over the classes of all ``axes`` together, (...,): with speed and path counts, over the nine
    meta-actions.

    A class that occurs in neither labels nor answers has no F1 and is left out of the mean (scikit-learn's convention);
    NaN if every class is.
    """
    scores = np.concatenate([class_f1(counts) for counts in axes], axis=-1)
    present = ~np.isnan(scores)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(present, scores, 0.0).sum(axis=-1) / present.sum(axis=-1)


def labelled_macro_f1(*axes: Array) -> Array:
    """Mean F1 over the classes that *labels* have, (...,): the same classes for every answerer of the same questions, so that
    two of them can be compared (``macro_f1`` takes in a class as soon as one answer names it). NaN without labels.
    """
    scores = np.concatenate([class_f1(counts) for counts in axes], axis=-1)
    labelled = np.concatenate([np.asarray(counts).sum(axis=-1) > 0 for counts in axes], axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(labelled, scores, 0.0).sum(axis=-1) / labelled.sum(axis=-1)


def _plan_confusions(pairs: Sequence[tuple[Plan, Plan, int]]) -> tuple[Array, Array]:
    """(speed counts (4, 5), path counts (5, 6)) of (label, answer, how often)."""
    return (
        _confusion(((label.speed, answer.speed, times) for label, answer, times in pairs), SPEEDS),
        _confusion(((label.path, answer.path, times) for label, answer, times in pairs), PATHS),
    )


def share(hits: int, total: int) -> float | None:
    """hits / total; None of nothing."""
    return hits / total if total else None


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _per_class(values: Array, classes: Sequence[str]) -> dict[str, float | None]:
    return {name: _number(value) for name, value in zip(classes, values, strict=True)}


def _axis(counts: Array, classes: Sequence[str]) -> dict[str, Any]:
    return {
        "accuracy": share(int(np.trace(counts[:, :-1])), int(counts.sum())),
        "macro_f1": _number(float(macro_f1(counts))),
        "f1": _per_class(class_f1(counts), classes),
        "recall": _per_class(class_recall(counts), classes),
        "confusion": {"rows": list(classes), "columns": [*classes, INVALID], "counts": counts.tolist()},
    }


def plan_measures(labels: Sequence[Plan], answers: Sequence[Plan]) -> dict[str, Any]:
    """All strict planning measures of one setting.

    Returns:
        ``count``, ``invalid`` (answers), ``exact_accuracy`` (both axes right), ``macro_f1`` over the nine meta-actions,
        ``macro_f1_classes`` (how many of them occur) and ``macro_f1_labelled`` (over those that labels have), and
        for each axis accuracy, macro-F1, F1 and recall by class,
        confusion counts.
    """
    pairs = tally(labels, answers)
    speed, path = _plan_confusions(pairs)
    exact = sum(times for label, answer, times in pairs if label == answer)
    present = np.concatenate([~np.isnan(class_f1(speed)), ~np.isnan(class_f1(path))])
    return {
        "count": len(labels),
        "invalid": sum(times for _, answer, times in pairs if not answer.valid),
        "exact_accuracy": share(exact, len(labels)),
        "macro_f1": _number(float(macro_f1(speed, path))),
        "macro_f1_classes": int(present.sum()),
        "macro_f1_labelled": _number(float(labelled_macro_f1(speed, path))),
        "speed": _axis(speed, SPEEDS),
        "path": _axis(path, PATHS),
    }


def agreement(answers: Sequence[str], reference: Sequence[str]) -> float | None:
    """Share of planning answers that mean what the unpruned model's answer means (``answers.plan_meaning``)."""
    return share(sum(pair_once(lambda one, other: plan_meaning(one) == plan_meaning(other), answers, reference)), len(answers))


def road_user_measures(labels: Sequence[RoadUsers], answers: Sequence[RoadUsers]) -> dict[str, Any]:
    """Precision and recall of "yes, there is a vulnerable road user"; an invalid answer is a miss where the label is
    yes, and wrong (but no false alarm) where it is no. ``distance_error_m``: mean |ahead - ahead| of the nearest road
    user named on both sides.

    Raises:
        ValueError: a label is neither yes nor no.
    """
    tp = fp = fn = tn = invalid = 0
    errors: list[int] = []
    for label, answer in zip(labels, answers, strict=True):
        if label.present is None:
            raise ValueError("a label of a road-user question begins with neither yes nor no")
        invalid += not answer.valid
        tp += bool(label.present and answer.present)
        fn += bool(label.present and not answer.present)
        fp += bool(not label.present and answer.present)
        tn += label.present is False and answer.present is False
        if label.users and answer.users:
            errors.append(abs(min(u.ahead_m for u in label.users) - min(u.ahead_m for u in answer.users)))
    precision, recall = share(tp, tp + fp), share(tp, tp + fn)
    return {
        "count": len(labels),
        "invalid": invalid,
        "accuracy": share(tp + tn, len(labels)),
        "precision": precision,
        "recall": recall,
        "f1": share(2 * tp, 2 * tp + fp + fn),
        "confusion": {"tp": tp, "fp": fp, "fn": fn, "tn": tn},
        "distance_error_m": share(sum(errors), len(errors)),
        "distance_pairs": len(errors),
    }


def motion_measures(labels: Sequence[dict[int, Plan]], answers: Sequence[dict[int, Plan]]) -> dict[str, Any]:
    """Accuracy per *object* of the labels; an object without a line in the answer is invalid. Objects only the answer
    names are counted (``extra``) and cost nothing else.
    """
    true: list[Plan] = []
    said: list[Plan] = []
    extra = 0
    for label, answer in zip(labels, answers, strict=True):
        for number, plan in label.items():
            true.append(plan)
            said.append(answer.get(number, Plan(INVALID, INVALID)))
        extra += len(answer.keys() - label.keys())
    return {"questions": len(labels), "extra": extra, **plan_measures(true, said)}


def class_measures(labels: Sequence[str], answers: Sequence[str], classes: Sequence[str]) -> dict[str, Any]:
    """Accuracy, macro-F1, recall and confusion of a question type with one class per answer (traffic lights)."""
    counts = confusion(labels, answers, classes)
    return {"count": len(labels), "invalid": int(counts[:, -1].sum()), **_axis(counts, classes)}
