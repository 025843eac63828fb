"""The tables of methods in docs/results/README.md as they follow from table.json of table3, types, types_budgets and test_split there.

python -m tests.docs.readme_table    # prints them
"""

from __future__ import annotations

import json
from typing import Any

from tests.docs.pages import DOCS

BUDGETS = ("0.1", "0.25", "0.4")  # shown of table3; of test_split all
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


if __name__ == "__main__":
    print("\n".join([*lines(), "", *lines_by_type(), "", *lines_by_budget(), "", *lines("test_split")]))
