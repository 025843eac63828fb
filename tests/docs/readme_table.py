"""The tables of methods in docs/results/README.md as they follow from table.json of table3, types, types_budgets and test_split there, and
from survival.md.

python -m tests.docs.readme_table    # prints them
"""

from __future__ import annotations

import json
from typing import Any

from senna_autoprune.evaluation.runs.rows import PRUNING_CONTROLS
from tests.docs.pages import DOCS

BUDGETS = ("0.1", "0.25", "0.4")  # shown of table3; of test_split all
CONTROLS = (*PRUNING_CONTROLS, "random-lengths")
RIVALS = ("dart", "prune2drive", "sparsevlm", "fastv", "random-lengths")
LEFT_OUT = ("autoprune:gamma=calibrated",)  # in the whole table


def _interval(found: dict[str, Any]) -> str:
    return f"{100 * found['value']:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def _cell(cell: dict[str, Any]) -> str:
    if cell["status"] != "ok":
        return "n/a"
    sign = {"R+": " +", "R-": " -"}
    return _interval(cell["retention"]) + "".join(sign.get(mark, "") for mark in cell["marks"])


def _table(folder: str) -> Any:
    return json.loads((DOCS / "results" / folder / "table.json").read_text(encoding="utf-8"))


def _rows(cells: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Row -> budget -> cell."""
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for cell in cells:
        rows.setdefault(cell["row"], {})[cell["budget"]] = cell
    return rows


def _budgets(rows: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    return sorted({budget for at in rows.values() for budget in at}, key=float)


def lines(folder: str = "table3") -> list[str]:
    """Markdown lines, the head first, of docs/results/table3 or test_split."""
    table = _table(folder)
    rows = _rows(table["cells"])
    budgets = BUDGETS if folder == "table3" else _budgets(rows)
    shown = ["| | " + " | ".join(f"{100 * float(budget):g} %" for budget in budgets) + " |", "|---|" + "---:|" * len(budgets)]
    for name, label in (("no-image", "no-image (control)"), ("majority", "majority answer (control)")):
        shown.append(f"| {label} | " + " | ".join([_interval(table["plain"][name]["retention"])] * len(budgets)) + " |")
    for row, cells in rows.items():
        if row not in LEFT_OUT:
            label = f"{row} (control)" if next(iter(cells.values()))["kind"] == "control" else row
            shown.append(f"| {label} | " + " | ".join(_cell(cells[budget]) if budget in cells else "n/a" for budget in budgets) + " |")
    return shown


def _gains(folder: str, against: tuple[str, ...]) -> list[str]:
    """How much more AutoPrune gains on complex plans than on simple ones, as the paper sets it and calibrated, a column a budget."""
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for one in _table(folder)["complexity"]["interactions"]:
        found.setdefault((one["adaptive"], one["static"]), {})[one["budget"]] = one
    budgets = sorted({budget for at in found.values() for budget in at}, key=float)
    shown = ["| | against | " + " | ".join(f"{100 * float(budget):g} %" for budget in budgets) + " |", "|---|---|" + "---:|" * len(budgets)]
    for label, adaptive in (("as published", "autoprune"), ("calibrated", LEFT_OUT[0])):
        for row in against:
            cells = [_interval(found[adaptive, row][b]) if b in found[adaptive, row] else "n/a" for b in budgets]
            shown.append(f"| {label} | {row.removeprefix('autoprune:indicator=')} | " + " | ".join(cells) + " |")
    return shown


def lines_of_interaction() -> list[str]:
    """Against other methods, of docs/results/test_split."""
    return _gains("test_split", RIVALS)


def lines_of_slopes() -> list[str]:
    """Against AutoPrune's own curve with one slope for all questions, of docs/results/complexity_plans."""
    return _gains(
        "complexity_plans", tuple(f"autoprune:indicator=static{slope}" for slope in ("", ":k0=0.05", ":k0=0.15", ":k0=0.3", ":k0=0.8"))
    )


def lines_by_band() -> list[str]:
    """What the curves keep of simple, medium and complex plans at 10 and 25 %, of docs/results/complexity_plans."""
    table = _table("complexity_plans")
    bands = {(cell["row"], cell["budget"]): cell["bands"] for cell in table["complexity"]["cells"]}
    whole = {(cell["row"], cell["budget"]): cell["retention"] for cell in table["cells"]}
    heads = [f"{name} at {share} %" for share in (10, 25) for name in ("all", "simple", "complex")]
    shown = ["| | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for row in dict.fromkeys(row for row, _ in bands if row.startswith("autoprune") or row in ("prune2drive", "dart", "random-lengths")):
        cells = [[whole[row, at], bands[row, at]["simple"], bands[row, at]["complex"]] for at in ("0.1", "0.25")]
        shown.append(f"| {row} | " + " | ".join(_interval(one) for part in cells for one in part) + " |")
    return shown


RENUMBERING = {"divprune": "Div", "cdpruner": "CD", "tome": "ToMe", "vispruner": "Vis", "fastervlm": "Faster", "visionzip": "Zip"}


def lines_of_positions() -> list[str]:
    """Markdown lines of the methods that renumber positions, as released (table3) and with the original ones (positions)."""
    released, original = _rows(_table("table3")["cells"]), _rows(_table("positions")["cells"])
    heads = [f"{share} %, {how}" for share in (10, 25) for how in ("as released", "original positions")]
    shown = ["| | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for name, own in RENUMBERING.items():
        cells = [_interval(rows[at]["retention"]) for at in ("0.1", "0.25") for rows in (released[name], original[f"orig:{own}Original"])]
        shown.append(f"| {name} | " + " | ".join(cells) + " |")
    return shown


TYPES = ("plan", "vru", "light", "motion", "description", "explanation")


def lines_by_type() -> list[str]:
    """Markdown lines of what each method keeps of each type of question at 25 %, and of all closed ones together there and at 40 %."""
    rows = _rows(_table("types")["by_type"]["cells"])
    heads = (
        "plan",
        "road users",
        "light",
        "motion",
        "description*",
        "explanation*",
        "closed, pooled",
        "closed, mean of types",
        "pooled at 40 %",
    )
    shown = ["| at 25 % of the tokens | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for row, at in rows.items():
        if row in LEFT_OUT:
            continue
        label = f"{row} (control)" if at["0.4"]["kind"] == "control" else row
        kept = ["n/a"] * (len(heads) - 1)
        if "0.25" in at:
            found = at["0.25"]["retention"]
            kept = [f"{100 * found[kind]['value']:.1f}" for kind in TYPES] + [_interval(found["pooled"]), _interval(found["ratio"])]
        shown.append(f"| {label} | " + " | ".join([*kept, _interval(at["0.4"]["retention"]["pooled"])]) + " |")
    return shown


def lines_by_budget() -> list[str]:
    """Markdown lines of what each method keeps of all closed types together, at every budget, on the same 300 questions."""
    rows = _rows(_table("types_budgets")["by_type"]["cells"])
    budgets = _budgets(rows)
    shown = ["| | " + " | ".join(f"{100 * float(budget):g} %" for budget in budgets) + " |", "|---|" + "---:|" * len(budgets)]
    for row, at in rows.items():
        if row not in LEFT_OUT:
            label = f"{row} (control)" if next(iter(at.values()))["kind"] == "control" else row
            kept = [_interval(at[budget]["retention"]["pooled"]) if budget in at else "n/a" for budget in budgets]
            shown.append(f"| {label} | " + " | ".join(kept) + " |")
    return shown


def _pipes(title: str) -> list[dict[str, str]]:
    """Rows of the table below a title of docs/results/survival/survival.md, by column."""
    below = (DOCS / "results" / "survival" / "survival.md").read_text(encoding="utf-8").split(f"### {title}", 1)[1]
    table = [line for line in below.split("\n### ", 1)[0].splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return [dict(zip(head, row, strict=True)) for row in rows]


def lines_of_survival(budget: str = "25.0 %") -> list[str]:
    """Markdown lines of what is left of what shows each class in the middle layer, of all of it in the mean and in the last layer."""
    parts = [_pipes(f"Survival in the middle layer by {group}") for group in ("class", "role")]
    heads = ("pedestrian", "cyclist", "vehicle", "light", "decides the plan")
    shown = [f"| at {budget.replace('.0', '')} | " + " | ".join(heads) + " | mean of layers | gain over chance | last layer |"]
    shown.append("|---|" + "---:|" * (len(heads) + 3))
    found = {row["method"]: {**row} for row in _pipes("Evidence that survives") if row["budget"] == budget}
    for row in (row for part in parts for row in part if row["budget"] == budget):
        found[row["method"]].update(row)
    for method, row in found.items():
        if method not in LEFT_OUT:
            label = f"{method} (control)" if method in CONTROLS else method
            cells = [row[head].split(" ")[0] for head in heads]
            ends = (row["survival"].split(" ")[0], row["gain"], row["last layer"].split(" ")[0])
            shown.append(f"| {label} | " + " | ".join([*cells, *ends]) + " |")
    return shown


if __name__ == "__main__":
    print(
        "\n".join(
            [
                *lines(),
                "",
                *lines_by_type(),
                "",
                *lines_by_budget(),
                "",
                *lines("test_split"),
                "",
                *lines_of_interaction(),
                "",
                *lines_of_survival(),
            ]
        )
    )
