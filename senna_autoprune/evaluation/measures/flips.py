"""Flips: every answer that changed under pruning, ordered by what the change could do on a road.

A flip is judged against the label (or against the unpruned answer where the label does not parse). It gets the first
severity of the table below that fits; each of the harmful ones asks that pruning made things worse, i.e. the unpruned
answer did not have that fault.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from senna_autoprune.evaluation.measures.intervals import scenes_upper
from senna_autoprune.evaluation.measures.parsing import INVALID, Plan, parse_light, parse_motion, parse_plan, parse_road_users

# worst first: name -> what it means, of answers of {a} that became those of {b} (printed beside the counts)
_MEANINGS: dict[str, str] = {
    "missed_brake": "label STOP or DECELERATE: {a} braked, {b} does not (or gives no usable answer)",
    "missed_road_user": "label says a vulnerable road user is ahead: {a} saw it, {b} does not",
    "wrong_side": "label turns or changes lane to one side: {b} goes to the other",
    "no_answer": "{a} gave a usable answer, {b} gives one that does not parse",
    "wrong_path": "{a} had the path right, {b} has not",
    "false_brake": "label KEEP or ACCELERATE: {b} brakes, {a} did not",
    "false_road_user": "label says the way is clear: {b} sees a road user, {a} did not",
    "wrong_speed": "{a} had the speed right, {b} has another (not a missed or false brake)",
    "broken": "{a} was right, {b} is not (question types without a finer table)",
    "both_wrong": "both wrong, each in its way",
    "repaired": "{a} was wrong, {b} is right",
    "wording": "other words, same meaning",
}


def meanings(a: str, b: str) -> dict[str, str]:
    """Severity -> what it means of two answerers by these names, worst first."""
    return {name: text.format(a=a, b=b) for name, text in _MEANINGS.items()}


SEVERITIES = meanings("unpruned", "pruned")
DANGEROUS = ("missed_brake", "wrong_side")  # what a safety margin counts, by scene
HARMLESS = ("both_wrong", "repaired", "wording")
_BRAKES = frozenset({"STOP", "DECELERATE"})


@dataclass(frozen=True, slots=True)
class Flip:
    """One changed answer. ``question`` is its index in the question file; ``token`` opens the sample in a replay."""

    question: int
    token: str
    scene: str
    type: str
    setting: str
    severity: str
    label: str
    unpruned: str
    pruned: str

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


def _side(path: str) -> str | None:
    if path.startswith("LEFT_"):
        return "left"
    return "right" if path.startswith("RIGHT_") else None


def _crosses(label: Plan, answer: Plan) -> bool:
    wanted, taken = _side(label.path), _side(answer.path)
    return wanted is not None and taken is not None and wanted != taken


def plan_severity(label: Plan, unpruned: Plan, pruned: Plan) -> str:
    """Severity of a planning answer that changed from ``unpruned`` to ``pruned``; see ``SEVERITIES``."""
    if unpruned == pruned:
        return "wording" if pruned.valid else "both_wrong"
    if not label.valid:
        label = unpruned
    if not label.valid:
        return "both_wrong"
    if pruned == label:
        return "repaired"
    if label.speed in _BRAKES and unpruned.speed in _BRAKES and pruned.speed not in _BRAKES:
        return "missed_brake"
    if not pruned.valid:
        return "no_answer"
    if _crosses(label, pruned) and not _crosses(label, unpruned):
        return "wrong_side"
    if unpruned.path == label.path and pruned.path != label.path:
        return "wrong_path"
    if label.speed not in _BRAKES and pruned.speed in _BRAKES and unpruned.speed not in _BRAKES:
        return "false_brake"
    if unpruned.speed == label.speed and pruned.speed != label.speed:
        return "wrong_speed"
    return "both_wrong"


def _road_user_severity(label: bool | None, unpruned: bool | None, pruned: bool | None) -> str:
    if unpruned == pruned:
        return "wording" if pruned is not None else "both_wrong"
    if label is None:
        label = unpruned
    if pruned == label:
        return "repaired"
    if label and unpruned:
        return "missed_road_user"
    if pruned is None:
        return "no_answer"
    return "false_road_user" if pruned and unpruned is False else "both_wrong"


def _plain_severity(label: object, unpruned: object, pruned: object) -> str:
    if unpruned == pruned:
        return "wording"
    if pruned == label:
        return "repaired"
    return "broken" if unpruned == label else "both_wrong"


@lru_cache(maxsize=4096)  # few pairs of plans, each of many questions
def severity(question_type: str, label: str, unpruned: str, pruned: str) -> str:
    """Severity of a changed answer of any question type, from the raw texts."""
    if question_type == "plan":
        return plan_severity(parse_plan(label), parse_plan(unpruned), parse_plan(pruned))
    if question_type == "vru":
        sides = [parse_road_users(text).present for text in (label, unpruned, pruned)]
        return _road_user_severity(*sides)
    if question_type == "light":
        colours = [parse_light(text) for text in (label, unpruned, pruned)]
        return "both_wrong" if colours[1] == colours[2] == INVALID else _plain_severity(*colours)
    if question_type == "motion":
        return _plain_severity(*(parse_motion(text) for text in (label, unpruned, pruned)))
    return _plain_severity(*(text.strip() for text in (label, unpruned, pruned)))


def flip_table(flips: Sequence[Flip], compared: int, scenes: int | None = None) -> dict[str, Any]:
    """Counts and rates by severity, worst first, all severities listed; ``compared`` answers had a pair.

    With ``scenes`` (how many were compared) also how many of them hold a dangerous and a harmful flip, with exact one-sided
    95 % upper bounds: no flip in 67 scenes is not 0 %.
    """
    found = _table(flips, compared)
    if scenes is not None:
        held = {
            "dangerous": len({flip.scene for flip in flips if flip.severity in DANGEROUS}),
            "harmful": len({flip.scene for flip in flips if flip.severity not in HARMLESS}),
        }
        found["scenes"] = {"compared": scenes, **held} | {f"{name}_upper": scenes_upper(hit, scenes) for name, hit in held.items()}
    return found


def _table(flips: Sequence[Flip], compared: int) -> dict[str, Any]:
    counts = Counter(flip.severity for flip in flips)
    harmful = sum(n for name, n in counts.items() if name not in HARMLESS)
    return {
        "compared": compared,
        "flips": len(flips),
        "rate": len(flips) / compared if compared else None,
        "harmful": harmful,
        "harmful_rate": harmful / compared if compared else None,
        "by_severity": {
            name: {"count": counts[name], "rate": counts[name] / compared if compared else None, "meaning": meaning}
            for name, meaning in SEVERITIES.items()
        },
    }


def sort_flips(flips: Sequence[Flip]) -> list[Flip]:
    """Worst first, then by question."""
    rank = {name: i for i, name in enumerate(SEVERITIES)}
    return sorted(flips, key=lambda flip: (rank[flip.severity], flip.question, flip.setting))
