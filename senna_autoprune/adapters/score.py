"""How good answers are, and whether a pruned model still says what the unpruned one says: the latter needs no label at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from senna_autoprune.adapters.answers import Answer, Choice, FreeText, Invalid, MetaAction, Waypoints
from senna_autoprune.adapters.schema import Parse, Score
from senna_autoprune.adapters.waypoints import waypoint_measures
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.measures.metrics import class_measures, each_once, few, pair_once, plan_measures, share
from senna_autoprune.evaluation.measures.parsing import INVALID_PLAN, Plan, text_scores

if TYPE_CHECKING:
    from senna_autoprune.nuscenes.futures import Future


def measure(
    labels: Sequence[Answer],
    answers: Sequence[Answer],
    spec: Parse | None = None,
    score: Score | None = None,
    futures: Sequence[Future] | None = None,
) -> dict[str, Any]:
    """All measures of the answers to questions of one kind.

    Args:
        labels: parsed as the answers are; for waypoints, only where there are no ``futures``.
        futures: true paths and boxes, for L2 and collision.
    Returns:
        ``kind``, ``count``, ``invalid``, and what the kind has: plans and closed sets accuracy and macro-F1, waypoints L2 and
        collision rate, text ROUGE-L and BLEU and the share of equal texts.
    Raises:
        SennaPruneError: labels of several kinds, or one that cannot be read.
    """
    score = score or Score()
    if len(labels) != len(answers):
        raise ValueError(f"{len(labels)} labels, {len(answers)} answers")
    if futures is not None:
        return {"kind": "waypoints", **waypoint_measures(answers, futures, score)}
    kinds = {type(label).__name__ for label in few(labels).codes[1]}
    for index, label in enumerate(labels if Invalid.__name__ in kinds else ()):
        if isinstance(label, Invalid):
            raise SennaPruneError(f"label {index} cannot be read ({label.reason}): {label.text.strip()[:80]!r}")
    if len(kinds) > 1:
        raise SennaPruneError(f"labels of several kinds ({', '.join(sorted(kinds))}): measure each question type by itself")
    if not labels:
        return {"kind": None, "count": 0, "invalid": 0}
    invalid = sum(each_once(lambda answer: isinstance(answer, Invalid), answers))
    if isinstance(labels[0], MetaAction):
        return {"kind": "plan", **plan_measures(each_once(_plan, labels), each_once(_plan, answers))}
    if isinstance(labels[0], Choice):
        true, said = each_once(_label, labels), each_once(_label, answers)
        classes = list(spec.labels) if spec is not None and spec.labels else sorted(set(true))
        return {"kind": "choice", **class_measures(true, said, classes), "unreadable": invalid}
    if isinstance(labels[0], Waypoints):
        return {"kind": "waypoints", **_path_measures(labels, answers, score)}
    pairs = [(_words(label), _words(answer)) for label, answer in zip(labels, answers, strict=True)]
    return {"kind": "text", **text_scores(pairs), "invalid": invalid, "equal": share(sum(a == b for a, b in pairs), len(pairs))}


def agreement(answers: Sequence[Answer], reference: Sequence[Answer], score: Score | None = None) -> dict[str, Any]:
    """How far answers are those of the unpruned model: ``agreement``, the share that are the same (``same``).

    Of trajectories also ``shift_m``: mean distance between corresponding waypoints, over pairs of equal length.
    """
    score = score or Score()

    def alike(one: Answer, other: Answer) -> bool:
        return same(one, other, score.agreement_m)

    paths = any(each_once(lambda answer: isinstance(answer, Waypoints), answers))
    shifts = [
        float(np.linalg.norm(a.right_forward() - b.right_forward(), axis=-1).mean())
        for a, b in (zip(answers, reference, strict=True) if paths else ())
        if isinstance(a, Waypoints) and isinstance(b, Waypoints) and a.points.shape == b.points.shape
    ]
    found: dict[str, Any] = {"count": len(answers), "agreement": share(sum(pair_once(alike, answers, reference)), len(answers))}
    if shifts:
        found["shift_m"] = sum(shifts) / len(shifts)
    return found


def same(one: Answer, other: Answer, agreement_m: float = 0.5) -> bool:
    """Whether two answers say the same: equal choices, plans or words; trajectories none of whose waypoints is further off than
    ``agreement_m``; two that cannot be read, if they are the same words.
    """
    if isinstance(one, Waypoints) and isinstance(other, Waypoints):
        a, b = one.right_forward(), other.right_forward()
        return one.dt == other.dt and a.shape == b.shape and bool((np.linalg.norm(a - b, axis=-1) <= agreement_m).all())
    return meaning(one) == meaning(other)


def meaning(answer: Answer) -> str:
    """What makes two answers agree, as one line of text; for waypoints the numbers to the centimetre."""
    if isinstance(answer, MetaAction):
        return str(answer)
    if isinstance(answer, Choice):
        return answer.label
    if isinstance(answer, Waypoints):
        return "; ".join(f"{x:.2f}, {y:.2f}" for x, y in answer.right_forward())
    if isinstance(answer, FreeText):
        return " ".join(answer.text.split())
    return f"invalid: {' '.join(answer.text.split())}"


def _plan(answer: Answer) -> Plan:
    return Plan(answer.speed, answer.path) if isinstance(answer, MetaAction) else INVALID_PLAN


def _label(answer: Answer) -> str:
    """A choice's label; anything else is in no set of classes."""
    return answer.label if isinstance(answer, Choice) else ""


def _words(answer: Answer) -> str:
    return answer.text.strip() if isinstance(answer, FreeText | Invalid) else meaning(answer)


def _path_measures(labels: Sequence[Answer], answers: Sequence[Answer], score: Score) -> dict[str, Any]:
    """L2 against labels that are trajectories themselves: no boxes, so no collisions."""
    from senna_autoprune.adapters.waypoints import STEP_S, at_steps
    from senna_autoprune.nuscenes.futures import Future

    last = round(score.horizons_s[-1] / STEP_S)
    futures = []
    for label in labels:
        assert isinstance(label, Waypoints)
        path = at_steps(label, last)
        futures.append(Future(path, np.ones(len(path), dtype=bool), [np.zeros((0, 5))] * len(path)))
    found = waypoint_measures(answers, futures, score)
    del found["collision_rate"], found["ego_heading"]
    return found
