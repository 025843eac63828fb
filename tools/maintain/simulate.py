"""What the intervals cover and how often a budget is wrongly called safe, by simulation -> docs/results/statistics.md.

    python tools/maintain/simulate.py --models 10000 --runs 1000 --out docs/results/statistics.md

Scenes have their own chance of losing or gaining an answer (Dirichlet-multinomial), so that questions of a scene err together.
The whole procedure runs on models whose budgets are nested: what a scene loses at one budget it also loses at every smaller one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, sqrt
from pathlib import Path
from time import process_time

import numpy as np
from scipy.special import betaincinv, ndtri

from senna_autoprune.evaluation.budget.sequence import Rules, examine, in_sequence
from senna_autoprune.evaluation.measures.distances import Gains
from senna_autoprune.evaluation.measures.intervals import CAUTIOUS, Paired
from senna_autoprune.evaluation.measures.paired_tests import sample_size, scene_test
from senna_autoprune.evaluation.measures.retention import mcnemar
from senna_autoprune.evaluation.measures.verdict import SAFE
from tools.maintain.at_once import Many, covered, covered_by_bootstrap, decide

STOPS, MARGIN, CORRELATION = (25, 50, 75), 0.02, 0.1
SAFETY, GAINED = 0.06, 0.01  # of the whole procedure: share of scenes; share of answers that pruning repairs
CORRELATIONS = (0.0, 0.1, 0.2)  # of two questions of one scene
FLIPS = ((0.003, 0.003), (0.012, 0.008), (0.03, 0.02), (0.06, 0.04))  # shares of answers lost and gained
POWER, CHUNK = 0.8, 500  # of the sample sizes; models at a time


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


def many(rng: np.random.Generator, runs: int, count: int, questions: float, lost: float, gained: float, correlation: float) -> Many:
    """As many draws of ``scenes`` at once."""
    drawn = scenes(rng, runs * count, questions, lost, gained, correlation)
    return Many(*(one.reshape(runs, count) for one in (drawn.lost, drawn.gained, drawn.count)))


def coverage(runs: int) -> Iterator[str]:
    """Rows: scenes, questions a scene, flips -> coverage of our interval and of the percentile bootstrap, by correlation."""
    rng = np.random.default_rng(0)
    names = [f"{kind}, {correlation:g}" for kind in ("score", "bootstrap") for correlation in CORRELATIONS]
    yield "| scenes | questions a scene | lost | gained | " + " | ".join(names) + " |"
    yield "|---:|---:|---:|---:|" + "---:|" * len(names)
    usual = []  # coverages where 2 to 10 % of the answers flip
    for count in (40, 67, 150):
        for questions in (3, 34):
            for lost, gained in FLIPS:
                ours, theirs = [], []
                for correlation in CORRELATIONS:
                    drawn = many(rng, runs, count, questions, lost, gained, correlation)
                    ours.append(float(covered(drawn, gained - lost).mean()))
                    theirs.append(float(covered_by_bootstrap(drawn, gained - lost, 400, count).mean()))
                shown = [f"{100 * one:.1f} %" for one in ours + theirs]
                yield f"| {count} | {questions} | {100 * lost:g} % | {100 * gained:g} % | " + " | ".join(shown) + " |"
                usual += ours if lost + gained >= 0.02 else []
    within, over = sum(0.93 <= one <= 0.97 for one in usual), sum(one > 0.97 for one in usual)
    span = f"{100 * min(usual):.1f} to {100 * max(usual):.1f} %"
    yield ""
    yield f"Of {len(usual)} cells with 2 to 10 % of flips the score interval covers {span}: {within} lie within 93 to 97 %, {over} above,"
    yield f"{len(usual) - within - over} below. Where it covers more, flips are few and come in whole numbers, or a correlation that is not"
    yield "there is believed until the scenes tell. The columns are named by the correlation within a scene."
    yield f"With {runs} runs a cell a coverage is known to about {196 * sqrt(0.05 * 0.95 / runs):.1f} points."


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
    yield ""
    yield "At 67 x 3 few scenes hold a flip at all, and a test of whole numbers rejects less than its level allows."


def sizes(runs: int) -> Iterator[str]:
    """What the formula of the sample size gives, and how often so many scenes show the margin where nothing is lost."""
    rng, alpha = np.random.default_rng(5), 0.05
    yield "| changed | margin | questions a scene | correlation | scenes by the formula | shown to be safe |"
    yield "|---:|---:|---:|---:|---:|---:|"
    found = []
    for changed, margin in ((0.02, 0.02), (0.04, 0.02), (0.04, 0.01)):
        for questions, correlation in ((1, 0.0), (3, 0.1), (10, 0.1), (34, 0.1), (34, 0.2)):
            half = changed / 2
            pilot = many(rng, runs, STOPS[-1], questions, half, half, correlation)
            effect = float(np.median(pilot.effects(1 - alpha, CAUTIOUS)))
            needed = ceil(sample_size(changed, margin, alpha, POWER, effect) / float(pilot.count.sum(axis=1).mean() / STOPS[-1]))
            drawn = many(rng, runs, needed, questions, half, half, correlation)
            shown = float((drawn.scores(-margin, 1 - alpha, CAUTIOUS) >= ndtri(1 - alpha)).mean())
            found.append(shown)
            cells = (f"{100 * changed:g} %", f"{100 * margin:g} points", questions, correlation, needed, f"{100 * shown:.1f} %")
            yield "| " + " | ".join(map(str, cells)) + " |"
    yield ""
    span = f"{100 * min(found):.0f} to {100 * max(found):.0f} %"
    yield f"n = (z_a + z_b)^2 psi / delta^2 x design effect, for a power of {100 * POWER:.0f} %; the design effect is the median of the"
    yield f"cautious one over pilots of {STOPS[-1]} scenes. {span} are shown: least where no more answers change than the margin lets be"
    yield "lost (the test then thinks that more do), most where many scenes tell that the correlation is smaller than was believed."


def budgets(models: int) -> Iterator[str]:
    """The test of one budget: how often it is called safe at true losses from none to the margin, and how many scenes it asks."""
    rng, none = np.random.default_rng(2), 0.999  # a safety margin that always passes: accuracy alone decides
    yield "| true loss | questions a scene | correlation | models | called safe | scenes asked, of 75 |"
    yield "|---:|---:|---:|---:|---:|---:|"
    for loss in (MARGIN, 2 * MARGIN, MARGIN / 2, 0.0):
        for questions in (10, 34):
            drawn = many(rng, models, STOPS[-1], questions, GAINED + loss, GAINED, CORRELATION)
            safe, asked = decide(Rules(MARGIN, none, STOPS), drawn, np.zeros(drawn.count.shape, bool))
            cells = (f"{100 * loss:g} points", questions, CORRELATION, models, f"{100 * safe.mean():.2f} %", f"{asked.mean():.1f}")
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


class Models:
    """Models drawn from ``truth``: the same scenes are hard at every budget, so what a question loses it loses at all smaller ones."""

    def __init__(self, rng: np.random.Generator, truth: Truth, questions: float, number: int) -> None:
        self.truth, self.number = truth, number
        scenes = number * STOPS[-1]
        self.sizes = np.maximum(1, rng.poisson(questions, size=scenes))
        self.owner = np.repeat(np.arange(scenes), self.sizes)
        self.luck, self.road = rng.random(scenes), rng.random(scenes)
        self.worse, self.better = rng.random(len(self.owner)), rng.random(len(self.owner))

    def answers(self, budget: int) -> tuple[Many, np.ndarray]:
        """What the models answer at the budget of this number, and (M, S) which scenes have turned dangerous."""
        spread, share = (1 - CORRELATION) / CORRELATION, self.truth.loss[budget] + GAINED
        chance = betaincinv(share * spread, (1 - share) * spread, self.luck)  # (M S,)
        lost, gained = self.worse < chance[self.owner], self.better < GAINED / (1 - share)
        rows = [np.bincount(self.owner, weights=one, minlength=len(self.sizes)) for one in (lost, gained & ~lost)]
        shaped = [one.reshape(self.number, -1) for one in (*rows, self.sizes.astype(np.float64), self.road)]
        return Many(*shaped[:3]), shaped[3] < self.truth.danger[budget]


@dataclass(frozen=True)
class Outcome:
    """Of each model, (M,): how many budgets were called safe, how many scenes were asked, and how many that test asks which never looks
    before its end.
    """

    safe: np.ndarray
    asked: np.ndarray
    whole: np.ndarray


def whole_procedure(models: Models) -> Outcome:
    """Fixed sequence, looks and both margins, of all models at once."""
    rules, going = Rules(MARGIN, SAFETY, STOPS), np.ones(models.number, bool)
    safe, asked, whole = (np.zeros(models.number, dtype=np.int64) for _ in range(3))
    for budget in range(len(models.truth.loss)):
        passed, scenes = decide(rules, *models.answers(budget))
        asked, whole, going = asked + scenes * going, whole + STOPS[-1] * going, going & passed
        safe = safe + going
    return Outcome(safe, asked, whole)


def one_by_one(models: Models) -> Outcome:
    """The slow twin: each model by itself, through the package's own functions."""
    rules, budgets = Rules(MARGIN, SAFETY, STOPS), range(len(models.truth.loss))
    drawn = [models.answers(budget) for budget in budgets]
    found = []
    for model in range(models.number):

        def seen(budget: int, index: int, model: int = model) -> tuple[Paired, int]:
            there, hit = drawn[budget]
            lost, gained, count = (one[model] for one in (there.lost, there.gained, there.count))
            stop = STOPS[index]
            return Paired(count - lost - gained, lost, gained, count).take(np.arange(stop)), int(hit[model, :stop].sum())

        ladder = [-float(i) for i in budgets]  # any falling numbers: the order is what counts
        done = in_sequence(ladder, lambda budget, seen=seen: examine(rules, lambda index: seen(int(-budget), index)))  # type: ignore[misc]
        safe = sum(looks[-1].outcome == SAFE for _, looks in done)
        found.append((safe, sum(looks[-1].scenes for _, looks in done), STOPS[-1] * len(done)))
    return Outcome(*np.array(found).T)


def outcomes(seed: int, truth: Truth, questions: float, number: int) -> Outcome:
    """``number`` models through the whole procedure, some hundreds at a time."""
    rng = np.random.default_rng(seed)
    parts = [whole_procedure(Models(rng, truth, questions, min(CHUNK, number - begun))) for begun in range(0, number, CHUNK)]
    return Outcome(*(np.concatenate([getattr(part, name) for part in parts]) for name in ("safe", "asked", "whole")))


def whole(models: int, truths: tuple[Truth, ...] = TRUTHS) -> Iterator[str]:
    """False certificates, power at the last truly safe budget, and what early stopping saves."""
    yield "| truth | questions a scene | models | called safe wrongly | last safe budget found | scenes not asked |"
    yield "|---|---:|---:|---:|---:|---:|"
    for truth in truths:
        for questions in (10, 34):
            found = outcomes(3, truth, questions, models)
            wrong, saved = float((found.safe > truth.unsafe).mean()), 1 - found.asked.sum() / found.whole.sum()
            shown = f"{100 * (found.safe >= truth.unsafe).mean():.1f} %" if truth.unsafe else "none is safe"
            error = 196 * sqrt(wrong * (1 - wrong) / models)
            cells = (truth.name, questions, models, f"{100 * wrong:.2f} % (± {error:.2f})", shown, f"{100 * saved:.0f} %")
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
    prior = f"{CAUTIOUS.correlation:g} believed as much as {CAUTIOUS.scenes:g} scenes with a flip"
    head = [
        "# What the statistics hold, by simulation",
        "",
        f"Made by `{command}`; seeds are fixed. Claims of safety rest on",
    ]
    head += [f"a design effect of {prior}; a scene's questions err together (correlation {CORRELATION:g} where no other is named)."]
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
        ("Sample sizes", sizes(options.runs)),
        ("One budget's test of metres: lognormal changes of mean 1 m, tail: their sigma", metres(options.runs)),
        ("Tests at 5 % where nothing is true", level(options.runs)),
        ("Coverage of 95 % intervals of a paired difference", coverage(options.runs)),
    )
    lines, begun = head, process_time()
    for title, rows in parts:
        here = process_time()
        lines += ["", f"## {title}", "", *rows]
        print(f"{title}: {process_time() - here:.0f} s of processor time", file=sys.stderr, flush=True)
    lines += ["", f"All of it took {process_time() - begun:.0f} s of processor time."]
    options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
