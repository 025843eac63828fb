"""Does the complexity that AutoPrune measures mean anything: mutual information beside correctness and tokens kept.

A budget fixes how many tokens a question keeps on average over the layers; what its mutual information decides is where: the
curve over depth. Tokens kept are therefore counted by quarters of the depth, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from senna_autoprune.adapters.reading import Reading
from senna_autoprune.evaluation.measures.metrics import share
from senna_autoprune.evaluation.measures.rightness import labelled, right
from senna_autoprune.evaluation.runs.rows import UNPRUNED, AnswerRow, QuestionRow, whole
from senna_autoprune.report.run import Run, section
from senna_autoprune.tables.grid import Grid, number, percent

QUARTERS = ("first quarter", "second quarter", "third quarter", "last quarter")  # of the layers


@dataclass(frozen=True)
class Measured:
    """A question whose complexity was measured. quarters: mean tokens entering the layers of each quarter of the depth."""

    information: float
    right_before: bool
    right_after: bool
    tokens: float
    quarters: tuple[float, ...]


@dataclass(frozen=True)
class Separation:
    """How well mutual information tells wrong answers from right ones. auc: probability that a wrong answer's is the lower
    one (0.5: it tells nothing). p_value: two-sided Mann-Whitney test, which takes questions as independent.
    """

    right: int
    wrong: int
    median_right: float
    median_wrong: float
    auc: float
    p_value: float


def measured(questions: Sequence[QuestionRow], answers: Sequence[AnswerRow], method: str, reading: Reading | None = None) -> list[Measured]:
    """Questions of one type with a readable label, answered by both, with mutual information in the method's trace: planning
    questions where the adapter's answers to them are right or wrong, else the closed type that most are of.
    """
    asked = [question for question in questions if labelled(question, reading)]
    kinds = Counter(question.type for question in asked)
    kind = "plan" if "plan" in kinds else max(kinds, key=kinds.__getitem__) if kinds else None
    known: dict[tuple[str, str, str], bool] = {}  # few answers, each to many questions

    def is_right(question: QuestionRow, text: str) -> bool:
        key = (question.text, question.label, text)
        if key not in known:
            known[key] = right(question, text, reading)
        return known[key]

    before = {row.question: row.words for row in answers if row.setting == UNPRUNED}
    after = {row.question: row for row in answers if row.setting == method}
    found = []
    for question in asked:
        row, text = after.get(question.question), before.get(question.question)
        if question.type != kind or row is None or text is None or row.words is None:
            continue
        trace = None if row.trace is None else whole(row.trace)
        if trace is not None and trace["mutual_information"] is not None:
            found.append(
                Measured(
                    trace["mutual_information"],
                    is_right(question, text),
                    is_right(question, row.words),
                    trace["average_tokens"],
                    _quarters(trace["tokens_per_layer"]),
                )
            )
    return found


def _quarters(entering: Sequence[int]) -> tuple[float, ...]:
    """As ``numpy.array_split`` splits: the first quarters are the longer ones."""
    each, more = divmod(len(entering), len(QUARTERS))
    edges = [number * each + min(number, more) for number in range(len(QUARTERS) + 1)]
    parts = [entering[start:end] for start, end in pairwise(edges)]
    return tuple(sum(part) / len(part) if part else float("nan") for part in parts)


def information_of(run: Run) -> tuple[list[Measured], str]:
    """The run's ``measured`` questions, and what their number is, with its unit."""
    options = section(section(run.description, "settings")[run.method], "options")
    if options.get("indicator") in ("cosine", "attention"):
        name = f"{options['indicator']} indicator"
    else:
        name = "mutual information, bits over all heads" if options.get("mode") == "release" else "mutual information, nats"
    reading = Reading.of(run.description.get("adapter"))
    return measured(run.questions, run.answers, run.method, reading), name


def separation(found: Sequence[Measured], pruned: bool = True) -> Separation | None:
    """Of the pruned answers, or the unpruned ones. None where all are right or all are wrong."""
    from scipy.stats import mannwhitneyu

    sides: dict[bool, list[float]] = {True: [], False: []}
    for one in found:
        sides[one.right_after if pruned else one.right_before].append(one.information)
    right, wrong = sides[True], sides[False]
    if not right or not wrong:
        return None
    test = mannwhitneyu(right, wrong)
    auc = float(test.statistic) / (len(right) * len(wrong))  # pairs in which the right answer's is the higher one
    return Separation(len(right), len(wrong), float(np.median(right)), float(np.median(wrong)), auc, float(test.pvalue))


def information_grid(found: Sequence[Measured], name: str) -> Grid:
    """Quarters of the questions by mutual information: how many were right, what they kept and where."""
    tokens = [f"tokens,\n{quarter}" for quarter in QUARTERS]
    grid = Grid(
        "Questions by mutual information, lowest quarter first",
        [name.replace(", ", ",\n"), "questions", "right,\nunpruned", "right,\npruned", "tokens\na layer", *tokens],
        notes=["tokens: visual tokens entering a layer, on average over all layers and over each quarter of the depth"],
    )
    ranked = sorted(found, key=lambda one: one.information)
    for part in np.array_split(np.arange(len(ranked)), min(4, len(ranked))):
        group = [ranked[index] for index in part]
        low, high = group[0].information, group[-1].information
        means = np.mean([(one.tokens, *one.quarters) for one in group], axis=0)
        grid.rows.append(
            [
                f"{number(low)} to {number(high)}",
                str(len(group)),
                percent(share(sum(one.right_before for one in group), len(group))),
                percent(share(sum(one.right_after for one in group), len(group))),
                *(number(float(mean), 1) for mean in means),
            ]
        )
    return grid
