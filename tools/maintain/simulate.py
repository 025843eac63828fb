"""What the intervals cover and how often a budget is wrongly called safe, by simulation -> docs/results/statistics.md.

    python tools/maintain/simulate.py --models 10000 --runs 1000 --out docs/results/statistics.md

Scenes have their own chance of losing or gaining an answer (Dirichlet-multinomial), so that questions of a scene err together.
The whole procedure runs on models whose budgets are nested: what a scene loses at one budget it also loses at every smaller one.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from time import process_time

import numpy as np
from scipy.special import betaincinv

from senna_autoprune.evaluation.budget.sequence import Rules, examine, in_sequence
from senna_autoprune.evaluation.measures.distances import Gains
from senna_autoprune.evaluation.measures.intervals import Paired, difference_interval
from senna_autoprune.evaluation.measures.paired_tests import scene_test
from senna_autoprune.evaluation.measures.retention import bootstrap, mcnemar
from senna_autoprune.evaluation.measures.verdict import SAFE

STOPS, MARGIN, CORRELATION = (25, 50, 75), 0.02, 0.1
SAFETY, GAINED = 0.06, 0.01  # of the whole procedure: share of scenes; share of answers that pruning repairs


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
    usual = []  # coverages where 3 and 8 % of the answers flip
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
                    usual += [ours / runs] if lost > 0.01 else []
    within = sum(0.93 <= one <= 0.97 for one in usual)
    yield ""
    lowest, highest = 100 * min(usual), 100 * max(usual)
    yield f"Of {len(usual)} rows with 3 and 8 % of flips the score interval covers {lowest:.1f} to {highest:.1f} %, {within} of them 93 to"
    yield "97 %. Where it covers more, flips are few and come in whole numbers, and a correlation that is not there is believed until the"
    yield f"scenes tell. With {runs} runs a row a coverage is known to about {196 * sqrt(0.05 * 0.95 / runs):.1f} points."


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


@dataclass(frozen=True)
class Truth:
    """What pruning does to a model: net loss of accuracy and share of scenes turned dangerous, at each budget from the largest down."""

    name: str
    loss: tuple[float, ...]
    danger: tuple[float, ...]

    @property
    def unsafe(self) -> int:
        """The first budget that is at a margin or beyond."""
        return next((i for i, (a, b) in enumerate(zip(self.loss, self.danger, strict=True)) if a >= MARGIN or b >= SAFETY), len(self.loss))


TRUTHS = (
    Truth("accuracy at its margin from the first budget on", (MARGIN,) * 3, (0.0,) * 3),
    Truth("safety at its margin from the first budget on", (0.0,) * 3, (SAFETY,) * 3),
    Truth("two safe budgets, then accuracy at its margin", (0.0, 0.0, MARGIN, 2 * MARGIN), (0.0,) * 4),
    Truth("two safe budgets, then both at their margins", (0.0, 0.0, MARGIN, 2 * MARGIN), (0.0, 0.0, SAFETY, 2 * SAFETY)),
    Truth("two safe budgets, then a cliff", (0.0, 0.0, 0.1, 0.2), (0.0, 0.0, 0.2, 0.4)),
    Truth("a cliff from the first budget on", (0.1, 0.2), (0.2, 0.4)),
)


@dataclass(frozen=True)
class Outcome:
    """Of one model: how many budgets were called safe, how many scenes were asked of how many that the same looks-free test asks."""

    safe: int
    asked: int
    whole: int


def whole_procedure(rng: np.random.Generator, truth: Truth, questions: float) -> Outcome:
    """A model drawn from ``truth``, through fixed sequence, looks and both margins, by the package's own functions."""
    rules, scenes = Rules(MARGIN, SAFETY, STOPS), STOPS[-1]
    sizes = np.maximum(1, rng.poisson(questions, size=scenes))
    owner = np.repeat(np.arange(scenes), sizes)
    luck, worse, better, road = rng.random(scenes), rng.random(len(owner)), rng.random(len(owner)), rng.random(scenes)
    spread = (1 - CORRELATION) / CORRELATION

    def answers(budget: int, index: int) -> tuple[Paired, int]:
        share = truth.loss[budget] + GAINED
        chance = betaincinv(share * spread, (1 - share) * spread, luck)  # (S,) the same scenes are hard at every budget
        lost, gained = worse < chance[owner], better < GAINED / (1 - share)
        rows = [np.bincount(owner, weights=one, minlength=scenes) for one in (lost, gained & ~lost)]
        pairs = Paired(sizes - rows[0] - rows[1], rows[0], rows[1], sizes.astype(np.float64))
        stop = STOPS[index]
        return pairs.take(np.arange(stop)), int((road[:stop] < truth.danger[budget]).sum())

    ladder = [-float(i) for i in range(len(truth.loss))]  # any falling numbers: the order is what counts
    done = in_sequence(ladder, lambda budget: examine(rules, lambda index: answers(int(-budget), index)))
    safe = sum(looks[-1].outcome == SAFE for _, looks in done)
    return Outcome(safe, sum(looks[-1].scenes for _, looks in done), scenes * len(done))


def whole(models: int, truths: tuple[Truth, ...] = TRUTHS) -> Iterator[str]:
    """False certificates, power at the last truly safe budget, and what early stopping saves."""
    rng = np.random.default_rng(3)
    yield "| truth | questions a scene | models | called safe wrongly | last safe budget found | scenes not asked |"
    yield "|---|---:|---:|---:|---:|---:|"
    for truth in truths:
        for questions in (10, 34):
            number = models if "margin" in truth.name and "both" not in truth.name else models // 5
            found = [whole_procedure(rng, truth, questions) for _ in range(number)]
            wrong = sum(one.safe > truth.unsafe for one in found) / number
            power = sum(one.safe >= truth.unsafe for one in found) / number
            saved = 1 - sum(one.asked for one in found) / sum(one.whole for one in found)
            shown = f"{100 * power:.1f} %" if truth.unsafe else "none is safe"
            error = 196 * sqrt(wrong * (1 - wrong) / number)
            cells = (truth.name, questions, number, f"{100 * wrong:.2f} % (± {error:.2f})", shown, f"{100 * saved:.0f} %")
            yield "| " + " | ".join(map(str, cells)) + " |"


def changes(rng: np.random.Generator, count: int, questions: float, touched: float, worse: float, tail: float) -> Gains:
    """Paths that pruning moves: a share of questions, by lognormal metres of mean 1, most of them away from the truth; a scene's
    questions are touched together (correlation 0.1) and its metres have a scale in common. event: of a model whose paths all move so.
    """
    spread = (1 - CORRELATION) / CORRELATION
    sizes = np.maximum(1, rng.poisson(questions, size=count))
    owner = np.repeat(np.arange(count), sizes)
    scale = np.exp(tail / 2 * rng.standard_normal(count) - tail**2 / 8)
    metres = np.exp(tail * rng.standard_normal(len(owner)) - tail**2 / 2) * scale[owner]
    moved = rng.random(len(owner)) < rng.beta(touched * spread, (1 - touched) * spread, size=count)[owner]
    sign = np.where(rng.random(len(owner)) < worse, -1.0, 1.0)

    def summed(values: np.ndarray) -> np.ndarray:
        return np.bincount(owner, weights=values, minlength=count)

    blind = summed(metres * sign) / sizes
    return Gains(summed(metres * sign * moved), summed(metres * moved), sizes.astype(np.float64), sqrt(float((blind**2).mean())))


def metres(runs: int) -> Iterator[str]:
    """How often a loss that is the margin is called smaller at 5 %, and one that is a third of it."""
    rng = np.random.default_rng(4)
    yield "| scenes | questions a scene | paths moved | tail | called safe at the margin | at a third of it |"
    yield "|---:|---:|---:|---:|---:|---:|"
    for count in (40, 75):
        for questions in (3, 10):
            for touched, worse in ((0.05, 0.8), (0.2, 0.7), (0.9, 0.6)):
                for tail in (0.5, 1.0):
                    loss, safe, power = touched * (2 * worse - 1), 0, 0
                    for _ in range(runs):
                        gains = changes(rng, count, questions, touched, worse, tail)
                        safe += gains.test(loss, 0.05, 0.05)[1] > -loss
                        power += gains.test(3 * loss, 0.05, 0.05)[1] > -3 * loss
                    cells = (count, questions, f"{100 * touched:g} %", tail, f"{100 * safe / runs:.1f} %", f"{100 * power / runs:.1f} %")
                    yield "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=10_000, help="at the margin (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=1000, help="of each row of coverage and level (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("docs/results/statistics.md"))
    options = parser.parse_args()
    command = f"python tools/maintain/simulate.py --models {options.models} --runs {options.runs}"
    lines = ["# What the statistics hold, by simulation", "", f"Made by `{command}`; seeds are fixed."]
    stops = ", ".join(map(str, STOPS))
    parts = (
        (
            f"The whole procedure: margins {100 * MARGIN:g} points and {100 * SAFETY:g} % of scenes, looks at {stops} scenes",
            whole(options.models),
        ),
        (
            f"One budget's test of accuracy: margin {100 * MARGIN:g} points, looks at {stops} scenes",
            budgets(options.models),
        ),
        ("One budget's test of metres: lognormal changes of mean 1 m, tail: their sigma", metres(options.runs)),
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
