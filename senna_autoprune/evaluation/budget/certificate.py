"""The outcome of a search as plain data: the sentence, what was tested in which order, what more scenes would show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from math import ceil, inf, isinf
from pathlib import Path
from shlex import join
from typing import Any, NamedTuple

from scipy.special import ndtr

from senna_autoprune.demo import label_of
from senna_autoprune.evaluation.budget.answers import Pairs
from senna_autoprune.evaluation.budget.sequence import Look, Rules
from senna_autoprune.evaluation.measures.breakdown import UNKNOWN
from senna_autoprune.evaluation.measures.clusters import NO_VERDICT
from senna_autoprune.evaluation.measures.distances import Gains
from senna_autoprune.evaluation.measures.intervals import CAUTIOUS, difference_effect, scenes_upper
from senna_autoprune.evaluation.measures.paired_tests import sample_size
from senna_autoprune.evaluation.measures.verdict import BLIND, CONFIDENCE, METRES, NOT_SHOWN, POINTS, SAFE, Evidence, amount, judge
from senna_autoprune.evaluation.runs.rows import QuestionRow
from senna_autoprune.nuscenes.labels import labels_of

MOST_SCENES = 1_000_000
EXIT = {SAFE: 0, NOT_SHOWN: 4, BLIND: 5}  # exit codes of the command


def evidence_of(setting: str, tokens: float, seen: Look, unit: str = POINTS) -> Evidence:
    """A look as what the verdict's sentence is made of."""
    return Evidence(setting, tokens, seen.questions, seen.scenes, seen.difference, seen.lower, seen.dangerous, seen.dangerous_upper, unit)


def sentence_of(method: str, rules: Rules, done: Sequence[tuple[float, list[Look]]], unit: str = POINTS) -> tuple[str, str]:
    """(outcome, sentence) of a finished sequence: the smallest budget that was certified, and the first that was not."""
    safe = [(budget, looks[-1]) for budget, looks in done if looks[-1].outcome == SAFE]
    failed = [(budget, looks[-1]) for budget, looks in done if looks[-1].outcome != SAFE]
    if not safe:
        budget, seen = failed[0]
        verdict = judge(evidence_of(method, budget, seen, unit), rules.margin, rules.safety)
        return NOT_SHOWN, f"no budget was shown to be safe; {verdict.sentence}"
    budget, seen = safe[-1]
    found = evidence_of(method, budget, seen, unit)
    # what passed early stays passed, though a later look's own bound may lie a little lower
    upper = None if seen.dangerous_upper is None else min(seen.dangerous_upper, rules.safety)
    said = replace(found, lower=max(seen.lower, -rules.margin * (1 - 1e-9)), dangerous_upper=upper)
    text = judge(said, rules.margin, rules.safety).sentence
    return SAFE, text + (f"; {100 * failed[0][0]:.3g} % was not shown to be safe" if failed else "; no smaller budget was tried")


def needed(rules: Rules, pairs: Pairs) -> dict[str, Any]:
    """How many scenes a budget that was not shown would need for 80 % power, if its true loss is the observed one.

    ``scenes`` is None where no number would do: the observed loss or share of dangerous scenes is at the margin or beyond.
    """
    counted = pairs.counted
    level = float(ndtr(-rules.bounds[-1]))
    if isinstance(counted, Gains):
        accuracy = counted.scenes_needed(rules.margin, level, 0.8)
    else:
        effect = difference_effect(counted, 1 - rules.alpha, CAUTIOUS)
        discordant = max(counted.changed, 1 / counted.questions)
        questions = sample_size(discordant, rules.margin, level, 0.8, effect, min(counted.difference, 0.0))
        accuracy = inf if isinf(questions) else questions * counted.scenes / counted.questions
    safety = 0.0 if pairs.scenes_hit is None else scenes_needed(pairs.scenes_hit / counted.scenes, rules.safety, level)
    most = max(accuracy, safety)
    return {
        "scenes": None if isinf(most) or most > MOST_SCENES else ceil(most),
        "scenes_accuracy": None if isinf(accuracy) else ceil(accuracy),
        "scenes_safety": None if isinf(safety) else ceil(safety),
        "power": 0.8,
    }


def scenes_needed(rate: float, safety: float, level: float) -> float:
    """The smallest number of scenes whose exact bound is ``safety`` or less if the share of dangerous ones stays ``rate``."""
    if rate >= safety:
        return inf
    low, high = 1, 1
    while (scenes_upper(round(rate * high), high, 1 - level) or 1.0) > safety:
        low, high = high, 2 * high
        if high > MOST_SCENES:
            return inf
    while low < high:
        middle = (low + high) // 2
        if (scenes_upper(round(rate * middle), middle, 1 - level) or 1.0) <= safety:
            high = middle
        else:
            low = middle + 1
    return high


def power_sentence(budget: float, found: dict[str, Any]) -> str:
    """``20 % would need about 220 scenes``."""
    if found["scenes"] is None:
        return f"{100 * budget:.3g} %: no number of scenes would show it, if what was observed is the truth"
    return f"{100 * budget:.3g} % would need about {found['scenes']} scenes to certify on (80 % power, if its loss is the observed one)"


def blind_sentence(control: str, margin: float, questions: Path, types: Sequence[str], groups: Groups, unit: str = POINTS) -> str:
    """Why nothing can be certified here, and the command that draws questions which can show harm, where a draw can.

    Args:
        types: of the questions that count. groups: of these questions, what is to come equally often.
    """
    folder = Path() if label_of(questions) is not None else questions.parent  # nobody writes into the package
    out = folder / f"{questions.stem}-balanced.json"
    words = ["senna-prune", "questions", "sample", str(questions), "--out", str(out)]
    count = balanced_count(groups.sizes)
    sample = join([*words, "--types", ",".join(types), "--count", str(count), "--by", groups.by])
    why = f"these questions cannot show harm: {control} too is not worse by more than {amount(margin, unit)} ({CONFIDENCE})"
    if len(groups.sizes) < 2:
        return f"{why}. All have the same {groups.by.replace('_', ' ')}, so no draw of them can: bring questions with others"
    if count == groups.sizes.total():
        said = f"no {groups.by.replace('_', ' ')} is the usual one, so it is the prompt that gives the answers away"
        return f"{why}. Of these {count} {said}: build them without (`senna-prune questions build --navigation none`, for nuScenes)"
    few = f" ({count} questions are too few for that: bring more with the rarer ones)" if count < 2 * NO_VERDICT else ""
    return f"{why}. Draw a set in which no answer is the usual one (`{sample}`) and give it to --questions, with another --out{few}"


class Groups(NamedTuple):
    """Questions by what is to come equally often: a condition of ``questions sample``, and how many there are of each of its values."""

    by: str
    sizes: Counter[str]


def groups_of(questions: Sequence[QuestionRow], unit: str) -> Groups:
    """By label; of paths, and where not every question has one, by the band of speed that the question states."""
    labels = [labels_of(question.type, question.label) if question.label.strip() else [] for question in questions]
    if unit != METRES and all(len(one) == 1 for one in labels):
        return Groups("label", Counter(one[0] for one in labels))
    return Groups("speed_band", Counter(question.attributes.get("speed_band", UNKNOWN) for question in questions))


def balanced_count(groups: Counter[str]) -> int:
    """How many questions to draw so that the largest group comes as often as the others do on average."""
    sizes = sorted(groups.values())
    rest = sizes[:-1] or sizes
    return sum(min(size, ceil(sum(rest) / len(rest))) for size in sizes)
