"""Two finished runs, question by question: two checkpoints, two methods, two dtypes, on what both answered."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from senna_autoprune.demo import label_of_run
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.measures.clusters import NO_VERDICT, clusters_of, scene_warning
from senna_autoprune.evaluation.measures.flips import Flip, flip_table, meanings
from senna_autoprune.evaluation.measures.intervals import Paired, difference_interval, ratio_interval
from senna_autoprune.evaluation.measures.paired_tests import non_inferiority, scene_test
from senna_autoprune.evaluation.measures.parsing import parse_plan
from senna_autoprune.evaluation.measures.retention import accuracy, mcnemar
from senna_autoprune.evaluation.measures.summary import flips_between
from senna_autoprune.evaluation.measures.verdict import CONFIDENCE, down, points, up
from senna_autoprune.evaluation.runs.rows import PRUNING_CONTROLS, UNPRUNED, QuestionRow
from senna_autoprune.evaluation.runs.store import RunStore

MOST_NAMED = 8  # settings of a run, in an error
Key = tuple[str, str, str]  # token, text, label: the same question in any question file


@dataclass(frozen=True)
class Side:
    """The planning answers of one setting of one run."""

    run: str
    setting: str
    label: str | None
    answers: dict[Key, tuple[QuestionRow, str]]


def read_side(run: str | Path, setting: str | None = None) -> Side:
    """A run's answers under one setting; None: the run's own method, of a sweep or a search the only one, unpruned where nothing pruned.

    Raises:
        SennaPruneError: no run, no planning answer of that setting (lists those it has), or several settings and none named.
    """
    with RunStore.read(run) as store:
        config = store.config
        wanted = setting or _own(str(run), (config.get("config") or {}).get("method"), store.proven())
        texts = {row.question: row.answer for row in store.answers(wanted) if row.answer is not None}
        plans = [q for q in store.questions() if q.type == "plan" and parse_plan(q.label).valid and q.question in texts]
        if not plans:
            has = ", ".join(sorted(store.proven())) or "none"
            raise SennaPruneError(f"{run} has no planning answers of {wanted!r}; it has {has}; name one with --setting or --setting-b")
        return Side(str(run), wanted, label_of_run(config), {(q.token, q.text, q.label.strip()): (q, texts[q.question]) for q in plans})


def _own(run: str, method: Any, answered: Collection[str]) -> str:
    """The setting that a run is about: never silently the unpruned answers of one that pruned."""
    if isinstance(method, str):
        return method
    pruned = sorted(name for name in answered if "@" in name and name.partition("@")[0] not in PRUNING_CONTROLS)
    if len(pruned) > 1:
        more = f" and {len(pruned) - MOST_NAMED} more" if len(pruned) > MOST_NAMED else ""
        named = ", ".join([UNPRUNED, *pruned[:MOST_NAMED]])
        raise SennaPruneError(f"{run} has several settings ({named}{more}): name one with --setting or --setting-b")
    return pruned[0] if pruned else UNPRUNED


def compare(a: Side, b: Side, seed: int = 0) -> dict[str, Any]:
    """B against A on their common questions, as plain data: accuracy, difference with interval, test by scene, flips, a sentence.

    Raises:
        SennaPruneError: they have no question in common.
    """
    both = [key for key in a.answers if key in b.answers]
    if not both:
        raise SennaPruneError(f"{a.run} and {b.run} have no answered question (sample, text and label) in common")
    questions = [a.answers[key][0] for key in both]
    scenes = clusters_of(questions)
    before, after = ([parse_plan(side.answers[key][1]) == parse_plan(key[2]) for key in both] for side in (a, b))
    pairs = Paired.of(before, after, scenes)
    texts = [{a.answers[key][0].question: side.answers[key][1] for key in both} for side in (a, b)]
    flips = flips_between(questions, texts[0], texts[1], b.setting)
    table, words = flip_table(flips, len(both), pairs.scenes), meanings("A", "B")
    table["by_severity"] = {name: {**one, "meaning": words[name]} for name, one in table["by_severity"].items()}
    found: dict[str, Any] = {
        "a": {"run": a.run, "setting": a.setting, "label": a.label, "only": len(a.answers) - len(both)},
        "b": {"run": b.run, "setting": b.setting, "label": b.label, "only": len(b.answers) - len(both)},
        "questions": len(both),
        "scenes": pairs.scenes,
        "warning": scene_warning(pairs.scenes),
        "accuracy_a": accuracy(before, scenes).to_dict(),
        "accuracy_b": accuracy(after, scenes).to_dict(),
        "difference": difference_interval(pairs).to_dict(),
        "ratio": ratio_interval(pairs).to_dict(),
        "lower": non_inferiority(pairs, 0.5).lower if pairs.scenes > 1 else None,  # the bound does not depend on the margin
        "scene_test": scene_test(pairs, seed).to_dict(),
        "mcnemar": mcnemar(before, after).to_dict(),
        "flips": {**table, "list": [_named(flip) for flip in flips]},
    }
    return {**found, "sentence": _sentence(found)}


def _named(flip: Flip) -> dict[str, Any]:
    """A flip whose two answers are called A's and B's: neither need be unpruned."""
    names = {"unpruned": "a", "pruned": "b"}
    return {names.get(key, key): value for key, value in flip.to_dict().items()}


def _sentence(found: dict[str, Any]) -> str:
    """What may be said of B against A."""
    gap, test, scenes = found["difference"], found["scene_test"], found["scenes"]
    alike = found["a"]["setting"] == found["b"]["setting"] and found["a"]["run"] != found["b"]["run"]  # at two budgets, say
    ends = {name: f" of {Path(found[name]['run']).name}" if alike else "" for name in "ab"}
    a, b = (f"{name.upper()} ({found[name]['setting']}{ends[name]})" for name in "ab")
    who = f"{b} against {a}"
    if scenes < NO_VERDICT or gap["low"] is None:
        return f"{who}: no verdict, {scenes} scenes (at least {NO_VERDICT} are needed)"
    held, p_value = found["flips"]["scenes"], f"p {test['p_value']:.3g} by scene"
    flips = f"a newly dangerous answer in {held['dangerous']} of {scenes} scenes (at most {100 * up(held['dangerous_upper']):.1f} %)"
    between = f"[{100 * gap['low']:+.1f}, {100 * gap['high']:+.1f}]"
    if gap["high"] < 0 or gap["low"] > 0:  # the interval says which is better: a bound of the loss would only veil it
        worse, small, large = gap["high"] < 0, *sorted((abs(gap["low"]), abs(gap["high"])))
        said = f"{b} is {'worse' if worse else 'better'} than {a} by {points(down(small))} to {points(up(large))} of accuracy"
        return f"{said} ({CONFIDENCE}, {scenes} scenes; {100 * gap['value']:+.1f} {between}), {p_value}; {flips}"
    bound = "no loss" if found["lower"] >= 0 else f"not worse by more than {points(up(-found['lower']))}"
    said = f"{who}: no difference is shown, {100 * gap['value']:+.1f} points of accuracy {between}, {p_value}"
    return f"{said}; {bound} ({CONFIDENCE}, {scenes} scenes), {flips}"
