"""`bench --compare`: settings of two measurements in pairs, or a line that says why not."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from senna_autoprune.bench.compare import pairs, read_earlier
from senna_autoprune.bench.passes import Pass, to_json, to_rows
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.tables.bench import compare_table
from tests.bench.test_passes import SHAPE


def measured(unpruned: float, pruned: float, **more: Any) -> tuple[dict[str, Any], Any]:
    seen = {"unpruned": [Pass(unpruned, 1.0, 0)], "autoprune@0.25": [Pass(pruned, 1.0, 0)]}
    rows = to_rows(seen, SHAPE.layers)  # type: ignore[arg-type]
    return to_json(SHAPE, rows, **{"clock": "wall", "machine": {"dtype": "float32", "device": "cpu"}, **more}), rows


def test_pairs_hold_both_times_and_each_its_own_speedup(tmp_path: Path) -> None:
    earlier, _ = measured(8.0, 4.0)
    now, rows = measured(6.0, 2.0)
    file = tmp_path / "bench.txt"
    file.write_text("machine: some\n table\n" + json.dumps(earlier) + "\n")
    first, second = pairs(read_earlier(file), now, rows, file)
    assert (second.setting, second.before_ms, second.now_ms) == ("autoprune@0.25", 4.0, 2.0)
    assert (second.before_speedup, second.now_speedup) == (2.0, 3.0) and first.now_speedup == 1.0
    assert compare_table([first, second], "bench.txt").rows[1] == ["autoprune@0.25", "4.0", "2.0", "0.500", "2.00", "3.00"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"clock": "cpu"}, "clock cpu"),
        ({"machine": {"dtype": "bfloat16", "device": "cpu"}}, "dtype bfloat16"),
        ({"shape": {**asdict(SHAPE), "layers": 99}}, "shape.layers 99"),
        ({"rows": [{"setting": "unpruned"}]}, "lacks its setting"),
        ({"rows": [{"setting": "unpruned", "prefill_ms": {"median": float("nan")}, "speedup": 1}]}, "no positive number"),
        ({"rows": []}, "none of this measurement's settings"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    earlier, _ = measured(8.0, 4.0)
    now, rows = measured(6.0, 2.0)
    with pytest.raises(SennaPruneError, match=said):
        pairs({**earlier, **change}, now, rows, Path("old.json"))


@pytest.mark.parametrize("text", ["", "[1]", "{}", "no JSON", '{"rows": 1, "shape": {}}'])
def test_other_files_are_no_measurement(tmp_path: Path, text: str) -> None:
    file = tmp_path / "old.json"
    file.write_text(text)
    with pytest.raises(SennaPruneError, match="holds no measurement"):
        read_earlier(file)
    with pytest.raises(SennaPruneError, match="is not a file"):
        read_earlier(tmp_path / "absent.json")
