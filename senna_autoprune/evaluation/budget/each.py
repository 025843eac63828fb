"""``senna-prune budget --each``: a verdict for every method and control, on all scenes, as plain data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from senna_autoprune.evaluation.answering.settings import Setting
from senna_autoprune.evaluation.budget import certificate
from senna_autoprune.evaluation.budget.ahead import Ahead
from senna_autoprune.evaluation.budget.answers import Pairs
from senna_autoprune.evaluation.budget.config import BudgetConfig
from senna_autoprune.evaluation.budget.design import Design
from senna_autoprune.evaluation.budget.outcome import Outcome
from senna_autoprune.evaluation.budget.sequence import Look, Rules
from senna_autoprune.evaluation.budget.together import Ladder, Seen, descend
from senna_autoprune.evaluation.measures.verdict import NOT_SHOWN, SAFE
from senna_autoprune.evaluation.runs.rows import UNPRUNED
from senna_autoprune.evaluation.sweep.config import RowSpec

Done = Sequence[tuple[float, list[Look]]]


class Search(Protocol):
    """``search.Search``: a run at work."""

    config: BudgetConfig
    plan: Design
    outcome: Outcome
    ahead: Ahead

    @property
    def say(self) -> Callable[[str], None]: ...

    def ask(self, settings: Sequence[Setting], scenes: Iterable[str]) -> None: ...

    def pairs(self, name: str, scenes: Iterable[str]) -> Pairs: ...

    def setting(self, row: RowSpec, share: float) -> Setting: ...

    def impossible(self, setting: Setting) -> str | None: ...

    def sequence(self, row: RowSpec, rules: Rules, done: Done) -> list[dict[str, Any]]: ...

    def beside(self, row: RowSpec, rules: Rules, done: Done) -> dict[str, Any]: ...


def certify_each(work: Search, rules: Rules) -> dict[str, Any]:
    """All methods down their budgets; ``each`` holds a certificate of every one, smallest safe budget first."""
    rows = {row.label: row for row in work.config.candidates}

    def ask(methods: Sequence[str], budget: float, index: int) -> dict[str, Seen | str]:
        settings = {method: work.setting(rows[method], budget) for method in methods}
        scenes = work.plan.upto(index)
        for label in set(rows) - set(methods):  # failed above, or (after the first look) settled here
            (work.ahead.decided if index else work.ahead.stopped)(label, budget)
        work.say(f"{100 * budget:.3g} %: {len(methods)} of {len(rows)} methods on {len(scenes)} scenes")
        work.ask([Setting(UNPRUNED), *settings.values()], scenes)
        return {method: _seen(work, setting, scenes) for method, setting in settings.items()}

    controls = [label for label, row in rows.items() if row.kind == "control"]
    ladders = descend(list(rows), work.config.grid, rules, ask, controls)
    found = [_entry(work, rules, rows[one.method], one) for one in ladders]
    found.sort(key=lambda one: (one["kind"] == "control", one["budget"] is None, one["budget"] or 0.0, -one["lower"]))
    outcome, sentence = sentence_of(found)
    result: dict[str, Any] = {"each": found, "outcome": outcome, "sentence": sentence, "exit_code": certificate.EXIT[outcome]}
    best = next((one for one in ladders if one.method == best_of(found)["method"] and one.done), None)
    if best is None:
        return result
    return {**result, "best": best.method, **work.beside(rows[best.method], rules, best.done)}


def _seen(work: Search, setting: Setting, scenes: Sequence[str]) -> Seen | str:
    impossible = work.impossible(setting)
    if impossible is not None:
        return impossible or "out of reach"
    pairs = work.pairs(setting.name, scenes)
    return (pairs.counted, pairs.scenes_hit) if pairs.counted.questions else "not one question was answered; see the run's failed rows"


def _entry(work: Search, rules: Rules, row: RowSpec, one: Ladder) -> dict[str, Any]:
    """One method's certificate. ``lower``: at the smallest safe budget, else at the first that failed; -1 where none was asked."""
    at = (one.safe or one.done or [(0.0, [])])[-1 if one.safe else 0]
    if one.done:
        outcome, sentence = certificate.sentence_of(one.method, rules, one.done, work.outcome.unit)
    else:
        outcome, sentence = NOT_SHOWN, f"{one.method}: nothing could be asked"
    sequence = work.sequence(row, rules, one.done)
    here = next((step for step in sequence if one.done and step["budget"] == at[0]), None)
    return {
        "method": one.method,
        "kind": row.kind,
        "budget": one.budget,
        "outcome": outcome,
        "sentence": sentence,
        "together": one.together,
        "stopped": one.stopped,
        "lower": at[1][-1].lower if at[1] else -1.0,
        "at": here,
        "sequence": sequence,
    }


def best_of(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What the sentence is about: the method with the smallest safe budget, of those that hold together where there are any; a control
    only where nothing else was asked.
    """
    held = [one for one in found if one["kind"] != "control" and one["budget"] is not None and one["together"]]
    return (held or list(found))[0]


def sentence_of(found: Sequence[dict[str, Any]]) -> tuple[str, str]:
    """(outcome, sentence) of the whole table: what may be said of the best method though it is the best of many."""
    methods = [one for one in found if one["kind"] != "control"]
    safe = [one for one in methods if one["budget"] is not None]
    if not safe:
        return NOT_SHOWN, f"no budget was shown to be safe with any of {len(methods)} methods"
    held, best = [one for one in safe if one["together"]], best_of(found)
    many = f"{len(safe)} of {len(methods)} methods have a safe budget"
    if held:
        return SAFE, f"{best['sentence']}; {many}, {len(held)} of them also when corrected for trying so many (Holm)"
    return SAFE, f"{best['sentence']}; {many}, each tested by itself: corrected for trying so many (Holm) none is left"
