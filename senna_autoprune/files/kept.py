"""Answers by key in one SQLite file, each committed as it is added: what is asked once is not asked again, whatever is killed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Self

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.database import Layout, database_errors, make_tables, open_database, seal

_SCHEMA = """
CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS kept_of (identity TEXT NOT NULL);
"""


class KeptAnswers:
    """A file of JSON objects by key. Threads may share the object, processes the file, on any file system with locks.

    Args:
        identity: what the answers depend on beside their keys; a file of another one is refused.
        remedy: the end of an error, what to do.
    Raises:
        SennaPruneError: the file is another's or damaged, or cannot be read or written.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], remedy: str) -> None:
        kinds = {"kept": {"key": ("text",), "value": ("text",)}, "kept_of": {"identity": ("text",)}}
        self.path = path
        self._layout = Layout(_SCHEMA, 1, kinds, frozenset({"kept", "kept_of"}), remedy)
        self._lock = Lock()
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = open_database(path, self._layout)
        try:
            with self._errors():
                self._begin(json.dumps(dict(identity), sort_keys=True))
        except BaseException:
            self._connection.close()
            raise

    def _begin(self, identity: str) -> None:
        if make_tables(self._connection, self._layout):
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")  # of several processes that begin it, one does
                self._connection.execute("INSERT INTO kept_of SELECT ? WHERE NOT EXISTS (SELECT 1 FROM kept_of)", (identity,))
                seal(self._connection, self._layout)
        (there,) = self._connection.execute("SELECT identity FROM kept_of").fetchone() or ("",)
        if there != identity:
            raise SennaPruneError(f"{self.path} holds answers of another model or setting ({there[:200]}); {self._layout.remedy}")

    def get(self, key: str) -> dict[str, Any] | None:
        """What is kept under ``key``; None if nothing is, or nothing of ours: it is then asked, and kept, anew."""
        with self._errors(), self._lock:
            found = self._connection.execute("SELECT value FROM kept WHERE key = ?", (key,)).fetchone()
        try:
            value = None if found is None else json.loads(found[0])
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    def add(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep an answer; one before it under this key is replaced. SennaPruneError: the disk is full or read-only."""
        with self._errors(), self._lock, self._connection:
            self._connection.execute("INSERT OR REPLACE INTO kept VALUES (?, ?)", (key, json.dumps(value, ensure_ascii=False)))

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            with database_errors(self.path, self._layout.remedy):
                yield
        except OSError as error:
            raise SennaPruneError(f"cannot use {self.path} ({error.strerror or error}); {self._layout.remedy}") from error
