"""What is said to be kept has reached the disk, not only a cache that a lost machine forgets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.files.atomic import write_atomically

QUESTIONS = [QuestionRow(0, "t", "plan", "text", "KEEP, STRAIGHT", ("a.jpg",), "s", True, {})]
FULL = 2  # sqlite's synchronous = FULL: every commit waits for fsync


@pytest.mark.parametrize("again", [False, True])
def test_every_commit_waits_for_the_disk(tmp_path: Path, again: bool) -> None:
    if again:
        RunStore.start(tmp_path, {"config": {}, "identity": {}}, QUESTIONS).__exit__(None, None, None)
    with RunStore.start(tmp_path, {"config": {}, "identity": {}}, QUESTIONS) as store:
        store.add(AnswerRow(0, "unpruned", "ok", "KEEP"))
        asked = store._connection
        assert asked.execute("PRAGMA synchronous").fetchone()[0] >= FULL
        assert asked.execute("PRAGMA journal_mode").fetchone()[0] in ("delete", "truncate", "persist")
        assert not asked.in_transaction


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        assert os.fstat(descriptor).st_size == 5  # flushed from Python's own buffer before
        order.append("fsync")
        fsync(descriptor)

    def replaced(source: str, target: Path) -> None:
        order.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_atomically(tmp_path / "metrics.json", "whole")
    assert order == ["fsync", "replace"] and (tmp_path / "metrics.json").read_text() == "whole"
