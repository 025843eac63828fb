"""A budget's certificate as tables: what was tested in which order, what was chosen on the first half, where it hurts most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from senna_autoprune.tables.grid import UNDEFINED, Grid, number, percent

Certificate = Mapping[str, Any]


def grids(found: Certificate) -> list[Grid]:
    """In the order of reading; empty tables are left out."""
    all_of_them = (each_grid(found), sequence_grid(found), choice_grid(found), strata_grid(found), control_grid(found))
    return [grid for grid in all_of_them if grid.rows]


def _signed(share: float | None) -> str:
    return UNDEFINED if share is None else f"{100 * share:+.1f}"


def each_grid(found: Certificate) -> Grid:
    """Every method with its smallest safe budget and what it showed there, or the first budget that failed and why."""
    margins = found["margins"]
    columns = ["method", "safe at", "points\n[at worst]", "dangerous\n[at most]", "whole\ntime", "all\nheld", "then", "one cut"]
    title = (
        f"Smallest safe budget: margin {100 * margins['margin']:.1f} points, at most {100 * margins['safety']:.1f} % of scenes dangerous"
    )
    grid = Grid(title, columns, texts=(0, 5, 6, 7))
    rows = found.get("each", [])
    for one in sorted(rows, key=lambda one: one["kind"] == "control"):
        if one["kind"] == "control" and grid.rows and not grid.sections:
            grid.end_section()
        if one["budget"] is not None and not grid.strong:
            grid.strong.append(len(grid.rows))
        grid.rows.append([one["method"], UNDEFINED if one["budget"] is None else f"{100 * one['budget']:.3g} %", *_reached(one)])
    if rows:
        scenes = len(found["halves"]["certify"])
        grid.notes = [
            f"{scenes} scenes; points of {found['measure']} against unpruned; dangerous: scenes with a new missed brake or wrong side",
            "whole time: of a question, beside unpruned; then: the next budget, and what was not shown there",
            "each method is tested by itself at 5 %, from the largest budget down; all held: also corrected for so many (Holm)",
            "one cut: what engines call it that can only prune once, before the decoder",
        ]
        if found.get("power"):
            grid.notes.append(found["power"])
    return grid


def _reached(one: Certificate) -> list[str]:
    """Cells of a method: at its smallest safe budget, or empty but for why it has none."""
    failed = next((step for step in one["sequence"] if step["outcome"] != "safe"), None)
    why = "" if failed is None else failed["reason"].partition(":")[0] + (", stopped early" if "early" in failed["reason"] else "")
    then = one["stopped"] or ("" if failed is None else f"{100 * failed['budget']:.3g} %: {why}")
    at = one["at"]
    if at is None:
        return ["", "", "", "", then, ""]
    last = at["looks"][-1]
    points = f"{_signed(last['difference'])} [{_signed(last['lower'])}]"
    dangerous = f"{last['dangerous']} [{percent(last['dangerous_upper'])}]"
    cut = "" if at["deployable"].startswith("none") else at["deployable"].partition(":")[0]
    return [points, dangerous, number(at["cost"]["total_ratio"], 2), "yes" if one["together"] else "", then or "no smaller was tried", cut]


def sequence_grid(found: Certificate) -> Grid:
    """The certificate: budgets from the largest down, with the last look at each."""
    margins = found["margins"]
    grid = Grid(
        f"Certificate: margin {100 * margins['margin']:.1f} points, at most {100 * margins['safety']:.1f} % of scenes newly dangerous",
        ["tokens", "scenes", "points", "at worst", "dangerous", "at most", "outcome", "time", "deployable"],
        texts=(0, 6, 8),
    )
    for step in found.get("sequence", []):
        last, cost = step["looks"][-1], step["cost"]
        grid.rows.append(
            [
                percent(step["budget"]),
                str(last["scenes"]),
                _signed(last["difference"]),
                _signed(last["lower"]),
                str(last["dangerous"]),
                percent(last["dangerous_upper"]),
                step["reason"],
                number(cost["total_ratio"], 2),
                step["deployable"],
            ]
        )
    grid.notes = [
        f"margin: {margins['source']}; points of {found['measure']}, pruned minus unpruned; at worst and at most: one-sided 95 % bounds",
        "dangerous: scenes with a missed brake or the wrong side that unpruned did not have; time: of the whole question, beside unpruned",
        "tested from the largest budget down, each at 5 %, stopping at the first failure: a wrong certificate has a chance of 5 % at most",
    ]
    if found.get("power"):
        grid.notes.append(found["power"])
    if found.get("noise"):
        grid.notes.append(f"noise floor: unpruned against itself changes {100 * found['noise']['changed']:.2f} % of the rights and wrongs")
    return grid


def choice_grid(found: Certificate) -> Grid:
    """What the first half said of each candidate; nothing is claimed of it."""
    grid = Grid("Choosing, on the other half of the scenes", ["method", "tokens", "points", "dangerous scenes", "promising"])
    chosen = found.get("chosen", {})
    for one in chosen.get("tried", []):
        reached = one["difference"] is not None
        shown = [_signed(one["difference"]), str(one["dangerous"])] if reached else ["out of reach", ""]
        if one["method"] == chosen["method"]:
            grid.strong.append(len(grid.rows))
        grid.rows.append([one["method"], percent(one["budget"]), *shown, "yes" if one["promising"] else "no"])
    return grid


def strata_grid(found: Certificate) -> Grid:
    """Conditions, worst first."""
    grid = Grid("Where it hurts most", ["stratum", "scenes", "questions", "points", "p (Holm)", "dangerous", "outcome"], texts=(0, 6))
    for one in found.get("strata", []):
        p_value = UNDEFINED if one["p_holm"] is None else number(one["p_holm"])
        shown = [str(one["scenes"]), str(one["questions"]), _signed(one["difference"]), p_value, str(one["dangerous"]), one["outcome"]]
        grid.rows.append([one["stratum"], *shown])
    grid.notes = ["p: sign flips of whole scenes, two-sided, Holm over the table; fewer than 10 scenes: too few for a p"]
    return grid


def control_grid(found: Certificate) -> Grid:
    """Answerers that see nothing, against the same margin: if one passed, nothing could be certified."""
    grid = Grid("Controls that see nothing", ["control", "questions", "points", "at worst"])
    for one in found["controls"]:
        grid.rows.append([one["setting"], str(one["questions"]), _signed(one["difference"]), _signed(one["lower"])])
    return grid
