"""A run directory: survives kills, refuses what would mix runs, says what is wrong in one line."""

from __future__ import annotations

import errno
import json
import os
import signal
import sqlite3
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.runs import groups
from senna_autoprune.evaluation.runs.identity import differences
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.files.lock import LOCK_NAME, RunLock

QUESTIONS = [QuestionRow(i, f"t{i}", "plan", "text", "KEEP, STRAIGHT\n", ("a.jpg", "b.jpg"), "s", True, {"light": "day"}) for i in range(3)]
DESCRIPTION = {"config": {"seed": 0, "options": {"gamma": 0.1}}, "identity": {"sha": "ab"}, "machine": {"host": "a"}}


def _start(directory: Path, description: dict[str, Any] | None = None) -> RunStore:
    return RunStore.start(directory, description or DESCRIPTION, QUESTIONS)


def _refused(directory: Path, description: dict[str, Any] | None = None) -> str:
    with pytest.raises(SennaPruneError) as caught:
        _start(directory, description)
    assert "\n" not in str(caught.value)
    return str(caught.value)


TRACE = {
    **dict.fromkeys(("mutual_information", "x0", "average_tokens", "retention_tokens", "flops_full", "flops_pruned"), 1.5),
    "k": 0.25,
    "visual_tokens": 3,
    "tokens_per_layer": [3, 1],
    "per_view": [1.0],
    "notes": [],
    "pruner_ms": None,
}


def test_rows_come_back_as_they_were_put_in(tmp_path: Path) -> None:
    full = AnswerRow(1, "autoprune", "ok", "KEEP, é\n", None, 1.5, 2.5, 3.5, 7, 4096, TRACE)
    failed = AnswerRow(0, "autoprune", "failed", reason="image not found: x.jpg")
    with _start(tmp_path / "run") as store:
        store.add(full)
        store.add(failed)
        assert store.finished() == {(0, "autoprune"), (1, "autoprune")}
    with RunStore.read(tmp_path / "run") as store:
        assert store.answers() == [failed, full]
        assert store.answers("unpruned") == []
        assert store.questions() == QUESTIONS
        assert store.config == DESCRIPTION


def test_lines_of_stored_rows_are_those_of_the_rows(tmp_path: Path) -> None:
    """The text of a stored trace is cut, not taken apart: the same bytes, also where a note looks like a time."""
    notes = ['a note, "x_ms": 3, with quotes', 'and "pruner_ms": 1}']
    rows = [
        AnswerRow(
            0,
            "a",
            "ok",
            "é",
            None,
            1.5,
            2.5,
            3.5,
            7,
            4096,
            {**TRACE, "notes": notes, "pruner_ms": 1.5e-7, "kv_bytes": 3},
            said="x",
            sent="p",
        ),
        AnswerRow(1, "a", "ok", "", "cut", trace={**TRACE, "pruner_ms": None}),
        AnswerRow(2, "a", "failed", reason="r"),
    ]
    with _start(tmp_path) as store:
        for row in rows:
            store.add(row)
        written = [store.write_answers(these).read_bytes() for these in (rows, store.answers())]
    assert written[0] == written[1] and b'pruner_ms":' not in written[0].replace(b'\\"', b"")
    plain = json.loads(written[0].splitlines()[0])
    assert plain["trace"]["notes"] == notes and plain["trace"]["kv_bytes"] == 3 and "vision_ms" not in plain and plain["said"] == "x"


def test_the_same_settings_continue(tmp_path: Path) -> None:
    with _start(tmp_path) as store:
        store.add(AnswerRow(0, "unpruned", "ok", "a"))
    with RunStore.start(tmp_path, {**DESCRIPTION, "machine": {"host": "b"}}, QUESTIONS) as store:
        assert store.finished() == {(0, "unpruned")}
        assert store.questions() == QUESTIONS
    with pytest.raises(SennaPruneError), _start(tmp_path) as store:
        store.add(AnswerRow(0, "unpruned", "ok", "again"))
    with RunStore.read(tmp_path) as store:
        assert [row.answer for row in store.answers()] == ["a"]


def test_other_questions_do_not_replace_a_runs_own(tmp_path: Path) -> None:
    _start(tmp_path).__exit__(None, None, None)
    for other in ({"token": "another"}, {"text": "another"}, {"label": "another"}):
        others = [replace(QUESTIONS[0], **other), *QUESTIONS[1:]]
        with pytest.raises(SennaPruneError, match=r"holds 3 questions, 1 of which are not among the 3 asked now"):
            RunStore.start(tmp_path, DESCRIPTION, others)
    with _start(tmp_path) as store:
        assert store.questions() == QUESTIONS


def test_other_settings_are_refused_and_named(tmp_path: Path) -> None:
    _start(tmp_path).__exit__(None, None, None)
    other = {"config": {"seed": 1, "options": {"gamma": 0.2}}, "identity": {"sha": "ab"}}
    message = _refused(tmp_path, other)
    assert "seed: 0 there, 1 now" in message
    assert "options.gamma: 0.1 there, 0.2 now" in message
    assert "sha" not in message
    _start(tmp_path).__exit__(None, None, None)  # the refusal has let go of the lock


def test_differences_of_trees() -> None:
    there, here = {"config": {"a": 1, "b": [1, 2]}}, {"config": {"a": 1, "b": [1], "c": None}}
    assert differences(there, here) == [("b", [1, 2], [1])]


def _hold(directory: Path, ready: Any) -> None:
    with RunLock(directory):
        ready.set()
        time.sleep(60)


def test_a_second_process_is_refused_and_told_who_holds_it(tmp_path: Path) -> None:
    context = get_context("fork")
    ready = context.Event()
    holder = context.Process(target=_hold, args=(tmp_path, ready))
    holder.start()
    try:
        assert ready.wait(30)
        message = _refused(tmp_path)
        assert f"process {holder.pid} on {os.uname().nodename}" in message
    finally:
        holder.kill()
        holder.join(30)
    _start(tmp_path).__exit__(None, None, None)  # a killed holder holds nothing


def test_a_stale_or_odd_lock_file_means_nothing(tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_text("\x00 not json")
    _start(tmp_path).__exit__(None, None, None)


def _add_until_killed(directory: Path, committed: Any) -> None:
    with RunStore.start(directory, DESCRIPTION, QUESTIONS) as store:
        for index in range(100_000):
            store.add(AnswerRow(index, "unpruned", "ok", "x" * 2000))
            committed.release()


@pytest.mark.parametrize(("rows_before", "wait_s"), [(0, 0.0), (1, 0.0), (3, 0.002), (200, 0.011)])
def test_killed_at_any_moment_only_the_last_group_is_lost(tmp_path: Path, rows_before: int, wait_s: float) -> None:
    context = get_context("fork")
    committed = context.Semaphore(0)
    worker = context.Process(target=_add_until_killed, args=(tmp_path, committed))
    worker.start()
    for _ in range(rows_before):
        assert committed.acquire(timeout=120)
    time.sleep(wait_s)  # into the next one
    worker.kill()
    worker.join(120)
    assert worker.exitcode == -signal.SIGKILL
    with RunStore.start(tmp_path, DESCRIPTION, QUESTIONS) as store:
        rows = store.answers()
        assert len(rows) >= rows_before - groups.ROWS
        assert [row.question for row in rows] == list(range(len(rows)))
        assert all(row.answer == "x" * 2000 for row in rows)
        assert store.questions() == QUESTIONS
        store.add(AnswerRow(len(rows), "unpruned", "ok", "after"))


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    with _start(tmp_path) as store:
        store.add(AnswerRow(0, "unpruned", "ok", "kept"))
        store.flush()
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own "disk full"
        with pytest.raises(SennaPruneError, match="is full: answers so far are kept"):
            store.add(AnswerRow(1, "unpruned", "ok", "y" * 100_000))
            store.flush()
        with pytest.raises(SennaPruneError, match="is full"):  # not forgotten: it is tried again
            store.flush()
        store._connection.execute(f"PRAGMA max_page_count = {pages + 100}")
    with RunStore.read(tmp_path) as store:
        assert [len(row.answer or "") for row in store.answers()] == [4, 100_000]


def test_lines_that_do_not_fit_leave_the_database_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that were read half hold it, for as long as somebody looks at the error."""
    store = _start(tmp_path)
    with store:
        for number in range(3):
            store.add(AnswerRow(number, "unpruned", "ok", "x" * 5000))
        store.flush()

        def full(path: Path, content: Any) -> None:
            next(content)
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("senna_autoprune.evaluation.runs.store.replace_file", full)
        with pytest.raises(SennaPruneError, match="is full") as looked_at:
            store.write_answers()
    other = sqlite3.connect(tmp_path / "answers.sqlite", timeout=0.05, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    other.close()
    del looked_at


def test_metrics_are_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _start(tmp_path) as store:
        store.write_metrics({"run": 1})

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("senna_autoprune.files.atomic.os.fsync", full)
        with pytest.raises(SennaPruneError, match="full"):
            store.write_metrics({"run": 2})
        assert json.loads((tmp_path / "metrics.json").read_text()) == {"run": 1}
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".metrics")]
        with pytest.raises(ValueError, match="JSON"):
            store.write_metrics({"run": float("nan")})


def test_unwritable_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot write to the run directory" in _refused(tmp_path / "file" / "run")

    def read_only(*args: Any) -> int:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("senna_autoprune.files.lock.os.open", read_only)
    assert "Read-only file system" in _refused(tmp_path / "run")


def test_damaged_and_foreign_directories(tmp_path: Path) -> None:
    _start(tmp_path / "a").__exit__(None, None, None)
    (tmp_path / "a" / "answers.sqlite").write_bytes(b"this is no database" * 100)
    assert "damaged" in _refused(tmp_path / "a")
    with pytest.raises(SennaPruneError, match="damaged"):
        RunStore.read(tmp_path / "a")

    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "answers.sqlite").write_bytes(b"")
    assert "no config.yaml" in _refused(tmp_path / "b")

    _start(tmp_path / "c").__exit__(None, None, None)
    with sqlite3.connect(tmp_path / "c" / "answers.sqlite") as connection:
        connection.execute("PRAGMA user_version = 99")
    assert "another version" in _refused(tmp_path / "c")

    with pytest.raises(SennaPruneError, match="not a run directory"):
        RunStore.read(tmp_path / "nothing")


def test_failed_rows_can_be_forgotten(tmp_path: Path) -> None:
    with _start(tmp_path) as store:
        store.add(AnswerRow(0, "unpruned", "ok", "a"))
        store.add(AnswerRow(1, "unpruned", "failed", reason="b"))
        assert store.forget_failed() == 1
        assert store.finished() == {(0, "unpruned")}
