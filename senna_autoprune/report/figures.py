"""The figures of a run's report. Each function returns a matplotlib figure, or None where the run has nothing to draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from senna_autoprune.evaluation.runs.rows import UNPRUNED
from senna_autoprune.report.information import QUARTERS, Measured
from senna_autoprune.report.run import short
from senna_autoprune.report.svg import Ink
from senna_autoprune.tables.grid import interval, number, percent
from senna_autoprune.tables.run import known_conditions, ordered

WIDTH = 4.7  # inches: about the width of a phone, so that nothing must be scaled much
ROW = 0.27  # inches
MOST_CONDITIONS = 30
NAME = 28  # characters of a name beside an axis
MOST_POINTS = 5000  # drawn each for itself; of more the density is drawn: a dot a question would be a page of 90 MB
BINS = 60  # of a density
Metrics = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """draw: makes it in the colours given. description: its content in words, for those who do not see it."""

    name: str
    caption: str
    description: str
    draw: Callable[[Ink], Any]


def figures(metrics: Metrics, found: Sequence[Measured], unit: str) -> dict[str, Figure]:
    """All figures of a run that there are data for, by name."""
    cost = (stages(metrics), schedule(metrics))
    made = (accuracy(metrics), *cost, correctness(found, unit), tokens(found, unit), conditions(metrics))
    return {figure.name: figure for figure in made if figure is not None}


def accuracy(metrics: Metrics) -> Figure | None:
    """Exact accuracy of every setting with its interval."""
    entries = {name: entry["plan"] for name in ordered(metrics) if "plan" in (entry := metrics["settings"][name])}
    if not entries:
        return None
    values = {name: plan["exact_accuracy_interval"] for name, plan in entries.items()}

    def draw(ink: Ink) -> Any:
        figure, axis = _rows([short(name, NAME) for name in values])
        colours = {UNPRUNED: ink.text, metrics["method"]: ink.accent}
        for place, (name, found) in enumerate(values.items()):
            colour = colours.get(name, ink.faint)
            if found["low"] is not None:
                axis.plot([100 * found["low"], 100 * found["high"]], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
            axis.plot(100 * found["value"], place, marker="o", markersize=5, color=colour)
            axis.annotate(f"{100 * found['value']:.1f}", (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8)
        if UNPRUNED in values:
            axis.axvline(100 * values[UNPRUNED]["value"], color=ink.text, linewidth=0.7, linestyle=":")
        axis.set_xlim(-2, 102)
        axis.set_xlabel("planning accuracy, exact parse, %")
        return figure

    said = "; ".join(f"{name} {interval(found)}" for name, found in values.items())
    caption = "Accuracy of every setting and control, with its 95 % interval over scenes. Dotted: unpruned."
    return Figure("accuracy", caption, f"Dot plot of planning accuracy with 95 % intervals: {said}.", draw)


def stages(metrics: Metrics) -> Figure | None:
    """Median time of each stage, stacked; settings of a model only."""
    costs = {name: metrics["settings"][name].get("cost") for name in ordered(metrics)}
    parts = {name: _stages(cost) for name, cost in costs.items() if cost is not None}
    parts = {name: found for name, found in parts.items() if found}
    if not parts:
        return None
    shown = [stage for stage in ("vision", "pruning", "prefill", "decode") if any(stage in found for found in parts.values())]

    def draw(ink: Ink) -> Any:
        figure, axis = _rows([short(name, NAME) for name in parts])
        colours = {"vision": ink.faint, "pruning": ink.bad, "prefill": ink.accent, "decode": ink.lit}
        for stage in shown:
            widths = [found.get(stage, 0.0) for found in parts.values()]
            starts = [sum(found.get(before, 0.0) for before in shown[: shown.index(stage)]) for found in parts.values()]
            axis.barh(range(len(parts)), widths, left=starts, height=0.62, color=colours[stage], label=stage)
        axis.set_xlabel("ms, medians of the stages")
        axis.grid(axis="y", visible=False)
        axis.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncol=4, fontsize=8, handlelength=1, columnspacing=1)
        return figure

    said = "; ".join(f"{name}: " + ", ".join(f"{stage} {number(ms, 1)}" for stage, ms in found.items()) for name, found in parts.items())
    caption = "Where a question's time goes. Prefill is shown without the pruner's own part, where that was measured."
    return Figure("stages", caption, f"Stacked bars of median times in ms. {said}.", draw)


def _stages(cost: Metrics) -> dict[str, float]:
    """Medians of what was measured, in order of time; the pruner's part is taken out of the prefill."""
    own = (cost.get("pruner_ms") or {}).get("median")
    prefill = cost["prefill_ms"]["median"]
    found = {
        "vision": cost["vision_ms"],
        "pruning": own if prefill is not None else None,
        "prefill": prefill - own if prefill is not None and own is not None else prefill,
        "decode": cost["decode_ms"]["median"],
    }
    return {stage: value for stage, value in found.items() if value is not None}


def schedule(metrics: Metrics) -> Figure | None:
    """Mean visual tokens entering each layer under every setting that prunes."""
    costs = {name: metrics["settings"][name].get("cost") or {} for name in ordered(metrics)}
    lines = {name: cost["schedule"] for name, cost in costs.items() if cost.get("schedule")}
    if not lines:
        return None

    def draw(ink: Ink) -> Any:
        from matplotlib import pyplot

        figure, axis = pyplot.subplots(figsize=(WIDTH, 2.3))
        for name, counts in lines.items():
            ours = name == metrics["method"]
            axis.step(range(len(counts)), counts, where="mid", color=ink.accent if ours else ink.faint, linewidth=2 if ours else 1.2)
        axis.set_xlabel("layer")
        axis.set_ylabel("visual tokens entering")
        axis.set_ylim(0, None)
        _name_lines(axis, {short(name, NAME): counts[-1] for name, counts in lines.items()})
        return figure

    said = "; ".join(f"{name}: " + ", ".join(f"{count:.0f}" for count in counts) for name, counts in lines.items())
    caption = "Where a budget is spent: visual tokens entering each layer, mean of the questions."
    return Figure("schedule", caption, f"Step lines over the layers. {said}.", draw)


def correctness(found: Sequence[Measured], unit: str) -> Figure | None:
    """Mutual information of right and of wrong answers, a dot a question; of many the density."""
    if not found:
        return None
    groups = {
        "unpruned, right": [one.information for one in found if one.right_before],
        "unpruned, wrong": [one.information for one in found if not one.right_before],
        "pruned, right": [one.information for one in found if one.right_after],
        "pruned, wrong": [one.information for one in found if not one.right_after],
    }

    def draw(ink: Ink) -> Any:
        figure, axis = _rows([f"{name} ({len(values)})" for name, values in groups.items()], 0.42)
        random = np.random.default_rng(0)  # only to spread dots that would cover each other
        for place, (name, values) in enumerate(groups.items()):
            colour = ink.good if name.endswith("right") else ink.bad
            if len(values) > MOST_POINTS:
                counts, edges = np.histogram(values, BINS)
                half = 0.3 * counts / counts.max()
                axis.stairs(place + half, edges, baseline=place - half, fill=True, color=colour, alpha=0.55, linewidth=0)
            else:
                spread = random.uniform(-0.26, 0.26, len(values))
                axis.scatter(values, place + spread, s=9, color=colour, alpha=0.55, linewidths=0)
            if values:
                middle = float(np.median(values))
                axis.plot([middle, middle], [place - 0.36, place + 0.36], color=ink.text, linewidth=1.6)
        axis.set_xlabel(unit)
        axis.grid(axis="y", visible=False)
        return figure

    said = "; ".join(
        f"{name}: {len(values)} questions" + (f", median {np.median(values):.3f}" if values else "") for name, values in groups.items()
    )
    many = any(len(values) > MOST_POINTS for values in groups.values())
    dots = f"a dot a question (of more than {MOST_POINTS} their density)" if many else "a dot a question"
    caption = f"Mutual information of right and wrong answers: {dots}, a line the median."
    return Figure("correctness", caption, f"{'Densities' if many else 'Dots'} along an axis of {unit}. {said}.", draw)


def tokens(found: Sequence[Measured], unit: str) -> Figure | None:
    """Tokens kept against mutual information: on average, and in each quarter of the depth."""
    if not found:
        return None
    information = np.array([one.information for one in found])
    quarters = np.array([one.quarters for one in found])  # (Q, 4)
    average = np.array([one.tokens for one in found])
    many = len(found) > MOST_POINTS

    def draw(ink: Ink) -> Any:
        from matplotlib import pyplot

        figure, axis = pyplot.subplots(figsize=(WIDTH, 3.1))
        for place in range(len(QUARTERS)):
            if many:
                _band(axis, information, quarters[:, place], ink.accent)
            else:
                axis.scatter(information, quarters[:, place], s=9, color=ink.accent, alpha=0.6, linewidths=0)
        if many:
            _band(axis, information, average, ink.lit)
        else:
            axis.scatter(information, average, s=12, marker="_", color=ink.lit, linewidths=1.2)
        middles = dict(zip((*QUARTERS, "all layers"), np.median([*quarters.T, average], axis=1).tolist(), strict=True))
        axis.set_xlabel(unit)
        axis.set_ylabel("visual tokens entering a layer")
        axis.set_ylim(0, None)
        _name_lines(axis, middles)
        return figure

    low, high = information <= np.median(information), information >= np.median(information)
    said = "; ".join(
        f"{name}: {values[low].mean():.1f} tokens below the median of the information, {values[high].mean():.1f} above"
        for name, values in zip((*QUARTERS, "all layers"), (*quarters.T, average), strict=True)
    )
    shown = "of every sixtieth of the questions the median and the middle 80 %" if many else "a dot a question"
    caption = (
        f"Mutual information and tokens kept, {shown}. The budget fixes the average over all layers; mutual "
        "information only decides how tokens are spread over the depth."
    )
    return Figure("tokens", caption, f"{'Bands' if many else 'Scatter plot'} of visual tokens against {unit}. {said}.", draw)


def conditions(metrics: Metrics) -> Figure | None:
    """Unpruned and pruned accuracy in each condition, joined by a line."""
    known = known_conditions(metrics)
    rows = [(name.replace("_", " "), group) for name, groups in known.items() for group in groups][:MOST_CONDITIONS]
    if not rows:
        return None

    def draw(ink: Ink) -> Any:
        figure, axis = _rows([f"{short(group['value'], NAME)} ({group['count']})" for _, group in rows], 0.22)
        before = None
        for place, (name, group) in enumerate(rows):
            pair = [100 * group["unpruned_accuracy"], 100 * group["pruned_accuracy"]]
            axis.plot(pair, [place, place], color=ink.faint, linewidth=1.5)
            axis.plot(pair[0], place, marker="o", markersize=6, markerfacecolor="none", color=ink.text, linestyle="")
            axis.plot(pair[1], place, marker="o", markersize=3.4, color=ink.accent, linestyle="")
            if before not in (None, name):
                axis.axhline(place - 0.5, color=ink.faint, linewidth=0.5)
            before = name
        axis.set_xlim(-3, 103)
        axis.set_xlabel("planning accuracy, %")
        axis.grid(axis="y", visible=False)
        return figure

    said = "; ".join(
        f"{name} {group['value']}: {percent(group['unpruned_accuracy'])} unpruned, {percent(group['pruned_accuracy'])} pruned"
        for name, group in rows
    )
    caption = "Accuracy by condition: ring unpruned, dot pruned; in brackets the number of questions."
    return Figure("conditions", caption, f"Dot plot. {said}.", draw)


def _band(axis: Any, x: NDArray[np.float64], y: NDArray[np.float64], colour: str) -> None:
    """Median and middle 80 % of y in ``BINS`` parts of the points, equally many in each, by rising x."""
    order = np.array_split(np.argsort(x, kind="stable"), BINS)
    middles = [float(np.median(x[part])) for part in order]
    low, middle, high = np.array([np.quantile(y[part], [0.1, 0.5, 0.9]) for part in order]).T
    axis.fill_between(middles, low, high, color=colour, alpha=0.25, linewidth=0)
    axis.plot(middles, middle, color=colour, linewidth=1.4)


def _name_lines(axis: Any, heights: dict[str, float]) -> None:
    """Write names at the right end of lines, at least a text's height apart."""
    low, high = axis.get_ylim()
    gap, before = 0.085 * (high - low), -np.inf
    for name, height in sorted(heights.items(), key=lambda item: item[1]):
        before = max(height, before + gap)
        axis.annotate(name, (1.02, before), xycoords=("axes fraction", "data"), va="center", fontsize=8, annotation_clip=False)


def _rows(names: Sequence[str], height: float = ROW) -> tuple[Any, Any]:
    """A figure with a named row for each entry, the first on top."""
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(WIDTH, height * len(names) + 0.75))
    axis.set_yticks(range(len(names)), names)
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.spines["left"].set_visible(False)
    return figure, axis
