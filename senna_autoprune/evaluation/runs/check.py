"""Is ``answers.sqlite`` what a run writes? A run directory may come from somebody else, and SQLite takes any value anywhere.

The schema is looked at before a table is read: a view in a table's place could run without an end.
"""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from senna_autoprune.errors import SennaPruneError
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
    "truths": {"question": ("integer",), **dict.fromkeys(("facts", "earlier", "future"), ("text",))},
}
_FIRST = {"questions", "answers"}  # what runs have that were made before prompts were kept


_LONGEST_MS = 1e12  # thirty years; an infinite time fits into no JSON


class _Trace(TypedDict):
    """What measures and figures read of a trace (``PromptTrace.to_dict``)."""

    __pydantic_config__ = ConfigDict(allow_inf_nan=False)  # type: ignore[misc]

    mutual_information: float | None
    k: float | None
    x0: float | None
    visual_tokens: int
    tokens_per_layer: list[int]
    average_tokens: float
    retention_tokens: float
    per_view: list[float]
    flops_full: float
    flops_pruned: float
    notes: list[str]


class _Future(TypedDict):
    """``Future.to_dict``."""

    __pydantic_config__ = ConfigDict(allow_inf_nan=False)  # type: ignore[misc]

    path: list[tuple[float, float] | None]
    boxes: list[list[tuple[float, float, float, float, float]]]


_EARLIER, _FUTURE = TypeAdapter(list[tuple[str, float, str]]), TypeAdapter(_Future | None)
_IMAGES, _ATTRIBUTES, _TRACE = TypeAdapter(tuple[str, ...]), TypeAdapter(dict[str, str]), TypeAdapter(_Trace)


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
    found = {name: kind for kind, name in connection.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")}
    if found and (found != dict.fromkeys(found, "table") or not _FIRST <= found.keys() <= _KINDS.keys()):
        raise _foreign(path, f"it holds {', '.join(f'{kind} {name}' for name, kind in sorted(found.items()))}")
    for table in found:
        for column, kinds in _KINDS[table].items():
            allowed = ", ".join(f"'{kind}'" for kind in kinds)
            asked = f"SELECT typeof({column}) FROM {table} WHERE typeof({column}) NOT IN ({allowed})"
            if "real" in kinds:
                asked += f" OR abs({column}) > {_LONGEST_MS:g}"
            wrong = connection.execute(f"{asked} LIMIT 1").fetchone()
            if wrong:
                raise _foreign(path, f"{table}.{column} holds a value of kind {wrong[0]}")


def images_of(text: str, path: Path) -> tuple[str, ...]:
    """The paths of a question's images."""
    return _parsed(_IMAGES, text, path, "images")


def attributes_of(text: str, path: Path) -> dict[str, str]:
    """The conditions of a question."""
    return _parsed(_ATTRIBUTES, text, path, "attributes")


def trace_of(text: str, path: Path) -> dict[str, Any]:
    """What pruning did in an answer."""
    _parsed(_TRACE, text, path, "trace")
    return json.loads(text)


def truths_of(facts: str, earlier: str, future: str, path: Path) -> dict[str, Any]:
    """``facts``, ``earlier`` and ``future`` of a question."""
    frames = _parsed(_EARLIER, earlier, path, "earlier")
    return {
        "facts": _parsed(_ATTRIBUTES, facts, path, "facts"),
        "earlier": {(camera, frame): image for camera, frame, image in frames},
        "future": _parsed(_FUTURE, future, path, "future"),
    }


def _parsed(kind: TypeAdapter[Any], text: str, path: Path, column: str) -> Any:
    try:
        return kind.validate_python(json.loads(text))
    except ValidationError as error:
        first = error.errors()[0]
        raise _foreign(path, f"{column}: {'.'.join(map(str, first['loc']))} {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise _foreign(path, f"{column} is no JSON: {error}") from error


def _foreign(path: Path, what: str) -> SennaPruneError:
    return SennaPruneError(f"{path} is damaged or was not written by senna-prune ({what}); give another directory with --out")
