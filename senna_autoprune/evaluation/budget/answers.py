"""Answers of a run -> paired rights and newly dangerous flips, scene by scene. One question counts where both sides answered."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from senna_autoprune.evaluation.measures.clusters import clusters_of
from senna_autoprune.evaluation.measures.flips import DANGEROUS, severity
from senna_autoprune.evaluation.measures.intervals import Paired
from senna_autoprune.evaluation.measures.parsing import parse_plan, plan_meaning
from senna_autoprune.evaluation.measures.verdict import Evidence, evidence
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow

Texts = Mapping[int, str]  # question -> answer


@dataclass(frozen=True)
class Pairs:
    """Paired answers of some questions. ``dangerous``: distinct scenes with a newly dangerous flip."""

    questions: tuple[QuestionRow, ...]
    before: tuple[bool, ...]
    after: tuple[bool, ...]
    dangerous: tuple[str, ...]

    @property
    def counted(self) -> Paired:
        return Paired.of(self.before, self.after, clusters_of(self.questions))

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
            tuple(s for s in self.dangerous if s in left),
        )

    def evidence(self, setting: str, tokens: float | None) -> Evidence | None:
        return evidence(setting, tokens, self.counted, self.dangerous)


def texts_of(rows: Iterable[AnswerRow]) -> dict[str, dict[int, str]]:
    """setting -> question -> answer, of rows that have one."""
    texts: dict[str, dict[int, str]] = {}
    for row in rows:
        if row.answer is not None:
            texts.setdefault(row.setting, {})[row.question] = row.answer
    return texts


def pair(questions: Sequence[QuestionRow], unpruned: Texts, pruned: Texts, measure: str = "accuracy") -> Pairs:
    """Unpruned against pruned. measure "agreement": right is to mean what the unpruned answer means, so "before" is always right."""
    common = [q for q in questions if q.question in unpruned and q.question in pruned]
    before, after, dangerous = [], [], []
    for q in common:
        first, second = unpruned[q.question], pruned[q.question]
        if measure == "agreement":
            before.append(True)
            after.append(plan_meaning(first) == plan_meaning(second))
        else:
            label = parse_plan(q.label)
            before.append(parse_plan(first) == label)
            after.append(parse_plan(second) == label)
        reference = first if measure == "agreement" else q.label
        if first != second and severity("plan", reference, first, second) in DANGEROUS:
            dangerous.append(q.scene)
    return Pairs(tuple(common), tuple(before), tuple(after), tuple(dict.fromkeys(dangerous)))
