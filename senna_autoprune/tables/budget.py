"""A budget's certificate as tables: what was tested in which order, what was chosen on the first half, where it hurts most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from senna_autoprune.evaluation.measures.verdict import METRES, POINTS, amount, up
from senna_autoprune.tables.grid import UNDEFINED, Grid, number, percent

Certificate = Mapping[str, Any]


def grids(found: Certificate) -> list[Grid]:
    """In the order of reading; empty tables are left out."""
    all_of_them = (each_grid(found), sequence_grid(found), choice_grid(found), strata_grid(found), control_grid(found))
    return [grid for grid in all_of_them if grid.rows]


def summary_grid(found: Certificate) -> Grid:
    """What fits 80 columns: of one method each budget that was tested, of several what each method's smallest safe one showed."""
    if found.get("each"):
        grid = each_grid(found)
        columns = [*grid.columns[:5], grid.columns[6]]
        rows = [
            [method, f"{safe} *" if held else safe, points, dangerous, time, then.removesuffix(", stopped early")]
            for method, safe, points, dangerous, time, held, then, _ in grid.rows
        ]
        notes = [note.replace("all held: also", "*: also") for note in grid.notes if not note.startswith("one cut")]
        return replace(grid, columns=columns, rows=rows, notes=notes, texts=(0, 5))
    full = sequence_grid(found)
    if not full.rows:
        return grids(found)[0]
    columns = ["tokens", "scenes", f"{_column(found)}\n[at worst]", "dangerous\n[at most]", "whole\ntime", "outcome"]
    grid = Grid(full.title, columns, notes=full.notes, texts=(0, 5))
    for tokens, _outcome, points, worst, dangerous, most, scenes, time, reason, _ in full.rows:
        danger = dangerous if dangerous == UNDEFINED else f"{dangerous} [{most}]"
        grid.rows.append([tokens, scenes, f"{points} [{worst}]", danger, time, reason])
    return grid


def _over(found: Certificate) -> Certificate:
    """What it is over; of certificates made before there was more than accuracy and agreement of plans, those."""
    plan = {"unit": POINTS, "dangerous": "a missed brake or the wrong side that unpruned did not have"}
    return found.get("over") or {"figure": found["measure"], **plan}


def _signed(value: float | None, found: Certificate) -> str:
    if value is None:
        return UNDEFINED
    return f"{value:+.2f}" if _over(found)["unit"] == METRES else f"{100 * value:+.1f}"


def _column(found: Certificate) -> str:
    return "metres" if _over(found)["unit"] == METRES else "points"


def _scenes(count: int | None) -> str:
    return UNDEFINED if count is None else str(count)


def _worst(bound: float | None, found: Certificate) -> str:
    """A lower bound, never printed larger than it is."""
    return _signed(None if bound is None else -up(-bound, _over(found)["unit"]), found)


def _most(bound: float | None) -> str:
    """An upper bound, never printed smaller than it is."""
    return percent(None if bound is None else min(up(bound), 1.0))


def each_grid(found: Certificate) -> Grid:
    """Every method with its smallest safe budget and what it showed there, or the first budget that failed and why."""
    margins, over = found["margins"], _over(found)
    column = _column(found)
    columns = ["method", "safe at", f"{column}\n[at worst]", "dangerous\n[at most]", "whole\ntime", "all\nheld", "then", "one cut"]
    safety = f", at most {100 * margins['safety']:.1f} % of scenes dangerous" if over["dangerous"] else ""
    title = f"Smallest safe budget: margin {amount(margins['margin'], over['unit'])}{safety}"
    grid = Grid(title, columns, texts=(0, 5, 6, 7))
    rows = found.get("each", [])
    for one in sorted(rows, key=lambda one: one["kind"] == "control"):
        if one["kind"] == "control" and grid.rows and not grid.sections:
            grid.end_section()
        if one["budget"] is not None and not grid.strong:
            grid.strong.append(len(grid.rows))
        grid.rows.append([one["method"], UNDEFINED if one["budget"] is None else f"{100 * one['budget']:.3g} %", *_reached(one, found)])
    if rows:
        scenes = len(found["halves"]["certify"])
        grid.notes = [
            f"{scenes} scenes; {_said(over)}; dangerous: {_danger(over).removeprefix('scenes with ')}",
            "whole time: of a question, beside unpruned; then: the next budget, and what was not shown there",
            "each method is tested by itself at 5 %, from the largest budget down; all held: also corrected for so many (Holm)",
            "one cut: what engines call it that can only prune once, before the decoder",
        ]
        grid.notes += _unsteady([one["at"] for one in rows if one["at"] is not None])
        if found.get("power"):
            grid.notes.append(found["power"])
    return grid


def _unsteady(steps: Sequence[Certificate]) -> list[str]:
    """A line, where times were not compared."""
    drifts = [step["cost"]["drift"] for step in steps if step["cost"].get("drift") and step["cost"]["total_ratio"] is None]
    if not drifts:
        return []
    low, high = min(drifts), max(drifts)
    times = f"{low:.2f}" if high - low < 0.005 else f"{low:.2f} to {high:.2f}"
    line = f"time n/a: the vision tower took {times} times as long over the same pictures as when unpruned was asked; try a quiet machine"
    return [line]


def _reached(one: Certificate, found: Certificate) -> list[str]:
    """Cells of a method: at its smallest safe budget, or empty but for why it has none."""
    failed = next((step for step in one["sequence"] if step["outcome"] != "safe"), None)
    why = "" if failed is None else failed["reason"].partition(":")[0] + (", stopped early" if "early" in failed["reason"] else "")
    then = one["stopped"] or ("" if failed is None else f"{100 * failed['budget']:.3g} %: {why}")
    at = one["at"]
    if at is None:
        return ["", "", "", "", then, ""]
    last = at["looks"][-1]
    points = f"{_signed(last['difference'], found)} [{_worst(last['lower'], found)}]"
    dangerous = UNDEFINED if last["dangerous"] is None else f"{last['dangerous']} [{_most(last['dangerous_upper'])}]"
    cut = "" if at["deployable"].startswith("none") else at["deployable"].partition(":")[0].replace(", reduction ratio", "")
    return [points, dangerous, number(at["cost"]["total_ratio"], 2), "yes" if one["together"] else "", then or "no smaller was tried", cut]


def sequence_grid(found: Certificate) -> Grid:
    """The certificate: budgets from the largest down, with the last look at each."""
    margins, over = found["margins"], _over(found)
    margin = amount(margins["margin"], over["unit"])
    safety = f", at most {100 * margins['safety']:.1f} % of scenes newly dangerous" if over["dangerous"] else ""
    grid = Grid(
        f"Certificate: margin {margin}{safety}",
        ["tokens", "outcome", _column(found), "at worst", "dangerous", "at most", "scenes", "time", "why", "deployable"],
        texts=(0, 8, 9),
    )
    for step in found.get("sequence", []):
        last, cost = step["looks"][-1], step["cost"]
        grid.rows.append(
            [
                percent(step["budget"]),
                step["outcome"],
                _signed(last["difference"], found),
                _worst(last["lower"], found),
                _scenes(last["dangerous"]),
                _most(last["dangerous_upper"]),
                str(last["scenes"]),
                number(cost["total_ratio"], 2),
                step["reason"],
                step["deployable"],
            ]
        )
    grid.notes = [
        f"margin: {margins['source']}; {_said(over)}; at worst and at most: one-sided 95 % bounds",
        f"dangerous: {_danger(over)}; time: of the whole question, beside unpruned",
        "tested from the largest budget down, each at 5 %, stopping at the first failure: a wrong certificate has a chance of 5 % at most",
        *_unsteady(found.get("sequence", [])),
    ]
    if found.get("power"):
        grid.notes.append(found["power"])
    if found.get("noise"):
        changed = found["noise"]["changed"]
        much = f"its paths by {changed:.3f} m" if over["unit"] == METRES else f"{100 * changed:.2f} % of the rights and wrongs"
        grid.notes.append(f"noise floor: unpruned against itself changes {much}")
    return grid


def _said(over: Certificate) -> str:
    if over["unit"] == METRES:
        return f"metres of {over['figure']}, unpruned minus pruned: negative is further from the true path"
    return f"points of {over['figure']}, pruned minus unpruned"


def _danger(over: Certificate) -> str:
    return f"scenes with {over['dangerous']}" if over["dangerous"] else "of these answers nobody says which changes are"


def choice_grid(found: Certificate) -> Grid:
    """What the first half said of each candidate; nothing is claimed of it."""
    grid = Grid("Choosing, on the other half of the scenes", ["method", "tokens", _column(found), "promising", "dangerous scenes"])
    chosen = found.get("chosen", {})
    for one in chosen.get("tried", []):
        reached = one["difference"] is not None
        points, dangerous = (_signed(one["difference"], found), _scenes(one["dangerous"])) if reached else ("out of reach", "")
        if one["method"] == chosen["method"]:
            grid.strong.append(len(grid.rows))
        grid.rows.append([one["method"], percent(one["budget"]), points, "yes" if one["promising"] else "no", dangerous])
    return grid


def strata_grid(found: Certificate) -> Grid:
    """Conditions, worst first."""
    whose = f": {found['best']}" if found.get("best") else ""
    grid = Grid(
        f"Where it hurts most{whose}", ["stratum", _column(found), "p (Holm)", "dangerous", "scenes", "questions", "outcome"], texts=(0, 6)
    )
    for one in found.get("strata", []):
        p_value = UNDEFINED if one["p_holm"] is None else number(one["p_holm"])
        shown = [
            _signed(one["difference"], found),
            p_value,
            _scenes(one["dangerous"]),
            str(one["scenes"]),
            str(one["questions"]),
            one["outcome"],
        ]
        grid.rows.append([one["stratum"], *shown])
    grid.notes = ["p: sign flips of whole scenes, two-sided, Holm over the table; fewer than 10 scenes: too few for a p"]
    return grid


def control_grid(found: Certificate) -> Grid:
    """Answerers that see nothing, against the same margin: if one passed, nothing could be certified."""
    grid = Grid("Controls that see nothing", ["control", "questions", _column(found), "at worst"])
    for one in found["controls"]:
        grid.rows.append([one["setting"], str(one["questions"]), _signed(one["difference"], found), _worst(one["lower"], found)])
    return grid
