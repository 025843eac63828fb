"""Measures of a weighted sample as a grid, beside the plain ones: what the file it was drawn from would show."""

from __future__ import annotations

from typing import Any

from senna_autoprune.tables.grid import Grid, interval


def weighted_grids(metrics: dict[str, Any], order: list[str]) -> list[Grid]:
    """One for each weighted question type; none where no question has a weight."""
    found = []
    for kind, entry in metrics.get("weighted", {}).items():
        grid = Grid(
            f"Weighted back to the questions that the sample of type {kind} was drawn from",
            ["setting", "accuracy\n(95 % interval)", "agrees\nwith unpruned", "retention\nof accuracy"],
            notes=[
                f"{entry['count']} questions, worth {entry['effective']:.0f} evenly drawn ones; weights: senna_prune.weight of the "
                "question file. Other tables are of the sample as it is. Intervals: percentile bootstrap over scenes"
            ],
        )
        for name in order:
            if name in entry["settings"]:
                if name == metrics["method"]:
                    grid.strong.append(len(grid.rows))
                shown = [
                    interval(one) if (one := entry["settings"][name].get(key)) else "" for key in ("accuracy", "agreement", "retention")
                ]
                grid.rows.append([name, *shown])
        found.append(grid)
    return found
