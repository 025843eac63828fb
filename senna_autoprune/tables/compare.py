"""Two runs compared, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from senna_autoprune.tables.grid import Grid, interval, percent
from senna_autoprune.tables.run import p_value

SHOWN = 20  # flips listed


def grids(found: Mapping[str, Any], listed: int = SHOWN) -> list[Grid]:
    """Accuracy side by side, and so many of the answers that changed for the worse or the better, worst first."""
    return [grid for grid in (_accuracy(found), _flips(found), _listed(found, listed)) if grid.rows]


def _accuracy(found: Mapping[str, Any]) -> Grid:
    grid = Grid(
        f"{found['questions']} questions of {found['scenes']} scenes that both answered",
        ["", "accuracy (95 %)", "setting", "run", "only it answered"],
        texts=(0, 2, 3),
    )
    for name in ("a", "b"):
        side = found[name]
        grid.rows.append([name.upper(), interval(found[f"accuracy_{name}"]), side["setting"], side["run"], str(side["only"])])
    test, extra = found["scene_test"], found["mcnemar"]
    grid.notes = [
        f"B / A: {interval(found['ratio'])}",
        f"right only in A: {test['lost']}, only in B: {test['gained']}; scenes worse: {test['scenes_worse']}, "
        f"better: {test['scenes_better']}, p {p_value(test['p_value'])} by sign flips of whole scenes",
        f"McNemar's exact p {p_value(extra['p_value'])} (an extra: questions as if independent)",
    ]
    return grid


def _flips(found: Mapping[str, Any]) -> Grid:
    flips = found["flips"]
    title = f"Answers that differ: {flips['flips']}, of B's to the worse: {flips['harmful']}"
    grid = Grid(title, ["severity", "answers", "share", "meaning"], texts=(0, 3))
    for name, one in flips["by_severity"].items():
        if one["count"]:
            grid.rows.append([name, str(one["count"]), percent(one["rate"]), one["meaning"]])
    return grid


def _listed(found: Mapping[str, Any], most: int) -> Grid:
    grid = Grid("Worst first", ["severity", "scene", "question", "label", "A", "B"], texts=(0, 1, 3, 4, 5))
    for flip in found["flips"]["list"][:most]:
        words = [" ".join(flip[key].split())[:60] for key in ("label", "a", "b")]
        grid.rows.append([flip["severity"], flip["scene"], str(flip["question"]), *words])
    if len(found["flips"]["list"]) > most:
        grid.notes = [f"{most} of {len(found['flips']['list'])}; the JSON has all"]
    return grid
