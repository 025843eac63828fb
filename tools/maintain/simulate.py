"""What the intervals cover and how often a budget is wrongly called safe, by simulation -> docs/results/statistics.md.

    python tools/maintain/simulate.py --models 10000 --runs 1000 --out docs/results/statistics.md

Scenes have their own chance of losing or gaining an answer (Dirichlet-multinomial), so that questions of a scene err together.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from time import process_time

import numpy as np

from senna_autoprune.evaluation.budget.sequence import Rules, examine
from senna_autoprune.evaluation.measures.intervals import Paired, difference_interval
from senna_autoprune.evaluation.measures.paired_tests import scene_test
from senna_autoprune.evaluation.measures.retention import bootstrap, mcnemar
from senna_autoprune.evaluation.measures.verdict import SAFE

STOPS, MARGIN, CORRELATION = (25, 50, 75), 0.02, 0.1


def scenes(rng: np.random.Generator, count: int, questions: float, lost: float, gained: float, correlation: float) -> Paired:
    """``count`` scenes with about ``questions`` questions each; correlation: of two questions of one scene."""
    sizes = np.maximum(1, rng.poisson(questions, size=count))
    chance = np.array([lost, gained, 1 - lost - gained])
    shares = np.broadcast_to(chance, (count, 3))
    if correlation:
        parts = rng.gamma(chance * (1 - correlation) / correlation, size=(count, 3)) + 1e-300
        shares = parts / parts.sum(axis=1, keepdims=True)
    drawn = rng.multinomial(sizes, shares).astype(np.float64)
    both = rng.binomial(drawn[:, 2].astype(int), 0.9).astype(np.float64)
    return Paired(both, drawn[:, 0], drawn[:, 1], sizes.astype(np.float64))


def coverage(runs: int) -> Iterator[str]:
    """Rows: scenes, questions a scene, flips, correlation -> coverage of our interval and of the percentile bootstrap."""
    rng = np.random.default_rng(0)
    yield "| scenes | questions a scene | lost | gained | correlation | score interval | percentile bootstrap |"
    yield "|---:|---:|---:|---:|---:|---:|---:|"
    for count in (40, 67, 150):
        for questions in (3, 34):
            for lost, gained in ((0.02, 0.01), (0.05, 0.03), (0.003, 0.003)):
                for correlation in (0.0, 0.1, 0.2):
                    ours = theirs = 0
                    for run in range(runs):
                        pairs, truth = scenes(rng, count, questions, lost, gained, correlation), gained - lost
                        found = difference_interval(pairs)
                        ours += found.low <= truth <= found.high
                        sums = np.stack([pairs.gained - pairs.lost, pairs.count], axis=1)
                        other = bootstrap([sums], lambda s: s[..., 0] / s[..., 1], 400, run)
                        theirs += other.low is not None and other.low <= truth <= other.high
                    cells = (count, questions, f"{100 * lost:g} %", f"{100 * gained:g} %", correlation)
                    yield "| " + " | ".join(map(str, cells)) + f" | {100 * ours / runs:.1f} % | {100 * theirs / runs:.1f} % |"


def level(runs: int) -> Iterator[str]:
    """How often nothing is called something at 5 %: whole scenes that change sign, and McNemar over questions."""
    rng = np.random.default_rng(1)
    yield "| scenes x questions | correlation | sign flips by scene | McNemar by question |"
    yield "|---|---:|---:|---:|"
    for count, questions in ((67, 3), (150, 34)):
        for correlation in (0.05, 0.1, 0.2):
            ours = theirs = 0
            for _ in range(runs):
                found = scene_test(scenes(rng, count, questions, 0.02, 0.02, correlation))
                ours += found.p_value < 0.05
                before = [True] * found.lost + [False] * found.gained
                theirs += mcnemar(before, [not one for one in before]).p_value < 0.05
            yield f"| {count} x {questions} | {correlation} | {100 * ours / runs:.1f} % | {100 * theirs / runs:.1f} % |"


def budgets(models: int) -> Iterator[str]:
    """The test of one budget: how often it is called safe at true losses from none to the margin, and how many scenes it asks."""
    rng, none = np.random.default_rng(2), 0.999  # a safety margin that always passes: accuracy alone decides
    yield "| true loss | questions a scene | correlation | models | called safe | scenes asked, of 75 |"
    yield "|---:|---:|---:|---:|---:|---:|"
    for loss in (MARGIN, 2 * MARGIN, MARGIN / 2, 0.0):
        for questions in (10, 34):
            number = models if loss == MARGIN else models // 5
            safe, asked = 0, 0
            for _ in range(number):
                pairs = scenes(rng, STOPS[-1], questions, 0.01 + loss, 0.01, CORRELATION)
                looks = examine(Rules(MARGIN, none, STOPS), lambda index, pairs=pairs: (pairs.take(np.arange(STOPS[index])), 0))
                safe += looks[-1].outcome == SAFE
                asked += looks[-1].scenes
            cells = (f"{100 * loss:g} points", questions, CORRELATION, number, f"{100 * safe / number:.2f} %", f"{asked / number:.1f}")
            yield "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=10_000, help="at the margin (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=1000, help="of each row of coverage and level (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/results/statistics.md"))
    options = parser.parse_args()
    command = f"python tools/maintain/simulate.py --models {options.models} --runs {options.runs}"
    lines = ["# What the statistics hold, by simulation", "", f"Made by `{command}`; seeds are fixed."]
    parts = (
        (f"A budget called safe: margin {100 * MARGIN:g} points, looks at {', '.join(map(str, STOPS))} scenes", budgets(options.models)),
        ("Tests at 5 % where nothing is true", level(options.runs)),
        ("Coverage of 95 % intervals of a paired difference", coverage(options.runs)),
    )
    for title, rows in parts:
        begun = process_time()
        lines += ["", f"## {title}", "", *rows, "", f"{process_time() - begun:.0f} s of processor time."]
        options.out.write_text("\n".join(lines) + "\n")
        print(title, flush=True)


if __name__ == "__main__":
    main()
