"""The sweep by question type as grids of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from senna_autoprune.tables.grid import UNDEFINED, Grid, interval

POOLS = {"pooled": "all closed questions", "ratio": "ratio"}


def type_grids(found: Mapping[str, Any]) -> list[Grid]:
    """Accuracy of each closed type with its controls, and every cell's retention by type, pooled, and as the paper's ratio."""
    plain = Grid("Accuracy by question type, before pruning", ["type", "questions", "unpruned", "no-image", "majority"])
    for kind, one in found["plain"].items():
        figures = [interval(one.get(name), "") for name in ("unpruned", "no-image", "majority")]
        plain.rows.append([kind, str(found["types"][kind]["questions"]), *figures])
    answers = [f"{kind}: {' '.join(one['majority']['answer'].split())[:60]}" for kind, one in found["plain"].items()]
    plain.notes = [f"majority: the best constant answer of each type ({'; '.join(answers)})"]
    free = [kind for kind, one in found["types"].items() if not one["closed"]]
    pools = [name for name in POOLS if any(name in cell["retention"] for cell in found["cells"])]
    columns = [*found["types"], *pools]
    heads = [*(f"{kind} (same words)" if kind in free else kind for kind in found["types"]), *(POOLS[name] for name in pools)]
    kept = Grid("Retention by question type, % of unpruned", ["method", "budget", *heads], texts=(0, 1))
    row = None
    for cell in found["cells"]:
        if row not in (None, cell["row"]):
            kept.end_section()
        row = cell["row"]
        figures = [interval(cell["retention"][name], "") if name in cell["retention"] else UNDEFINED for name in columns]
        kept.rows.append([f"{row} (control)" if cell["kind"] == "control" else row, cell["budget"], *figures])
    if pools:
        kept.notes.append("ratio: the mean of the closed types' retentions, as the paper pools its benchmarks; bootstrap over scenes")
    if free:
        kept.notes.append(f"{', '.join(free)}: free text, so the share of answers that say what the unpruned model says; not in the pools")
    return [grid for grid in (plain, kept) if grid.rows]
