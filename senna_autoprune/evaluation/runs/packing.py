"""A run's rows as they are stored: columns of the database, lines of answers.jsonl."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from typing import Any

from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow, StoredTrace

_ELSEWHERE = ("trace", "said", "sent", "missing_frames", "images_ms")  # in tables that older runs do not have, but for the trace
ANSWER_COLUMNS = [field.name for field in fields(AnswerRow) if field.name not in _ELSEWHERE]
TOLD = [name for name in ANSWER_COLUMNS if not name.endswith("_ms")]
_TIMES = re.compile(r', "\w+_ms": (?:null|[-+.0-9eE]+)(?=[,}])')  # of a trace's text; inside a string the quotes would be escaped
_encode = json.JSONEncoder().encode
_LINE = "{" + ", ".join([*(f'"{name}": %s' for name in TOLD), '"trace": %s%s}\n'])
_SHORT = 200  # characters of a text that is met again


def line_of(row: AnswerRow) -> str:
    """A row as JSON without its times, spelled as ``json.dumps`` does."""
    if not isinstance(row.trace, StoredTrace):
        trace = _encode(None if row.trace is None else {name: one for name, one in row.trace.items() if not name.endswith("_ms")})
    else:  # as it stands: taking half a million apart and together again takes a quarter of a minute
        trace = _TIMES.sub("", row.trace.text)
    return _line([getattr(row, name) for name in TOLD], trace, row.said)


def stored_line(told: Sequence[Any], trace: str | None, said: str | None) -> str:
    """``line_of`` a row of the database: its columns ``TOLD``, its trace as it is stored."""
    return _line(told, "null" if trace is None else _TIMES.sub("", trace), said)


def _line(told: Sequence[Any], trace: str, said: str | None) -> str:
    more = "" if said is None else f', "said": {_encode(said)}'
    return _LINE % (*map(_spelled, told), trace, more)


def _spelled(value: Any) -> str:
    """A value as ``json.dumps`` spells it."""
    if value is None:
        return "null"
    if type(value) is int:
        return repr(value)
    return _text(value) if type(value) is str and len(value) <= _SHORT else _encode(value)


@lru_cache(maxsize=4096)  # settings and plans: few, each of many rows
def _text(value: str) -> str:
    return _encode(value)


def trace_text(row: AnswerRow) -> str | None:
    """A row's trace as JSON text."""
    return None if row.trace is None else row.trace.text if isinstance(row.trace, StoredTrace) else json.dumps(row.trace)


def pack_question(row: QuestionRow) -> tuple[Any, ...]:
    """A row of the table ``questions``."""
    return (
        row.question,
        row.token,
        row.type,
        row.text,
        row.label,
        _encode(row.images),
        row.scene,
        int(row.scene_known),
        _encode(row.attributes),
    )


def pack_truths(row: QuestionRow) -> tuple[Any, ...] | None:
    """A row of the table ``truths``; None where there is nothing to keep."""
    if not (row.facts or row.earlier or row.future):
        return None
    earlier = [[camera, frame, path] for (camera, frame), path in row.earlier.items()]
    return row.question, json.dumps(dict(row.facts)), json.dumps(earlier), json.dumps(row.future)
