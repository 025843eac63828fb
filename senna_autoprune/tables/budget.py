"""A budget's certificate as tables: what was tested in which order, what was chosen on the first half, where it hurts most."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from senna_autoprune.tables.grid import UNDEFINED, Grid, number, percent

Certificate = Mapping[str, Any]


def grids(found: Certificate) -> list[Grid]:
    """In the order of reading; empty tables are left out."""
    return [grid for grid in (sequence_grid(found), choice_grid(found), strata_grid(found), control_grid(found)) if grid.rows]


def _signed(share: float | None) -> str:
    return UNDEFINED if share is None else f"{100 * share:+.1f}"


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
