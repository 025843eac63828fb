"""Is ``answers.sqlite`` what a run writes? A run directory may come from somebody else, and SQLite takes any value anywhere.

The schema is looked at before a table is read: a view in a table's place could run without an end.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import sqlite3
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.runs.rows import PackedTrace, StoredTrace
from senna_autoprune.files.json_files import LONGEST_NAME, text_fault
from senna_autoprune.files.regular import require_own

_SUPER_JOURNAL = bytes.fromhex("d9d505f920a163d7")  # ends a journal that names another file (SQLite's file format, section 3)

_KINDS: dict[str, dict[str, tuple[str, ...]]] = {  # table -> column -> what SQLite may say of its values
    "questions": {
        **dict.fromkeys(("question", "scene_known"), ("integer",)),
        **dict.fromkeys(("token", "type", "text", "label", "images", "scene", "attributes"), ("text",)),
    },
    "answers": {
        "question": ("integer",),
        **dict.fromkeys(("setting", "status"), ("text",)),
        **dict.fromkeys(("answer", "reason", "trace"), ("text", "null")),
        **dict.fromkeys(("vision_ms", "prefill_ms", "decode_ms"), ("real", "null")),
        **dict.fromkeys(("new_tokens", "kv_bytes"), ("integer", "null")),
    },
    "prompts": {"prompt": ("integer",), "text": ("text",)},
    "sent": {
        "question": ("integer",),
        "setting": ("text",),
        "said": ("text", "null"),
        **dict.fromkeys(("prompt", "missing_frames"), ("integer", "null")),
    },
    "waits": {"question": ("integer",), "images_ms": ("real",)},
    "truths": {"question": ("integer",), **dict.fromkeys(("facts", "earlier", "future"), ("text",))},
    "run": {"id": ("text",)},
    "seen": {**dict.fromkeys(("image", "sha256"), ("text",)), **dict.fromkeys(("size", "mtime_ns", "ctime_ns", "inode"), ("integer",))},
}
_ORDER = {  # of the tables that are read by it
    "questions": ("question", "token", "type", "text", "label", "images", "scene", "scene_known", "attributes"),
    "truths": ("question", "facts", "earlier", "future"),
}
_FIRST = {"questions", "answers"}  # what runs have that were made before prompts were kept


LONGEST_VALUE = 4_000_000  # bytes of one value; a prompt or a trace of a hundred layers has thousands
_NAMES = {"questions": ("token", "type", "scene"), "answers": ("setting", "status"), "sent": ("setting",)}  # short texts
# what a run's own schema is made of
_SQL_WORDS = {"CREATE", "TABLE", "IF", "NOT", "EXISTS", "NULL", "PRIMARY", "KEY", "UNIQUE", "INTEGER", "INT", "TEXT", "REAL"}

_LONGEST_MS = 1e12  # thirty years; an infinite time fits into no JSON


_Tokens = Annotated[int, Field(ge=0, lt=2**31)]


class _Trace(TypedDict):
    """What measures and figures read of a trace (``PromptTrace.to_dict``)."""

    __pydantic_config__ = ConfigDict(allow_inf_nan=False)  # type: ignore[misc]

    mutual_information: float | None
    k: float | None
    x0: float | None
    visual_tokens: _Tokens
    tokens_per_layer: list[_Tokens]
    average_tokens: float
    retention_tokens: float
    per_view: list[float]
    flops_full: float
    flops_pruned: float
    notes: list[str]
    pruner_ms: NotRequired[float | None]


class _Future(TypedDict):
    """``Future.to_dict``."""

    __pydantic_config__ = ConfigDict(allow_inf_nan=False)  # type: ignore[misc]

    path: list[tuple[float, float] | None]
    boxes: list[list[tuple[float, float, float, float, float]]]


_Name = Annotated[str, StringConstraints(max_length=LONGEST_NAME)]
_EARLIER, _FUTURE = TypeAdapter(list[tuple[str, float, str]]), TypeAdapter(_Future | None)
_IMAGES, _ATTRIBUTES, _TRACE = TypeAdapter(tuple[str, ...]), TypeAdapter(dict[_Name, _Name]), TypeAdapter(_Trace)


def require_plain(path: Path) -> None:
    """Raises SennaPruneError if the database is there but no file of its own (SQLite would write through a link), asks for a
    write-ahead log, or has a journal beside it that names another file, which SQLite would delete.
    """
    require_own(path)
    journal = path.with_name(f"{path.name}-journal")
    require_own(journal)
    if path.exists() and _bytes_at(path, 18, 2) not in (b"", b"\1\1"):
        raise SennaPruneError(f"{path} was not written by senna-prune (it asks for a write-ahead log): give another directory")
    if journal.exists() and _bytes_at(journal, -len(_SUPER_JOURNAL), len(_SUPER_JOURNAL)) == _SUPER_JOURNAL:
        raise SennaPruneError(f"{journal} was not written by senna-prune (it names another file): remove it")


def _bytes_at(path: Path, start: int, count: int) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(start if start >= 0 else max(0, size + start))
        return file.read(count)


def check_layout(connection: sqlite3.Connection, path: Path) -> None:
    """The tables, their columns, and the kinds of all values in them.

    Raises:
        SennaPruneError: this is not what a run writes.
        sqlite3.DatabaseError: this is no database, or a column is missing.
    """
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)
    schema = connection.execute("SELECT type, name, sql FROM sqlite_master WHERE NOT (type = 'index' AND sql IS NULL)").fetchall()
    found = {name: kind for kind, name, _ in schema}
    if found and (found != dict.fromkeys(found, "table") or not _FIRST <= found.keys() <= _KINDS.keys()):
        raise _foreign(path, f"it holds {', '.join(f'{kind} {name}' for name, kind in sorted(found.items()))}")
    for _, name, sql in schema:
        if not _plain_table(name, str(sql)):
            raise _foreign(path, f"the table {name} is made of more than its columns")
        columns = tuple(column for _, column, *_ in connection.execute(f"PRAGMA table_info({name})"))
        if columns != _ORDER.get(name, columns):
            raise _foreign(path, f"the table {name} has its columns in another order")
    for table in found:
        long = {column: f"length({column}) > {LONGEST_NAME}" for column in _NAMES.get(table, ())}
        wrong = {column: _wrong(column, kinds) for column, kinds in _KINDS[table].items()}
        either = " OR ".join((*long.values(), *wrong.values()))
        if connection.execute(f"SELECT 1 FROM {table} WHERE {either} LIMIT 1").fetchone() is None:
            continue  # one look at a table of a million rows, not one a column
        for column, condition in long.items():
            if connection.execute(f"SELECT 1 FROM {table} WHERE {condition} LIMIT 1").fetchone():
                raise _foreign(path, f"{table}.{column} holds a name of more than {LONGEST_NAME} characters")
        for column, condition in wrong.items():
            kind = connection.execute(f"SELECT typeof({column}) FROM {table} WHERE {condition} LIMIT 1").fetchone()
            if kind:
                raise _foreign(path, f"{table}.{column} holds a value of kind {kind[0]}")


def _wrong(column: str, kinds: tuple[str, ...]) -> str:
    """The condition that a value is none that this column has."""
    allowed = ", ".join(f"'{kind}'" for kind in kinds)
    return f"typeof({column}) NOT IN ({allowed})" + (f" OR abs({column}) > {_LONGEST_MS:g}" if "real" in kinds else "")


def _plain_table(name: str, sql: str) -> bool:
    """Whether a table is nothing but its columns: a computed one, a check or a default is a program."""
    words = {word.upper() for word in re.findall(r"\w+", sql)}
    own = {word.upper() for word in (name, *_KINDS[name])}
    return words <= _SQL_WORDS | own and re.search(r"[^\w\s,()\"]", sql) is None


def images_of(text: str, path: Path) -> tuple[str, ...]:
    """The paths of a question's images."""
    return _parsed(_IMAGES, text, path, "images")


def attributes_of(text: str, path: Path) -> dict[str, str]:
    """The conditions of a question. Two of them are numbers: its weight (above 0) and its constructed complexity."""
    found: dict[str, str] = _parsed(_ATTRIBUTES, text, path, "attributes")
    for name, least in (("weight", 0.0), ("complexity", -math.inf)):
        if name in found and not least < _number(found[name]) < math.inf:
            raise _foreign(path, f"attributes: {name} is {found[name][:40]!r}")
    return found


def _number(text: str) -> float:
    """NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def trace_of(text: str, path: Path) -> StoredTrace:
    """What pruning did in an answer."""
    _checked_trace(text, path)
    return StoredTrace(text)


def packed_trace_of(text: str, path: Path) -> PackedTrace:
    """What is measured of it."""
    return PackedTrace(_checked_trace(text, path))


def _checked_trace(text: str, path: Path) -> Any:
    try:
        return _TRACE.validate_json(text)
    except ValidationError:  # or JSON that only Python's reader takes
        return _parsed(_TRACE, text, path, "trace")


def truths_of(facts: str, earlier: str, future: str, path: Path) -> dict[str, Any]:
    """``facts``, ``earlier`` and ``future`` of a question."""
    frames = _parsed(_EARLIER, earlier, path, "earlier")
    return {
        "facts": _parsed(_ATTRIBUTES, facts, path, "facts"),
        "earlier": {(camera, frame): image for camera, frame, image in frames},
        "future": _parsed(_FUTURE, future, path, "future"),
    }


def _parsed(kind: TypeAdapter[Any], text: str, path: Path, column: str) -> Any:
    if "\\" not in text and text_fault(text) is None:  # what stands in it is what it says: the quick reader; faults are for the other
        with contextlib.suppress(ValidationError):
            return kind.validate_json(text)
    try:
        value = json.loads(text)
        if fault := text_fault(value):
            raise _foreign(path, f"{column}: {fault}")
        return kind.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise _foreign(path, f"{column}: {'.'.join(map(str, first['loc']))} {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise _foreign(path, f"{column} is no JSON: {error}") from error


def _foreign(path: Path, what: str) -> SennaPruneError:
    return SennaPruneError(f"{path} is damaged or was not written by senna-prune ({what}); give another directory with --out")
