"""Answers as CSV and Parquet: every one, as data; Parquet refused in one line where pyarrow is not installed."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from senna_autoprune.cli import cli
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.tables.answers import COLUMNS, lines, write_csv, write_parquet


@pytest.fixture
def run(tmp_path: Path) -> Path:
    questions = [QuestionRow(i, f"t{i}", "plan", "PLAN", "KEEP, STRAIGHT\n", (), "s", True, {}) for i in range(2)]
    with RunStore.start(tmp_path / "run", {"config": {}, "identity": {}, "settings": {}}, questions) as store:
        store.add(AnswerRow(0, "unpruned", "ok", answer="=KEEP, STRAIGHT", new_tokens=4, prefill_ms=1.5))
        store.add(AnswerRow(1, "unpruned", "ok", answer="KEEP, STRAIGHT"))
        store.add(AnswerRow(1, "random", "failed", reason="broken image"))
    return tmp_path / "run"


def test_parquet_holds_what_csv_holds_as_it_was_written(run: Path, tmp_path: Path) -> None:
    from pyarrow import parquet

    assert write_csv(run, tmp_path / "a.csv") == write_parquet(run, tmp_path / "a.parquet") == 3
    table = parquet.read_table(tmp_path / "a.parquet")
    assert tuple(table.column_names) == COLUMNS
    rows = table.to_pylist()
    assert rows == lines(run)
    assert [row["answer"] for row in rows] == ["=KEEP, STRAIGHT", None, "KEEP, STRAIGHT"]
    assert [row["right"] for row in rows] == [0, None, 1] and rows[0]["prefill_ms"] == 1.5
    with (tmp_path / "a.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["answer"] for row in written] == ["'=KEEP, STRAIGHT", "", "KEEP, STRAIGHT"]


def test_without_pyarrow_one_line_before_anything_else(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(SennaPruneError, match=r"senna_autoprune\[parquet\]"):
        write_parquet(run, tmp_path / "a.parquet")
    for command in ("eval", "sweep", f"report {run}"):
        said = CliRunner().invoke(cli, [*command.split(), "--parquet", str(tmp_path / "a.parquet")])
        assert isinstance(said.exception, SennaPruneError) and "pyarrow" in str(said.exception)


@pytest.mark.parametrize("name", ["nowhere/a.csv", "."])
def test_a_file_that_cannot_be_is_refused_at_once(tmp_path: Path, name: str) -> None:
    said = CliRunner().invoke(cli, ["eval", "--csv", str(tmp_path / name)])
    assert said.exit_code != 0 and (said.exit_code == 2 or "--csv" in str(said.exception))
