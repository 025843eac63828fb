"""A sweep as pictures (PNG and SVG): retention against budget, accuracy against time, curves by complexity, share of views.

Only what was measured in the run is drawn; the paper's figures are not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from senna_autoprune.files.regular import require_own_folder
from senna_autoprune.pruning.parts.curves import CURVES
from senna_autoprune.report.curve_figures import draw_curves, family
from senna_autoprune.report.drawing import ACCENT, GREY, save, sign, style

# names of a sweep's figures -> what they show
FIGURE_MEANINGS = {
    "retention_by_budget": "Retention of planning accuracy against the budget, a panel a method, random and no-image beside it.",
    "accuracy_by_time": "Planning accuracy against measured prefill time, a line a method over its budgets.",
    "curves_by_information": "Retention curves of the questions over depth, coloured by their mutual information.",
    "share_of_views": "Share of the kept visual tokens that comes from each view, a row a method.",
}
_VIEW = re.compile(r"CAM_[A-Z_]+")


def draw_all(directory: Path, table: Mapping[str, Any], answers: Sequence[AnswerRow], questions: Sequence[QuestionRow]) -> list[str]:
    """Draw what the sweep has data for into ``directory/figures``.

    Returns:
        paths of the PNG files, relative to ``directory``; each has an SVG beside it.
    Raises:
        SennaPruneError: the folder cannot be written.
    """
    require_own_folder(directory / "figures")
    figures: dict[str, Callable[[], Any]] = {
        "retention_by_budget": lambda: retention_by_budget(table),
        "accuracy_by_time": lambda: accuracy_by_time(table),
        "curves_by_information": lambda: curves_by_information(table, answers),
        "share_of_views": lambda: share_of_views(table, questions),
    }
    drawn = []
    with style():
        for name, draw in figures.items():
            figure = draw()
            if figure is not None:
                sign(figure, table["facts"].get("label"))
                save(figure, directory / "figures" / f"{name}.png", directory / "figures" / f"{name}.svg")
                drawn.append(f"figures/{name}.png")
    return drawn


def _lines(table: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """row -> its possible cells, by budget."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for cell in table["cells"]:
        if cell["status"] == "ok":
            rows.setdefault(cell["row"], []).append(cell)
    return {row: sorted(cells, key=lambda cell: cell["tokens_per_view"] or 0) for row, cells in rows.items()}


def retention_by_budget(table: Mapping[str, Any]) -> Any:
    """A panel a method: its retention with its band over scenes, random's beside it, no-image as a line."""
    from matplotlib import pyplot

    rows = {row: [cell for cell in cells if (cell["retention"] or {}).get("value") is not None] for row, cells in _lines(table).items()}
    rows = {row: cells for row, cells in rows.items() if cells}
    if not rows:
        return None
    random = rows.get("random", [])
    names = [name for name in rows if name != "random"] or list(rows)
    across = min(4, len(names))
    down = math.ceil(len(names) / across)
    figure, axes = pyplot.subplots(
        down, across, figsize=(max(2.6 * across, 6), 2.1 * down + 1), sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    blind = (table["plain"].get("no-image", {}).get("retention") or {}).get("value")
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for place, (axis, name) in enumerate(zip(axes.flat, names, strict=False)):
        axis.axhline(100, color="black", linewidth=0.8)
        if blind is not None:
            axis.axhline(100 * blind, color=GREY, linewidth=1, linestyle=":")
        for cells, colour in ((random, GREY), (rows[name], ACCENT)):
            if cells:
                _band(axis, cells, colour)
        axis.set_title(name, fontsize=9)
        if place + across >= len(names):
            axis.tick_params(labelbottom=True)
    figure.supxlabel("visual tokens of each view, average of the layers", fontsize=9)
    figure.supylabel("retention of accuracy, %", fontsize=9)
    scenes = table["facts"]["scenes"]["count"]
    figure.suptitle(
        f"Planning accuracy kept, 95 % intervals over {scenes} scenes\nblue: the panel's method, grey: random, "
        "dotted: no-image, black: unpruned",
        fontsize=10,
    )
    return figure


def _band(axis: Any, cells: Sequence[Mapping[str, Any]], colour: str) -> None:
    tokens = [cell["tokens_per_view"] for cell in cells]
    axis.plot(tokens, [100 * cell["retention"]["value"] for cell in cells], color=colour, marker="o", markersize=3)
    spans = [(t, c["retention"]["low"], c["retention"]["high"]) for t, c in zip(tokens, cells, strict=True)]
    known = [(t, 100 * low, 100 * high) for t, low, high in spans if low is not None and high is not None]
    if known:
        axis.fill_between(*zip(*known, strict=True), color=colour, alpha=0.18, linewidth=0)


def accuracy_by_time(table: Mapping[str, Any]) -> Any:
    """Accuracy against measured prefill time: a line a method over its budgets, the unpruned model, the Pareto front."""
    from matplotlib import pyplot

    rows = {row: [cell for cell in cells if (cell["prefill_ms"] or {}).get("median") is not None] for row, cells in _lines(table).items()}
    unpruned = table["plain"].get("unpruned")
    if not any(rows.values()) or unpruned is None or unpruned["prefill_ms"]["median"] is None:
        return None
    figure, axis = pyplot.subplots(figsize=(7.2, 4.6))
    colours = pyplot.get_cmap("tab20")
    points = [(unpruned["prefill_ms"]["median"], 100 * unpruned["accuracy"]["value"])]
    for index, (row, cells) in enumerate((row, cells) for row, cells in rows.items() if cells):
        line = [(cell["prefill_ms"]["median"], 100 * cell["accuracy"]["value"]) for cell in cells]
        points += line
        control = cells[0]["kind"] == "control"
        axis.plot(
            *zip(*line, strict=True),
            color=GREY if control else colours(index % 20),
            linestyle="--" if control else "-",
            linewidth=2.2 if row == "autoprune" else 0.8,
            alpha=1 if row == "autoprune" else 0.75,
            marker="osv^D<>PX*hp"[index % 12],
            markersize=4,
            label=f"{row} (control)" if control else row,
        )
    axis.plot(*points[0], marker="*", markersize=13, color="black", linestyle="", label="unpruned")
    front = pareto_front(points)
    axis.step(*zip(*front, strict=True), where="post", color="black", linewidth=0.8, linestyle=":", label="Pareto front")
    for name in ("no-image", "majority"):
        if name in table["plain"]:
            value = 100 * table["plain"][name]["accuracy"]["value"]
            axis.axhline(value, color=GREY, linewidth=0.9, linestyle=":" if name == "no-image" else "-.", label=f"{name} (control)")
    size = table["facts"]["batch_size"]
    axis.set_xlabel("measured prefill time, ms (median" + (f", share of a batch of up to {size})" if size > 1 else ")"))
    axis.set_ylabel("planning accuracy, %")
    axis.set_title(f"Accuracy against prefill time on {table['facts']['machine']['device']}", fontsize=10)
    axis.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8)
    return figure


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (cost, gain) that no other beats in both, by rising cost."""
    front: list[tuple[float, float]] = []
    for cost, gain in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not front or gain > front[-1][1]:
            front.append((cost, gain))
    return front


def curves_by_information(table: Mapping[str, Any], answers: Sequence[AnswerRow]) -> Any:
    """``draw_curves`` of a sweep: the rows of AutoPrune at the middle budget."""
    columns = table["columns"]
    budget = columns[len(columns) // 2]["budget"]
    families = [
        family(cell["row"], _curve_of(cell["setting"]), cell["setting"], answers)
        for cell in table["cells"]
        # the release integrates another curve
        if cell["status"] == "ok" and cell["budget"] == budget and "mode=release" not in cell["setting"]
    ]
    found = [one for one in families if one is not None]
    return draw_curves(found, budget) if found else None


def _curve_of(setting: str) -> str:
    found = re.search(r"curve=(\w+)", setting)
    return found.group(1) if found and found.group(1) in CURVES else "logistic"


def share_of_views(table: Mapping[str, Any], questions: Sequence[QuestionRow]) -> Any:
    """Which views the kept tokens come from: a row a method, a column a view, at the smallest budget and the largest."""
    from matplotlib import pyplot

    panels = []
    budgets = [column["budget"] for column in table["columns"]]
    for budget in dict.fromkeys((budgets[0], budgets[-1])):
        cells = [c for c in table["cells"] if c["budget"] == budget and c.get("kept_per_view") and sum(c["kept_per_view"]) > 0]
        if cells:
            shares = np.array([np.array(cell["kept_per_view"]) / sum(cell["kept_per_view"]) for cell in cells])
            panels.append((budget, [cell["row"] for cell in cells], 100 * shares))
    if not panels or len({shares.shape[1] for _, _, shares in panels}) != 1:
        return None
    views = panels[0][2].shape[1]
    even = 100 / views
    reach = max(max(abs(shares - even).max() for _, _, shares in panels), 1.0)
    width = 0.75 * views + 2.4
    height = 0.3 * max(len(names) for _, names, _ in panels) + 1.6
    figure, axes = pyplot.subplots(1, len(panels), figsize=(width * len(panels), height), squeeze=False, layout="constrained")
    for axis, (budget, names, shares) in zip(axes[0], panels, strict=True):
        image = axis.imshow(shares, cmap="RdBu_r", vmin=even - reach, vmax=even + reach, aspect="auto")
        axis.grid(False)
        for (y, x), value in np.ndenumerate(shares):
            strong = abs(value - even) > 0.65 * reach
            axis.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=7, color="white" if strong else "black")
        axis.set_xticks(range(views), view_names(questions, views), rotation=35, ha="right", fontsize=7)
        axis.set_yticks(range(len(names)), names, fontsize=8)
        axis.set_title(f"budget {budget}", fontsize=9)
    figure.colorbar(image, ax=axes, label=f"share of the kept tokens, % (white: even, {even:.1f})", pad=0.02)
    figure.suptitle("Views that the kept, unmerged visual tokens come from: mean of questions and layers", fontsize=10)
    return figure


def view_names(questions: Sequence[QuestionRow], views: int) -> list[str]:
    """Camera names out of the image paths where all questions agree on them, else "view 1", ..."""
    orders = {tuple(match.group() if (match := _VIEW.search(image)) else "" for image in q.images) for q in questions}
    if len(orders) == 1 and len(names := next(iter(orders))) == views and all(names):
        return [name.removeprefix("CAM_").strip("_").replace("_", " ").lower() for name in names]
    return [f"view {index + 1}" for index in range(views)]
