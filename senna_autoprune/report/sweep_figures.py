"""A sweep as pictures (PNG and SVG): retention against budget, accuracy against time, curves by complexity, share of views.

Only what was measured in the run is drawn; the paper's figures are not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from senna_autoprune.files.regular import require_own_folder
from senna_autoprune.pruning.parts.curves import CURVES
from senna_autoprune.report.curve_figures import draw_curves, family
from senna_autoprune.report.drawing import save, sign
from senna_autoprune.report.svg import PAPER, Ink, drawing

# names of a sweep's figures -> what they show
FIGURE_MEANINGS = {
    "ranking": "Every method at one budget, the best on top, with its 95 % interval over scenes; * control; dotted: unpruned.",
    "retention_by_budget": "What the best keep at each budget, beside random and no-image (* control); bars: 95 % intervals over scenes.",
    "accuracy_by_time": "Accuracy against measured prefill time, a line a method over its budgets; bars: 95 % intervals of accuracy, "
    "10th to 90th percentile of time; dotted steps: nothing is better in both.",
    "curves_by_information": "Retention curves of the questions over depth, coloured by their mutual information.",
    "share_of_views": "Share of the kept visual tokens that comes from each view, a row a method.",
}
_VIEW = re.compile(r"CAM_[A-Z_]+")


MOST_LINES = 8  # in one plot
MORE_HUES = ("#8e63c7", "#c2569c", "#2a9d9d", "#9a7b2f")  # after the page's own


def of_table(table: Mapping[str, Any], ink: Ink) -> dict[str, Any]:
    """The figures that a table alone is enough for, in these colours, by name; those with nothing to show are left out."""
    drawn = {name: draw(table, ink) for name, draw in OF_TABLE.items()}
    return {name: figure for name, figure in drawn.items() if figure is not None}


def draw_all(directory: Path, table: Mapping[str, Any], answers: Sequence[AnswerRow], questions: Sequence[QuestionRow]) -> list[str]:
    """Draw what the sweep has data for into ``directory/figures``.

    Returns:
        paths of the PNG files, relative to ``directory``; each has an SVG beside it.
    Raises:
        SennaPruneError: the folder cannot be written.
    """
    require_own_folder(directory / "figures")
    figures: dict[str, Callable[[], Any]] = {
        **{name: partial(draw, table) for name, draw in OF_TABLE.items()},
        "curves_by_information": lambda: curves_by_information(table, answers),
        "share_of_views": lambda: share_of_views(table, questions),
    }
    drawn = []
    with drawing(PAPER):
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


def ranked(table: Mapping[str, Any]) -> list[str]:
    """Rows that were measured, the best first: by their mean accuracy over the budgets that all of the table's rows reached, if there
    are any, so that a method is not ranked by the budgets it could not do.
    """
    rows = _lines(table)
    shared = set.intersection(*({cell["budget"] for cell in cells} for cells in rows.values())) if rows else set()
    means = {
        row: float(np.mean([cell["accuracy"]["value"] for cell in cells if cell["budget"] in shared or not shared]))
        for row, cells in rows.items()
    }
    return sorted(rows, key=lambda row: means[row], reverse=True)


def drawn_rows(table: Mapping[str, Any]) -> list[str]:
    """The rows that get a line, at most ``MOST_LINES``: random, which all must beat, and the best of the others."""
    order = ranked(table)
    best = [row for row in order if row != "random"][: MOST_LINES - ("random" in order)]
    return [row for row in order if row in best or row == "random"]


def colours_of(rows: Sequence[str], kinds: Mapping[str, str], ink: Ink) -> dict[str, str]:
    """Controls faint; methods in colours that are told apart on white and on black."""
    hues = iter((ink.accent, ink.lit, ink.good, ink.bad, *MORE_HUES))
    return {row: ink.faint if kinds[row] == "control" else next(hues) for row in rows}


def _hidden(table: Mapping[str, Any]) -> str:
    count = len(ranked(table)) - len(drawn_rows(table))
    return f"\n({count} more in the ranking)" if count > 0 else ""


def ranking(table: Mapping[str, Any], ink: Ink = PAPER) -> Any:
    """A row a method, the best on top: what it keeps at one budget, with its interval, beside the controls."""
    budget = _middle(table)
    rows = _lines(table)
    cells = {row: next((cell for cell in rows[row] if cell["budget"] == budget), None) for row in ranked(table)}
    found = {row: cell for row, cell in cells.items() if cell is not None and (cell["retention"] or {}).get("value") is not None}
    plain = {
        name: table["plain"][name]
        for name in ("no-image", "majority")
        if (table["plain"].get(name, {}).get("retention") or {}).get("value")
    }
    if not found:
        return None
    entries = [*found.items(), *plain.items()]
    entries.sort(key=lambda item: item[1]["retention"]["value"], reverse=True)
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(2.8, 0.27 * len(entries) + 0.75))
    for place, (row, cell) in enumerate(entries):
        kept, control = cell["retention"], row in plain or cell.get("kind") == "control"
        colour = ink.faint if control else ink.accent
        if kept["low"] is not None and kept["high"] is not None:
            axis.plot([100 * kept["low"], 100 * kept["high"]], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        axis.plot(100 * kept["value"], place, marker="o", markersize=5, color=colour)
        axis.annotate(f"{100 * kept['value']:.1f}", (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    axis.axvline(100, color=ink.text, linewidth=0.7, linestyle=":")
    names = [f"{row} *" if row in plain or cell.get("kind") == "control" else row for row, cell in entries]
    axis.set_yticks(range(len(entries)), names)
    axis.tick_params(axis="y", length=0)
    axis.set_ylim(len(entries) - 0.5, -0.5)
    axis.spines["left"].set_visible(False)
    axis.set_xlabel(f"kept of {_about(table)} at {_share(table, budget)} of the tokens, %")
    return figure


def _middle(table: Mapping[str, Any]) -> str:
    """The budget in the middle of those that most rows reached."""
    counts = {column["budget"]: 0 for column in table["columns"]}
    for cell in table["cells"]:
        counts[cell["budget"]] += cell["status"] == "ok"
    most = [budget for budget, count in counts.items() if count == max(counts.values())]
    return str(most[len(most) // 2])


def _share(table: Mapping[str, Any], budget: str) -> str:
    share = next(column["share"] for column in table["columns"] if column["budget"] == budget)
    return f"{100 * share:.3g} %" if share is not None else budget


def _about(table: Mapping[str, Any]) -> str:
    return str(table["facts"].get("about", "planning accuracy"))


def retention_by_budget(table: Mapping[str, Any], ink: Ink = PAPER) -> Any:
    """Retention over the budgets: a line a method, at most eight, named at its end, with its intervals."""
    rows = {row: [cell for cell in cells if (cell["retention"] or {}).get("value") is not None] for row, cells in _lines(table).items()}
    shown = [row for row in drawn_rows(table) if rows[row]]
    if not shown:
        return None
    from matplotlib import pyplot

    kinds = {row: cells[0]["kind"] for row, cells in rows.items() if cells}
    colours = colours_of(shown, kinds, ink)
    figure, axis = pyplot.subplots(figsize=(3.0, 3.2))
    axis.axhline(100, color=ink.text, linewidth=0.8, linestyle=":")
    blind = (table["plain"].get("no-image", {}).get("retention") or {}).get("value")
    ends = {}
    if blind is not None:
        axis.axhline(100 * blind, color=ink.faint, linewidth=1, linestyle=":")
        ends["no-image *"] = (100 * blind, ink.faint)
    everywhere = [cell["tokens_per_view"] for row in shown for cell in rows[row]]
    least = 0.05 * max(everywhere)  # one budget, which methods spend to a few hundredths: their differences are none
    step = 0.004 * max(max(everywhere) - min(everywhere), 5 * least)
    for place, row in enumerate(shown):
        cells, aside = rows[row], (place - (len(shown) - 1) / 2) * step  # bars side by side
        tokens = [cell["tokens_per_view"] + aside for cell in cells]
        heights = [100 * cell["retention"]["value"] for cell in cells]
        axis.errorbar(tokens, heights, yerr=_reach(cells, "retention"), color=colours[row], **BARS)
        ends[f"{row} *" if kinds[row] == "control" else row] = (heights[-1], colours[row])
    if max(everywhere) - min(everywhere) < least:
        middle = (max(everywhere) + min(everywhere)) / 2
        axis.set_xlim(middle - 2 * least, middle + 2 * least)
    axis.set_xlabel("visual tokens a view, average of the layers" + _hidden(table))
    axis.set_ylabel(f"kept of {_about(table)}, %")
    _label_ends(axis, ends)
    return figure


BARS: dict[str, Any] = {"marker": "o", "markersize": 3.5, "linewidth": 1.4, "elinewidth": 0.8, "capsize": 0}


def _reach(cells: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    """Lengths of the bars of an interval in points, (2, cells): below and above; 0 where there is none."""
    found = [cell[key] for cell in cells]
    spans = [
        (0.0, 0.0) if one["low"] is None or one["high"] is None else (one["value"] - one["low"], one["high"] - one["value"])
        for one in found
    ]
    return 100 * np.array(spans).T.clip(0)


def _label_ends(axis: Any, ends: Mapping[str, tuple[float, str]]) -> None:
    """Names in the colours of their lines at the right edge, a text's height apart."""
    low, high = axis.get_ylim()
    gap = 0.066 * (high - low)
    order = sorted(ends.items(), key=lambda item: item[1][0])
    places: list[float] = []
    for _, (height, _) in order:
        places.append(max(height, places[-1] + gap) if places else height)
    ceiling = high
    for place in reversed(range(len(places))):  # what was pushed out at the top comes down again
        places[place] = min(places[place], ceiling)
        ceiling = places[place] - gap
    for (name, (_, colour)), at in zip(order, places, strict=True):
        axis.annotate(name, (1.02, at), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=colour, annotation_clip=False)


def accuracy_by_time(table: Mapping[str, Any], ink: Ink = PAPER) -> Any:
    """Accuracy against prefill time, as a share of the unpruned one's on the same question: bars in both directions."""
    rows = {
        row: [cell for cell in cells if (cell["prefill_ratio"] or {}).get("median") is not None] for row, cells in _lines(table).items()
    }
    shown = [row for row in drawn_rows(table) if rows[row]]
    unpruned = table["plain"].get("unpruned")
    if not shown or unpruned is None or unpruned["accuracy"]["value"] is None:
        return None
    from matplotlib import pyplot

    kinds = {row: cells[0]["kind"] for row, cells in rows.items() if cells}
    colours = colours_of(shown, kinds, ink)
    figure, axis = pyplot.subplots(figsize=(3.0, 3.2))
    for row in shown:
        cells = rows[row]
        times = [cell["prefill_ratio"]["median"] for cell in cells]
        reach = np.array([_time_reach(cell["prefill_ratio"]) for cell in cells]).T
        heights = [100 * cell["accuracy"]["value"] for cell in cells]
        axis.errorbar(times, heights, xerr=reach, yerr=_reach(cells, "accuracy"), color=colours[row], alpha=0.85, **BARS)
    ends = {f"{row} *" if kinds[row] == "control" else row: (100 * rows[row][-1]["accuracy"]["value"], colours[row]) for row in shown}
    axis.plot(1, 100 * unpruned["accuracy"]["value"], marker="*", markersize=10, color=ink.text, linestyle="")
    # on the left of its star: on the right are the names of the rows
    axis.annotate("unpruned", (1, 100 * unpruned["accuracy"]["value"]), xytext=(6, -15), textcoords="offset points", ha="right", fontsize=8)
    points = [(cell["prefill_ratio"]["median"], 100 * cell["accuracy"]["value"]) for row in shown for cell in rows[row]]
    front = pareto_front([*points, (1.0, 100 * unpruned["accuracy"]["value"])])
    axis.step(*zip(*front, strict=True), where="post", color=ink.text, linewidth=0.8, linestyle=":")
    for name in ("no-image", "majority"):
        if name in table["plain"]:
            value = 100 * table["plain"][name]["accuracy"]["value"]
            axis.axhline(value, color=ink.faint, linewidth=0.9, linestyle=":" if name == "no-image" else "-.")
            ends[f"{name} *"] = (value, ink.faint)
    size = table["facts"]["batch_size"]
    axis.set_xlabel(
        "prefill time over unpruned, paired by question" + (f" (shares of batches of up to {size})" if size > 1 else "") + _hidden(table)
    )
    axis.set_ylabel(f"{_about(table)}, %")
    _label_ends(axis, ends)
    return figure


def _time_reach(found: Mapping[str, Any]) -> tuple[float, float]:
    """From the median down to the tenth percentile, and up to the ninetieth."""
    low, high = found.get("p10"), found.get("p90")
    return (0.0, 0.0) if low is None or high is None else (max(found["median"] - low, 0), max(high - found["median"], 0))


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (cost, gain) that no other beats in both, by rising cost."""
    front: list[tuple[float, float]] = []
    for cost, gain in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not front or gain > front[-1][1]:
            front.append((cost, gain))
    return front


OF_TABLE: dict[str, Callable[..., Any]] = {
    "ranking": ranking,
    "retention_by_budget": retention_by_budget,
    "accuracy_by_time": accuracy_by_time,
}


def curves_by_information(table: Mapping[str, Any], answers: Sequence[AnswerRow], most: int | None = None) -> Any:
    """``draw_curves`` of a sweep: the rows of AutoPrune at the middle budget."""
    budget = middle_budget(table)
    families = [
        family(cell["row"], _curve_of(cell["setting"]), cell["setting"], answers)
        for cell in table["cells"]
        # the release integrates another curve
        if cell["status"] == "ok" and cell["budget"] == budget and "mode=release" not in cell["setting"]
    ]
    found = [one for one in families if one is not None]
    return draw_curves(found, budget, most) if found else None


def middle_budget(table: Mapping[str, Any]) -> str:
    """Of the table's columns."""
    columns = table["columns"]
    return str(columns[len(columns) // 2]["budget"])


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
        image = axis.pcolormesh(shares, cmap="RdBu_r", vmin=even - reach, vmax=even + reach)
        axis.invert_yaxis()
        axis.grid(False)
        for (y, x), value in np.ndenumerate(shares):
            strong = abs(value - even) > 0.65 * reach
            axis.text(x + 0.5, y + 0.5, f"{value:.0f}", ha="center", va="center", fontsize=7, color="white" if strong else "black")
        axis.set_xticks(np.arange(views) + 0.5, view_names(questions, views), rotation=35, ha="right", fontsize=7)
        axis.set_yticks(np.arange(len(names)) + 0.5, names, fontsize=8)
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
