"""A sweep on a screen of 80 columns: the sentence, retention by budget, what to type next. ``tables/sweep.py`` has everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from senna_autoprune.evaluation.runs.rows import MAJORITY, NO_IMAGE
from senna_autoprune.tables.grid import UNDEFINED, Grid, percent

MOST_BUDGETS = 8  # columns of a budget that fit
SIGNS = {"R+": "+", "R-": "-"}


def verdict_line(table: Mapping[str, Any]) -> str | None:
    """The sentence that may be said of the sweep; None of tables made before there was one."""
    found = table.get("verdict")
    return found["sentence"] if found else None


def summary_grid(table: Mapping[str, Any]) -> Grid:
    """Retention of every method at the budgets, beside the controls; what cannot be reached is said below."""
    facts, columns = table["facts"], _columns(table)
    about = facts.get("about", "planning accuracy")
    questions, scenes = facts["questions"], facts["scenes"]["count"]
    title = f"Kept of {about}, %: {questions} question{'s' * (questions != 1)}, {scenes} scene{'s' * (scenes != 1)}"
    grid = Grid(title, ["tokens kept", *(_head(column) for column in columns)])
    plain = table["plain"]
    for name in (NO_IMAGE, MAJORITY):
        if name in plain:
            grid.rows.append([f"{name} *", *[_kept(plain[name])] * len(columns)])
    rows: dict[str, dict[str, Any]] = {}
    for cell in table["cells"]:
        rows.setdefault(cell["row"], {})[cell["budget"]] = cell
    kind = "control"
    for row, cells in rows.items():
        first = next(iter(cells.values()))["kind"]
        if first != kind:
            grid.end_section()
            kind = first
        grid.rows.append([f"{row} *" if kind == "control" else row, *(_cell(cells[column["budget"]]) for column in columns)])
    grid.notes = ["* control; + better, - worse than random at the same budget (by scene, Holm, p < 0.05)", *_unreached(rows)]
    if len(columns) < len(table["columns"]):
        grid.notes.append(f"{len(columns)} of {len(table['columns'])} budgets; the others: --full")
    return grid


def _columns(table: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """As many as fit, spread evenly, the first and the last among them."""
    found = list(table["columns"])
    if len(found) <= MOST_BUDGETS:
        return found
    return [found[round(place * (len(found) - 1) / (MOST_BUDGETS - 1))] for place in range(MOST_BUDGETS)]


def _head(column: Mapping[str, Any]) -> str:
    return f"{100 * column['share']:.3g} %" if column["share"] is not None else str(column["budget"])


def _kept(entry: Mapping[str, Any]) -> str:
    found = entry.get("retention")
    return UNDEFINED if found is None else percent(found["value"], "")


def _cell(cell: Mapping[str, Any]) -> str:
    if cell["status"] != "ok":
        return UNDEFINED
    return _kept(cell) + "".join(sign for mark, sign in SIGNS.items() if mark in cell.get("marks", []))


def _unreached(rows: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Why a budget cannot be reached, a line a method: the reason at the largest of them."""
    notes = []
    for row, cells in rows.items():
        missing = [cell for cell in cells.values() if cell["status"] != "ok"]
        if missing:
            where = ", ".join(str(cell["budget"]) for cell in missing)
            notes.append(f"{UNDEFINED}: {row} at {where}: {missing[-1]['reason']}")
    return notes


def next_commands(directory: str) -> list[str]:
    """What a reader of the summary types next."""
    return [
        f"all tables: --full, {directory}/table.md, or senna-prune report {directory}",
        "next: senna-prune budget    how far may this model be pruned, and how sure is that",
    ]
