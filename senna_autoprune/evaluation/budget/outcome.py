"""What a certificate is over: the figure of each question's answer, and which change of it is dangerous, as the adapter reads it.

- accuracy: right or wrong against the label: plans, choices, labels, yes and no; in points.
- agreement: the same as the unpruned answer or not: any kind of answer, and no label at all; in points.
- l2: metres between planned and true path, by the adapter's first convention at its last horizon; in metres.

Dangerous is a missed brake or the wrong side of a plan; of waypoints a collision, or no path as far as the horizon, where unpruned
had neither. Of other answers nobody says which flips are dangerous, and safety then has no say.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np

from senna_autoprune.adapters.answers import Answer, Waypoints
from senna_autoprune.adapters.reading import Reading
from senna_autoprune.adapters.waypoints import STEP_S, at_steps, collisions, waypoint_row
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.budget.answers import Pairs
from senna_autoprune.evaluation.measures.adapted import judges
from senna_autoprune.evaluation.measures.flips import DANGEROUS, severity
from senna_autoprune.evaluation.measures.parsing import plan_meaning
from senna_autoprune.evaluation.measures.rightness import agree, closed, labelled, right
from senna_autoprune.evaluation.measures.verdict import METRES, POINTS
from senna_autoprune.evaluation.runs.rows import MAJORITY, QuestionRow
from senna_autoprune.nuscenes.futures import Future

Measure = Literal["accuracy", "agreement", "l2"]
ACCURACY: Measure = "accuracy"
AGREEMENT: Measure = "agreement"
L2: Measure = "l2"
MEAN_PATH = "mean-path"  # the control that sees nothing: one path for all questions
PLAN_DANGER = "a missed brake or the wrong side that unpruned did not have"
PATH_DANGER = "a collision, or no path as far as the horizon, where unpruned had neither"

Texts = Mapping[int, str]  # question -> answer


class Path(NamedTuple):
    """metres: from the truth; NaN: not known so far ahead, or no such path. readable: it is a path as far as the horizon."""

    metres: float
    readable: bool
    collides: bool


@dataclass
class Outcome:
    """One measure of one adapter. ``event``: of ``distances.Gains``, once it is known."""

    measure: Measure
    reading: Reading
    event: float = 0.0
    _paths: dict[tuple[int, str], Path] = field(default_factory=dict, repr=False)
    _truths: dict[int, Future | None] = field(default_factory=dict, repr=False)

    # --- what counts ------------------------------------------------------------------------------------------------------------------

    @property
    def unit(self) -> str:
        """Of differences and margins."""
        return METRES if self.measure == L2 else POINTS if self.measure == ACCURACY else f"{POINTS} of agreement"

    @property
    def figure(self) -> str:
        """The measure by its full name: ``accuracy``, ``agreement``, ``l2_stp3_3s``."""
        return self._l2 if self.measure == L2 else self.measure

    def danger(self, questions: Sequence[QuestionRow]) -> str | None:
        """What is dangerous in answers to these questions; None: nobody says."""
        kinds = {self.reading.kind(question.type) for question in questions}
        return PATH_DANGER if "waypoints" in kinds else PLAN_DANGER if "plan" in kinds else None

    def counts(self, question: QuestionRow) -> bool:
        """Whether the question has what the measure needs."""
        if self.measure == AGREEMENT:
            return True
        return self._truth(question) is not None if self.measure == L2 else labelled(question, self.reading)

    # --- pairs ------------------------------------------------------------------------------------------------------------------------

    def pair(self, questions: Sequence[QuestionRow], unpruned: Texts, pruned: Texts) -> Pairs:
        """Unpruned against pruned. Of l2, questions that unpruned does not answer with a path count for nothing."""
        common = [q for q in questions if q.question in unpruned and q.question in pruned]
        if self.measure == L2:
            common = [q for q in common if not math.isnan(self._path(q, unpruned[q.question]).metres)]
        before, after, dangerous = [], [], []
        for q in common:
            first, second = unpruned[q.question], pruned[q.question]
            before.append(True if self.measure == AGREEMENT else self._figure(q, first))
            after.append(agree(q, first, second, self.reading) if self.measure == AGREEMENT else self._figure(q, second))
            if first != second and self._dangerous(q, first, second):
                dangerous.append(q.scene)
        told = None if self.danger(common) is None else tuple(dict.fromkeys(dangerous))
        return Pairs(tuple(common), tuple(before), tuple(after), told, self.unit, self.event)

    def trivial(self, questions: Sequence[QuestionRow], unpruned: Texts) -> tuple[str, Pairs]:
        """A control that sees nothing: the most frequent label (or unpruned answer) for every question; of paths, their mean."""
        asked = [q for q in questions if q.question in unpruned]
        if "waypoints" in {self.reading.kind(q.type) for q in asked}:
            return MEAN_PATH, self._mean_path(asked, unpruned)
        if self.measure == AGREEMENT:
            said = [self._meaning(q, unpruned[q.question], label=False) for q in asked]
        else:
            said = [self._meaning(q, q.label, label=True) for q in asked]
        most = max(sorted(set(said)), key=Counter(said).__getitem__) if said else ""
        before = tuple(self.measure == AGREEMENT or self._figure(q, unpruned[q.question]) for q in asked)
        return MAJORITY, Pairs(tuple(asked), before, tuple(one == most for one in said), None, self.unit)

    def _figure(self, question: QuestionRow, text: str) -> float:
        return self._path(question, text).metres if self.measure == L2 else right(question, text, self.reading)

    def _meaning(self, question: QuestionRow, text: str, label: bool) -> str:
        if not judges(question.type, self.reading):
            if question.type == "plan":
                return plan_meaning(text if label else self.reading.written("plan", text, question.text))
            return text.strip()
        read = self.reading.label if label else self.reading.answer
        found = read(question.type, text, question.text)
        return "" if found is None else self.reading.meaning(found)

    def _dangerous(self, question: QuestionRow, unpruned: str, pruned: str) -> bool:
        kind = self.reading.kind(question.type)
        if kind == "waypoints":
            first, second = self._path(question, unpruned), self._path(question, pruned)
            return (second.collides and not first.collides) or (first.readable and not second.readable)
        if kind != "plan":
            return False
        unpruned, pruned = (self.reading.written(question.type, text, question.text) for text in (unpruned, pruned))
        return severity("plan", unpruned if self.measure == AGREEMENT else question.label, unpruned, pruned) in DANGEROUS

    # --- paths ------------------------------------------------------------------------------------------------------------------------

    @property
    def _horizon(self) -> float:
        return self.reading.adapter.score.horizons_s[-1]

    @property
    def _l2(self) -> str:
        """The key of ``waypoint_row`` that l2 is."""
        return f"l2_{self.reading.adapter.score.conventions[0]}_{self._horizon:g}s"

    @property
    def _steps(self) -> int:
        return round(self._horizon / STEP_S)

    def _truth(self, question: QuestionRow) -> Future | None:
        """The true path as far as the horizon, with boxes where the tables gave them; None: not known so far ahead."""
        if question.question not in self._truths:
            self._truths[question.question] = self._find_truth(question)
        return self._truths[question.question]

    def _find_truth(self, question: QuestionRow) -> Future | None:
        if self.reading.kind(question.type) != "waypoints":
            return None
        if question.future is not None:
            found = Future.of(question.future)
        else:
            label = self.reading.label(question.type, question.label, question.text) if question.label.strip() else None
            if not isinstance(label, Waypoints):
                return None
            path = at_steps(label, self._steps)
            found = Future(path, np.ones(len(path), dtype=bool), [np.zeros((0, 5))] * len(path))
        return found if len(found.valid) >= self._steps and found.valid[: self._steps].all() else None

    def _path(self, question: QuestionRow, text: str) -> Path:
        key = (question.question, text)
        if key not in self._paths:
            self._paths[key] = self._measured(question, self.reading.answer(question.type, text, question.text))
        return self._paths[key]

    def _measured(self, question: QuestionRow, answer: Answer) -> Path:
        score, future = self.reading.adapter.score, self._truth(question)
        plan = at_steps(answer, self._steps) if isinstance(answer, Waypoints) else np.zeros((0, 2))
        readable = len(plan) == self._steps
        if future is None or not readable:
            return Path(math.nan, readable, False)
        metres = waypoint_row(answer, future, score)[self._l2]
        assert metres is not None  # path and truth reach the horizon
        boxes = future.boxes[: self._steps]
        struck = collisions(plan, boxes, score.heading) & ~collisions(future.path[: self._steps], boxes, score.heading)
        return Path(metres, True, bool(struck.any()))

    def _mean_path(self, questions: Sequence[QuestionRow], unpruned: Texts) -> Pairs:
        """Every question answered with the mean of their true paths; of agreement, with the mean of the unpruned ones."""
        read: dict[int, Any] = {q.question: self.reading.answer(q.type, unpruned[q.question], q.text) for q in questions}
        spec = {q.question: self.reading.adapter.parse.of(q.type) for q in questions}
        if self.measure == AGREEMENT:
            common = [q for q in questions if isinstance(read[q.question], Waypoints)]
            lengths = Counter(len(read[q.question].points) for q in common)
            length = max(lengths, key=lengths.__getitem__) if lengths else 0
            same = [read[q.question].points for q in common if len(read[q.question].points) == length]
            mean = np.mean(same, axis=0) if same else np.zeros((0, 2))
            after = [self.reading.same(Waypoints(mean, spec[q.question].dt, spec[q.question].axes), read[q.question]) for q in questions]
            return Pairs(tuple(questions), (True,) * len(questions), tuple(after), None, self.unit)
        common = [q for q in questions if not math.isnan(self._path(q, unpruned[q.question]).metres)]
        truths = {q.question: self._truth(q) for q in common}
        paths = [future.path[: self._steps] for future in truths.values() if future is not None]
        if not paths:
            return Pairs((), (), (), None, self.unit, self.event)
        answer = Waypoints(np.mean(paths, axis=0), STEP_S)
        before = tuple(self._path(q, unpruned[q.question]).metres for q in common)
        return Pairs(tuple(common), before, tuple(self._measured(q, answer).metres for q in common), None, self.unit, self.event)


def outcome_of(wanted: Measure | None, reading: Reading, questions: Sequence[QuestionRow], where: str) -> Outcome:
    """The measure that was asked for, or the one that these questions allow: l2 of paths whose truth is known, accuracy where there
    are labels, else agreement.

    Args:
        where: names the question file in an error.
    Raises:
        SennaPruneError: the adapter's answers, or the questions, do not have what the measure needs.
    """
    kinds = {reading.kind(question.type) for question in questions}
    if "waypoints" in kinds and len(kinds) > 1:
        raise SennaPruneError(f"{where}: paths and other answers have no figure in common: name the types of one of them with --types")
    if wanted is None:
        told = any(question.label.strip() or question.future for question in questions)
        right_or_wrong = any(closed(question.type, reading) for question in questions)
        wanted = AGREEMENT if not told else L2 if "waypoints" in kinds else ACCURACY if right_or_wrong else AGREEMENT
    found = Outcome(wanted, reading)
    said = " and ".join(sorted(kinds))
    if wanted == L2 and "waypoints" not in kinds:
        raise SennaPruneError(f"--measure l2 is of waypoints, and this adapter reads answers as {said}: take accuracy or agreement")
    if wanted == ACCURACY and "waypoints" in kinds:
        raise SennaPruneError(
            "--measure accuracy is of answers that are right or wrong, and this adapter reads waypoints: take l2 or agreement"
        )
    if not any(found.counts(question) for question in questions):
        needs = (
            "true path as far as the last horizon: say where the tables are with --tables DIR" if wanted == L2 else "label that can be read"
        )
        raise SennaPruneError(f"{where}: no question has a {needs}, or take --measure agreement, which needs none")
    return found
