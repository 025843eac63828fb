"""Paired outcomes of some questions, scene by scene, and their newly dangerous flips. One question counts where both sides answered."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from senna_autoprune.evaluation.measures.clusters import clusters_of
from senna_autoprune.evaluation.measures.distances import Gains
from senna_autoprune.evaluation.measures.intervals import Paired
from senna_autoprune.evaluation.measures.verdict import METRES, POINTS, Evidence, evidence
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow

FAILED, BUDGET = "failed", "@"  # status of a row without an answer; what the name of a pruned setting holds


@dataclass(frozen=True)
class Pairs:
    """Paired outcomes of some questions.

    Attributes:
        before, after: whether right (or as unpruned is), or in the ``unit`` "m" the distance from the truth, NaN where the answer
            names none.
        dangerous: distinct scenes with a newly dangerous flip; None: nobody says which flips are.
        event: of ``distances.Gains``.
    """

    questions: tuple[QuestionRow, ...]
    before: tuple[float, ...]
    after: tuple[float, ...]
    dangerous: tuple[str, ...] | None
    unit: str = POINTS
    event: float = 0.0

    @property
    def counted(self) -> Paired | Gains:
        clusters = clusters_of(self.questions)
        if self.unit == METRES:
            return Gains.of(self.before, self.after, clusters, self.event)
        return Paired.of([bool(one) for one in self.before], [bool(one) for one in self.after], clusters)

    @property
    def scenes_hit(self) -> int | None:
        """Scenes with a newly dangerous flip."""
        return None if self.dangerous is None else len(self.dangerous)

    def only(self, scenes: Collection[str]) -> Pairs:
        """Of these scenes."""
        kept = [i for i, question in enumerate(self.questions) if question.scene in scenes]
        return self.at(kept)

    def at(self, kept: Iterable[int]) -> Pairs:
        """These questions, by place."""
        kept = list(kept)
        questions = tuple(self.questions[i] for i in kept)
        left = {question.scene for question in questions}
        return Pairs(
            questions,
            tuple(self.before[i] for i in kept),
            tuple(self.after[i] for i in kept),
            None if self.dangerous is None else tuple(s for s in self.dangerous if s in left),
            self.unit,
            self.event,
        )

    def evidence(self, setting: str, tokens: float | None) -> Evidence | None:
        return evidence(setting, tokens, self.counted, self.dangerous, self.unit)


def texts_of(rows: Iterable[AnswerRow]) -> dict[str, dict[int, str]]:
    """setting -> question -> answer in the words that the adapter reads.

    What a pruned model could not answer is an answer that says nothing: it is wrong, and misses the brake; a budget is not
    certified by failing where it is hard.
    """
    texts: dict[str, dict[int, str]] = {}
    for row in rows:
        if row.answer is not None:
            texts.setdefault(row.setting, {})[row.question] = row.words or ""
        elif row.status == FAILED and BUDGET in row.setting:
            texts.setdefault(row.setting, {})[row.question] = ""
    return texts
