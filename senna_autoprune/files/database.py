"""SQLite files that survive a kill at any moment, and that somebody else may have made: SQLite takes any value anywhere.

The rollback journal survives a killed process, and works where write-ahead logs do not (network file systems). A file's schema is
looked at before a table is read: a view in a table's place could run without an end.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.atomic import full_disk
from senna_autoprune.files.json_files import LONGEST_NAME
from senna_autoprune.files.regular import require_own

BUSY_S = 60.0  # how long a commit waits for another process that reads or writes
LONGEST_VALUE = 4_000_000  # bytes of one value; a prompt or a trace of a hundred layers has thousands
_LONGEST_MS = 1e12  # thirty years; an infinite time fits into no JSON
_MAGIC = b"SQLite format 3\0"
_SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")  # ends a journal that names another file (SQLite's file format, section 3)
# what a schema of ours is made of
_SQL_WORDS = {"CREATE", "TABLE", "IF", "NOT", "EXISTS", "NULL", "PRIMARY", "KEY", "UNIQUE", "INTEGER", "INT", "TEXT", "REAL"}


@dataclass(frozen=True)
class Layout:
    """What one kind of database is made of.

    schema: its CREATE TABLE IF NOT EXISTS statements; version: of the schema, kept in the file.
    kinds: table -> column -> what SQLite may say of its values. first: tables without which it is none of the kind.
    order: of the columns of tables that are read by it. names: columns that hold short texts.
    remedy: the end of an error, what to do.
    """

    schema: str
    version: int
    kinds: Mapping[str, Mapping[str, tuple[str, ...]]]
    first: frozenset[str]
    remedy: str
    order: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def open_database(path: Path, layout: Layout) -> sqlite3.Connection:
    """A database to work in, made if it is not there (``make_tables`` gives it its tables).

    The connection may be used by several threads, one at a time.

    Raises:
        SennaPruneError: what is there is not what ``layout`` says.
        sqlite3.DatabaseError, OSError: as they come (``database_errors``).
    """
    require_plain(path, layout)
    connection = sqlite3.connect(path, timeout=BUSY_S, check_same_thread=False)
    try:
        check_layout(connection, path, layout)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, layout.version):
            raise SennaPruneError(f"{path} was written by another version of senna-prune")
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def read_database(path: Path, layout: Layout) -> sqlite3.Connection:
    """A database to look into. Raises as ``open_database``."""
    require_plain(path, layout)
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True)
        check_layout(connection, path, layout)  # the first look: a journal left by a kill is rolled back here
    except sqlite3.OperationalError:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        check_layout(connection, path, layout)
    return connection


def make_tables(connection: sqlite3.Connection, layout: Layout) -> bool:
    """All tables or none, whenever it is killed and whoever else does it. Whether the database was new: ``seal`` it once it is filled."""
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if there != layout.kinds.keys():  # else nothing is written, and nobody waited for
        try:
            connection.executescript(f"BEGIN IMMEDIATE; {layout.schema} COMMIT;")
        except BaseException:
            connection.rollback()  # a full disk ends the script, not the transaction: others would wait for it
            raise
    return bool(connection.execute("PRAGMA user_version").fetchone()[0] == 0)


def seal(connection: sqlite3.Connection, layout: Layout) -> None:
    """Say, in a transaction with what a new database begins with, that it is begun."""
    connection.execute(f"PRAGMA user_version = {layout.version}")


@contextlib.contextmanager
def database_errors(path: Path, remedy: str) -> Iterator[None]:
    """Faults of the disk under a database, and its own, as one line."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if "full" in str(error):
            raise SennaPruneError(full_disk(path.parent)) from error
        raise SennaPruneError(f"cannot use {path}: {error}; {remedy}") from error
    except sqlite3.DatabaseError as error:
        raise SennaPruneError(f"{path} is damaged ({error}); {remedy}") from error


def require_plain(path: Path, layout: Layout) -> None:
    """Raises SennaPruneError if the file is there but no database, or none of its own (SQLite would write through a link), asks for a
    write-ahead log, or has a journal beside it that names another file, which SQLite would delete.
    """
    require_own(path)
    journal = path.with_name(f"{path.name}-journal")
    require_own(journal)
    if path.exists() and _bytes_at(path, 0, len(_MAGIC)) not in (b"", _MAGIC):
        raise foreign(path, "it is no SQLite database", layout)
    if path.exists() and _bytes_at(path, 18, 2) not in (b"", b"\1\1"):
        raise SennaPruneError(f"{path} was not written by senna-prune (it asks for a write-ahead log): {layout.remedy}")
    if journal.exists() and _bytes_at(journal, -len(_SUPER_JOURNAL), len(_SUPER_JOURNAL)) == _SUPER_JOURNAL:
        raise SennaPruneError(f"{journal} was not written by senna-prune (it names another file): remove it")


def _bytes_at(path: Path, start: int, count: int) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(start if start >= 0 else max(0, size + start))
        return file.read(count)


def check_layout(connection: sqlite3.Connection, path: Path, layout: Layout) -> None:
    """The tables, their columns, and the kinds of all values in them.

    Raises:
        SennaPruneError: this is not what ``layout`` says.
        sqlite3.DatabaseError: this is no database, or a column is missing.
    """
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    schema = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE NOT (type = 'index' AND sql IS NULL)").fetchall()
    found = {name: kind for kind, name, _ in schema}
    if found and (found != dict.fromkeys(found, "table") or not layout.first <= found.keys() <= layout.kinds.keys()):
        raise foreign(path, f"it holds {', '.join(f'{kind} {name}' for name, kind in sorted(found.items()))}", layout)
    for _, name, sql in schema:
        if not _plain_table(name, str(sql), layout):
            raise foreign(path, f"the table {name} is made of more than its columns", layout)
        columns = tuple(column for _, column, *_ in connection.execute(f"PRAGMA table_info({name})"))
        if columns != layout.order.get(name, columns):
            raise foreign(path, f"the table {name} has its columns in another order", layout)
    for table in found:
        long = {column: f"length({column}) > {LONGEST_NAME}" for column in layout.names.get(table, ())}
        wrong = {column: _wrong(column, kinds) for column, kinds in layout.kinds[table].items()}
        either = " OR ".join((*long.values(), *wrong.values()))
        if connection.execute(f"SELECT 1 FROM {table} WHERE {either} LIMIT 1").fetchone() is None:
            continue  # one look at a table of a million rows, not one a column
        for column, condition in long.items():
            if connection.execute(f"SELECT 1 FROM {table} WHERE {condition} LIMIT 1").fetchone():
                raise foreign(path, f"{table}.{column} holds a name of more than {LONGEST_NAME} characters", layout)
        for column, condition in wrong.items():
            kind = connection.execute(f"SELECT typeof({column}) FROM {table} WHERE {condition} LIMIT 1").fetchone()
            if kind:
                raise foreign(path, f"{table}.{column} holds a value of kind {kind[0]}", layout)


def _wrong(column: str, kinds: tuple[str, ...]) -> str:
    """The condition that a value is none that this column has."""
    allowed = ", ".join(f"'{kind}'" for kind in kinds)
    return f"typeof({column}) NOT IN ({allowed})" + (f" OR abs({column}) > {_LONGEST_MS:g}" if "real" in kinds else "")


def _plain_table(name: str, sql: str, layout: Layout) -> bool:
    """Whether a table is nothing but its columns: a computed one, a check or a default is a program."""
    words = {word.upper() for word in re.findall(r"\w+", sql)}
    own = {word.upper() for word in (name, *layout.kinds[name])}
    return words <= _SQL_WORDS | own and re.search(r"[^\w\s,()\"]", sql) is None


def foreign(path: Path, what: str, layout: Layout) -> SennaPruneError:
    return SennaPruneError(f"{path} is damaged or was not written by senna-prune ({what}); {layout.remedy}")
