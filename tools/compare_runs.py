"""Compare the planning answers of two runs, or of two settings of one: who is right more often, and is it more than luck?

    python tools/compare_runs.py runs/base runs/finetuned
    python tools/compare_runs.py runs/base runs/base --setting unpruned --setting-b autoprune

Runs come from `senna-prune eval`, `sweep` or evaluate_split.py; `senna-prune compare` does the same and more.
"""

from __future__ import annotations

import argparse
import sys

from senna_autoprune import SennaPruneError
from senna_autoprune.demo import label_of_run
from senna_autoprune.evaluation.measures.flips import flip_table
from senna_autoprune.evaluation.measures.intervals import Paired, difference_interval
from senna_autoprune.evaluation.measures.paired_tests import scene_test
from senna_autoprune.evaluation.measures.parsing import parse_plan
from senna_autoprune.evaluation.measures.retention import accuracy, mcnemar
from senna_autoprune.evaluation.measures.summary import flips_between
from senna_autoprune.evaluation.runs.store import QuestionRow, RunStore


def read(run: str, setting: str) -> dict[tuple[str, str, str], tuple[QuestionRow, str]]:
    """(token, text, label) -> a planning question of a run and its answer. SennaPruneError: no run, or no answers of the setting."""
    with RunStore.read(run) as store:
        texts = {row.question: row.answer for row in store.answers(setting) if row.answer is not None}
        plans = [q for q in store.questions() if q.type == "plan" and parse_plan(q.label).valid]
        if not any(q.question in texts for q in plans):
            raise SennaPruneError(f"{run} has no planning answers of {setting!r}; it has {', '.join(sorted(store.proven())) or 'none'}")
        said = label_of_run(store.config)
    print(f"{run}, {setting}" + (f" ({said})" if said else ""))
    return {(q.token, q.text, q.label.strip()): (q, texts[q.question]) for q in plans if q.question in texts}


def main(arguments: list[str] | None = None) -> None:
    """SennaPruneError: a run cannot be read, or the two have no question in common."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("a", help="run folder")
    parser.add_argument("b", help="run folder to compare with it")
    parser.add_argument("--setting", default="unpruned", help="whose answers, as the run's table calls it (default: %(default)s)")
    parser.add_argument("--setting-b", help="whose answers of B (default: the same)")
    parser.add_argument("--flips", type=int, default=5, help="how many changed answers to list, worst first (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the sign flips, where they are drawn (default: %(default)s)")
    options = parser.parse_args(arguments)

    a, b = read(options.a, options.setting), read(options.b, options.setting_b or options.setting)
    both = [key for key in a if key in b]
    if not both:
        raise SennaPruneError(f"{options.a} and {options.b} have no answered question (sample, text and label) in common")
    scenes = [a[key][0].scene for key in both]
    hits = [[parse_plan(run[key][1]) == parse_plan(key[2]) for key in both] for run in (a, b)]
    pairs = Paired.of(*hits, scenes)
    print(f"{len(both)} questions of {len(set(scenes))} scenes; only in A: {len(a) - len(both)}, only in B: {len(b) - len(both)}")
    print(*(f"{name}: {sum(right)} right, {points(accuracy(right, scenes))} %" for name, right in zip("AB", hits, strict=True)), sep="\n")
    print(f"B - A: {points(difference_interval(pairs), '+')} points; in brackets: 95 % score intervals over scenes")
    test, extra = scene_test(pairs, options.seed), mcnemar(*hits).p_value
    said = f"only A right: {test.lost}, only B right: {test.gained}, p = {test.p_value:.3g} by sign flips of whole scenes"
    print(f"{said}; McNemar's exact p = {extra:.3g} (questions as if independent)")
    answers = [{a[key][0].question: run[key][1] for key in both} for run in (a, b)]
    flips = flips_between([a[key][0] for key in both], *answers, setting="B")
    table = flip_table(flips, len(both))
    counts = [f"{name} {found['count']}" for name, found in table["by_severity"].items() if found["count"]]
    print(f"{table['flips']} answers differ, {table['harmful']} harmful" + (f": {', '.join(counts)}" if counts else ""))
    for flip in flips[: options.flips]:
        print(f"  {flip.severity}: {flip.scene} {flip.token}: label {flip.label.strip()!r}, A {flip.unpruned!r}, B {flip.pruned!r}")


def points(interval, sign: str = "") -> str:
    """``93.7 [90.1, 96.8]``."""
    value, low, high = (None if one is None else f"{100 * one:{sign}.1f}" for one in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]" if low else f"{value} [no interval: one scene]"


if __name__ == "__main__":
    try:
        main()
    except SennaPruneError as error:
        sys.exit(f"error: {error}")
