"""The tables of methods in docs/results/README.md as they follow from table.json of docs/results/table3 and docs/results/types.

python -m tests.docs.readme_table    # prints them
"""

from __future__ import annotations

import json
from typing import Any

from tests.docs.pages import DOCS

BUDGETS = ("0.1", "0.25", "0.4")
LEFT_OUT = ("autoprune:gamma=calibrated",)  # in the whole table


def _interval(found: dict[str, Any]) -> str:
    return f"{100 * found['value']:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"


def _cell(cell: dict[str, Any]) -> str:
    if cell["status"] != "ok":
        return "n/a"
    sign = {"R+": " +", "R-": " -"}
    return _interval(cell["retention"]) + "".join(sign.get(mark, "") for mark in cell["marks"])


def lines() -> list[str]:
    """Markdown lines, the head first."""
    table = json.loads((DOCS / "results" / "table3" / "table.json").read_text(encoding="utf-8"))
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for cell in table["cells"]:
        rows.setdefault(cell["row"], {})[cell["budget"]] = cell
    shown = ["| | " + " | ".join(f"{100 * float(budget):g} %" for budget in BUDGETS) + " |", "|---|" + "---:|" * len(BUDGETS)]
    for name, label in (("no-image", "no-image (control)"), ("majority", "majority answer (control)")):
        shown.append(f"| {label} | " + " | ".join([_interval(table["plain"][name]["retention"])] * len(BUDGETS)) + " |")
    for row, cells in rows.items():
        if row not in LEFT_OUT:
            label = f"{row} (control)" if cells[BUDGETS[0]]["kind"] == "control" else row
            shown.append(f"| {label} | " + " | ".join(_cell(cells[budget]) for budget in BUDGETS) + " |")
    return shown


TYPES = ("plan", "vru", "light", "motion", "description", "explanation")


def lines_by_type() -> list[str]:
    """Markdown lines of what each method keeps of each type of question, and of all closed ones together."""
    cells = json.loads((DOCS / "results" / "types" / "table.json").read_text(encoding="utf-8"))["by_type"]["cells"]
    heads = ("plan", "road users", "light", "motion", "description*", "explanation*", "closed, pooled", "closed, mean of types")
    shown = ["| at 25 % of the tokens | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for cell in cells:
        if cell["row"] not in LEFT_OUT:
            label = f"{cell['row']} (control)" if cell["kind"] == "control" else cell["row"]
            kept = [f"{100 * cell['retention'][kind]['value']:.1f}" for kind in TYPES]
            shown.append(
                f"| {label} | " + " | ".join([*kept, _interval(cell["retention"]["pooled"]), _interval(cell["retention"]["ratio"])]) + " |"
            )
    return shown


if __name__ == "__main__":
    print("\n".join([*lines(), "", *lines_by_type()]))
