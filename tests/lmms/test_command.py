"""`senna-prune benchmarks` as a user runs it: the real lmms-eval, one process a cell."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from senna_autoprune.lmms.cells import cells_of, place_of, run_cells
from senna_autoprune.lmms.suites import load_suite
from tests.lmms.tiny import VISUAL_TOKENS

SUITE = f"""
title: Local pictures
visual_tokens: {VISUAL_TOKENS}
tokens: [4]
methods: [autoprune]
tasks:
  - {{name: local_colours, column: Colours, metrics: [exact_match], scale: 100}}
"""


def run(checkpoint: Path, tasks: Path, out: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    suite = out.parent / "suite.yaml"
    suite.write_text(SUITE)
    words = [sys.executable, "-m", "senna_autoprune", "benchmarks", "--suite", str(suite), "--model", str(checkpoint), "--out", str(out)]
    words += ["--include-path", str(tasks), "--device", "cpu", "--json", *flags]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_a_table_is_measured_and_goes_on(checkpoint: Path, tasks: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = run(checkpoint, tasks, out)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("-m lmms_eval --model senna_prune_llava --model_args pretrained=") == 5
    table = json.loads(done.stdout.splitlines()[-1])
    by_row = {row["row"]: row for row in table["rows"]}
    assert list(by_row) == ["unpruned", "no-image", "random", "uniform", "autoprune"]
    for name, tokens in {"unpruned": VISUAL_TOKENS, "no-image": VISUAL_TOKENS, "random": 4, "uniform": 4, "autoprune": 4}.items():
        assert by_row[name]["visual_tokens"] == tokens
        assert (by_row[name]["flops_share"] < 1) == (tokens == 4)
        assert by_row[name]["cells"]["local_colours"]["questions"] == 5
    assert "autoprune" in (out / "table.md").read_text()

    cell = out / "cells" / "autoprune@4" / "local_colours"
    (results,) = cell.glob("*/*_results.json")
    results.write_text(results.read_text()[:100])  # killed while lmms-eval wrote it
    answers = (cell / "answers.sqlite").read_bytes()
    again = run(checkpoint, tasks, out)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("-m lmms_eval ") == 1 and again.stderr.count(", found") == 4
    assert (cell / "answers.sqlite").read_bytes() == answers, "its answers were there already"
    assert json.loads(again.stdout.splitlines()[-1]) == table


def test_what_lmms_eval_cannot_do_is_said_with_its_reason(checkpoint: Path, tasks: Path, tmp_path: Path) -> None:
    (tmp_path / "suite.yaml").write_text(SUITE)
    place = place_of(str(checkpoint), tmp_path / "out", device="cpu")  # without the folder of the task
    (outcome,) = run_cells(cells_of(load_suite(str(tmp_path / "suite.yaml")), place)[:1])
    assert outcome.result is None and outcome.reason is not None and outcome.reason.startswith("Tasks not found: local_colours")
