"""What the answers of a question file say: labels per type, their counts, and the majority answer every table needs.

A label is what is counted: the whole answer of a plan question, yes or no of a VRU question, the plan of each object of
a motion question, the colour of a traffic light, the letter of a choice, yes or no. Free text (description, explanation) has none.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from senna_autoprune.nuscenes.answers import INVALID, parse_light, parse_motion, parse_plan, parse_road_users
from senna_autoprune.nuscenes.questions_file import Question

_LETTER = re.compile(r"\s*\(?([A-Za-z])(?:[.):]|\s*$)", re.ASCII)
_YES_NO = re.compile(r"\s*(yes|no)\b", re.IGNORECASE | re.ASCII)


def labels_of(kind: str, answer: str) -> list[str]:
    """The labels an answer holds: one per object for motion, one for the other closed types, none for free text.

    They are read by the parsers that score answers: what no score could count is ``invalid`` here, too.
    """
    if kind == "plan":
        return [str(parse_plan(answer))]
    if kind == "vru":
        present = parse_road_users(answer).present
        return [INVALID if present is None else "yes" if present else "no"]
    if kind == "motion":
        return [str(plan) for plan in parse_motion(answer).values()]
    if kind == "light":
        colour = parse_light(answer)
        return [colour if colour == INVALID else colour.capitalize()]
    if kind == "choice":
        letter = _LETTER.match(answer)
        return [letter.group(1).upper() if letter else "other"]
    if kind == "yes_no":
        word = _YES_NO.match(answer)
        return [word.group(1).lower() if word else "other"]
    return []


class LabelCounts:
    """Counts of questions and labels by type, filled one question at a time."""

    def __init__(self) -> None:
        self.questions: Counter[str] = Counter()
        self.labels: dict[str, Counter[str]] = {}

    def add(self, question: Question) -> None:
        """Count one question and the labels of its answer."""
        kind = question.type
        self.questions[kind] += 1
        found = labels_of(kind, question.answer)
        if found:
            self.labels.setdefault(kind, Counter()).update(found)

    def majority(self) -> dict[str, dict[str, Any]]:
        """Per type the most frequent label, its count and its share of all labels of the type."""
        best = {}
        for kind, counts in self.labels.items():
            answer, count = counts.most_common(1)[0]
            best[kind] = {"answer": answer, "count": count, "share": count / counts.total()}
        return best

    def to_dict(self) -> dict[str, Any]:
        """``questions`` and ``labels`` by type, most frequent first, and ``majority``, as in the sidecar."""
        return {
            "questions": dict(self.questions.most_common()),
            "labels": {kind: dict(counts.most_common()) for kind, counts in self.labels.items()},
            "majority": self.majority(),
        }
