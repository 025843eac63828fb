"""A certificate's tables say where times could not be compared, and why."""

from __future__ import annotations

import copy
import json
from pathlib import Path

from senna_autoprune.tables.budget import each_grid, grids, summary_grid

ROOT = Path(__file__).resolve().parents[2]


def test_times_that_were_not_compared_are_said() -> None:
    found = json.loads((ROOT / "docs" / "results" / "budget" / "budget.json").read_text())
    assert not any("time n/a" in note for grid in grids(found) for note in grid.notes)
    slow = copy.deepcopy(found)
    safe = [one["at"] for one in slow["each"] if one["at"] is not None]
    safe[0]["cost"] = {**safe[0]["cost"], "total_ratio": None, "prefill_ratio": None, "drift": 1.417}
    (note,) = [note for note in each_grid(slow).notes if "time n/a" in note]
    assert note in summary_grid(slow).notes and "1.42 times as long over the same pictures as when unpruned was asked" in note
    assert [row[4] for row in each_grid(slow).rows].count("n/a") == 1
    safe[1]["cost"] = {**safe[1]["cost"], "total_ratio": None, "drift": 0.8}
    assert any("0.80 to 1.42 times" in note for note in each_grid(slow).notes)
    alone = {**slow, "each": [], "sequence": slow["each"][0]["sequence"]}
    alone["sequence"][0]["cost"] = {"total_ratio": None, "drift": 1.3}
    assert any("1.30 times as long" in note for note in summary_grid(alone).notes)
