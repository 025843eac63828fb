"""Answers by key: what a kill leaves of them, who may share them, and whose file is refused."""

from __future__ import annotations

import json
import multiprocessing
import signal
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from senna_autoprune.errors import SennaPruneError, one_line
from senna_autoprune.files.database import Layout, database_errors, make_tables, open_database
from senna_autoprune.files.kept import KeptAnswers

IDENTITY = {"model": "tiny", "tokens": 8}
REMEDY = "give another file"


def opened(path: Path, **more: Any) -> KeptAnswers:
    return KeptAnswers(path, {**IDENTITY, **more}, REMEDY)


def refused(path: Path, **more: Any) -> str:
    with pytest.raises(SennaPruneError) as caught:
        opened(path, **more)
    assert str(caught.value).endswith(REMEDY) and one_line(caught.value).isprintable()
    return str(caught.value)


def test_answers_come_back_and_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "kept.sqlite"
    with opened(path) as kept:
        assert kept.get("a") is None
        kept.add("a", {"text": "KEEP é漢🚗", "cost": {"tokens": 3}})
        kept.add("b", {"text": "1"})
        kept.add("b", {"text": "2"})
        assert kept.get("b") == {"text": "2"}
    with opened(path) as kept:
        assert kept.get("a") == {"text": "KEEP é漢🚗", "cost": {"tokens": 3}}
        assert (kept.get("b"), kept.get("c")) == ({"text": "2"}, None)


def test_another_settings_file_is_refused_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "kept.sqlite"
    with opened(path) as kept:
        kept.add("a", {"text": "x"})
    before = path.read_bytes()
    assert "another model or setting" in refused(path, tokens=9)
    assert path.read_bytes() == before


@pytest.mark.parametrize("value", ["", "{", "[]", "3", '"text"', "[" * 100_000])
def test_what_is_no_answer_is_none(tmp_path: Path, value: str) -> None:
    path = tmp_path / "kept.sqlite"
    with opened(path) as kept:
        kept.add("a", {"text": "x"})
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE kept SET value = ?", (value,))
    with opened(path) as kept:
        assert kept.get("a") is None
        kept.add("a", {"text": "again"})
        assert kept.get("a") == {"text": "again"}


def _statement(text: str) -> Callable[[Path], None]:
    def run(path: Path) -> None:
        connection = sqlite3.connect(path)
        connection.executescript(text)
        connection.close()

    return run


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.write_text('{"answers_of": {"model": "tiny"}}\n'), "no SQLite database"),  # as the first version kept them
        (lambda path: path.mkdir(), "no plain file"),
        (_statement("CREATE TABLE other (a INT)"), "it holds table other"),
        (_statement("CREATE TABLE kept (key TEXT PRIMARY KEY, value TEXT NOT NULL)"), "it holds table kept"),
        (
            _statement("CREATE TABLE kept_of (identity TEXT); CREATE VIEW kept AS SELECT 'a' AS key, 'b' AS value"),
            "it holds view kept, table kept_of",
        ),
        (
            _statement(
                "CREATE TABLE kept_of (identity TEXT NOT NULL); CREATE TABLE kept (key TEXT, value INT); INSERT INTO kept VALUES ('a', 1)"
            ),
            "kept.value holds a value of kind integer",
        ),
        (_statement("PRAGMA user_version = 7"), "another version"),
    ],
)
def test_what_is_not_ours_is_refused(tmp_path: Path, make: Callable[[Path], Any], says: str) -> None:
    path = tmp_path / "kept.sqlite"
    make(path)
    with pytest.raises(SennaPruneError) as caught:
        opened(path)
    assert says in str(caught.value) and str(path) in str(caught.value)


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("")
    (tmp_path / "kept.sqlite").symlink_to(precious)
    with pytest.raises(SennaPruneError, match="no plain file"):
        opened(tmp_path / "kept.sqlite")
    assert precious.read_text() == ""


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path) -> None:
    with opened(tmp_path / "kept.sqlite") as kept:
        kept.add("a", {"text": "kept"})
        pages = kept._connection.execute("PRAGMA page_count").fetchone()[0]
        kept._connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own "disk full"
        with pytest.raises(SennaPruneError, match="is full: answers so far are kept"):
            kept.add("b", {"text": "y" * 100_000})
    with opened(tmp_path / "kept.sqlite") as kept:
        assert (kept.get("a"), kept.get("b")) == ({"text": "kept"}, None)


def test_a_file_that_is_there_is_opened_and_read_while_somebody_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening writes nothing, so that it waits for nobody, and a file that may only be read serves."""
    with opened(tmp_path / "kept.sqlite") as kept:
        kept.add("a", {"text": "kept"})
    monkeypatch.setattr("senna_autoprune.files.database.BUSY_S", 0.05)
    writing = sqlite3.connect(tmp_path / "kept.sqlite", isolation_level=None)
    writing.execute("BEGIN IMMEDIATE")
    with opened(tmp_path / "kept.sqlite") as kept:
        assert kept.get("a") == {"text": "kept"}
        with pytest.raises(SennaPruneError, match=r"cannot use .*locked; give another file"):
            kept.add("b", {})
    writing.close()


def test_who_finds_no_room_for_the_tables_lets_others_write(tmp_path: Path) -> None:
    layout = Layout(
        "CREATE TABLE IF NOT EXISTS a (b TEXT); CREATE TABLE IF NOT EXISTS c (d TEXT);", 1, {"a": {}, "c": {}}, frozenset(), REMEDY
    )
    connection = open_database(tmp_path / "new.sqlite", layout)
    connection.execute("PRAGMA max_page_count = 2")
    with pytest.raises(SennaPruneError, match="is full"), database_errors(tmp_path / "new.sqlite", REMEDY):
        make_tables(connection, layout)
    other = sqlite3.connect(tmp_path / "new.sqlite", timeout=0.05, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert other.execute("SELECT name FROM sqlite_master").fetchall() == [], "all tables or none"
    other.close()
    connection.close()


def test_of_two_who_begin_a_file_one_says_whose_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one found it new, too, and comes second."""
    opened(tmp_path / "kept.sqlite").close()
    monkeypatch.setattr("senna_autoprune.files.kept.make_tables", lambda connection, layout: True)
    with opened(tmp_path / "kept.sqlite") as kept:
        assert kept._connection.execute("SELECT COUNT(*) FROM kept_of").fetchone() == (1,)
    assert "another model or setting" in refused(tmp_path / "kept.sqlite", tokens=9)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "cannot use" in refused(tmp_path / "file" / "kept.sqlite")


def _add(path: Path, name: str, count: int, begin: Any, added: Any) -> None:
    begin.wait(120)
    with opened(path) as kept:
        for number in range(count):
            kept.add(f"{name}{number}", {"text": name * 500})
            added.release()


def test_processes_share_a_file_from_its_beginning(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    begin, added = context.Event(), context.Semaphore(0)
    workers = [context.Process(target=_add, args=(tmp_path / "kept.sqlite", name, 40, begin, added)) for name in "ab"]
    for worker in workers:
        worker.start()
    begin.set()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    with opened(tmp_path / "kept.sqlite") as kept:
        assert all(kept.get(f"{name}{number}") == {"text": name * 500} for name in "ab" for number in range(40))


@pytest.mark.parametrize("before", [0, 1, 25])
def test_what_was_added_outlives_a_kill(tmp_path: Path, before: int) -> None:
    context = multiprocessing.get_context("spawn")
    begin, added = context.Event(), context.Semaphore(0)
    begin.set()
    worker = context.Process(target=_add, args=(tmp_path / "kept.sqlite", "a", 1_000_000, begin, added))
    worker.start()
    for _ in range(before):
        assert added.acquire(timeout=120)
    worker.kill()
    worker.join(120)
    assert worker.exitcode == -signal.SIGKILL
    with opened(tmp_path / "kept.sqlite") as kept:
        assert all(kept.get(f"a{number}") == {"text": "a" * 500} for number in range(before))
        kept.add("after", {})
        assert kept.get("after") == {}


def test_threads_share_an_object(tmp_path: Path) -> None:
    wrong: list[object] = []

    def work(name: str) -> None:
        for number in range(50):
            kept.add(f"{name}{number}", {"n": number})
            if kept.get(f"{name}{number}") != {"n": number}:
                wrong.append((name, number))

    with opened(tmp_path / "kept.sqlite") as kept:
        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        rows = kept._connection.execute("SELECT value FROM kept").fetchall()
        assert sorted(json.loads(value)["n"] for (value,) in rows) == sorted(list(range(50)) * 4)
