"""Are the values in ``answers.sqlite`` what a run writes? A run directory may come from somebody else (tables: ``files.database``)."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from senna_autoprune.evaluation.runs.rows import PackedTrace, StoredTrace
from senna_autoprune.evaluation.runs.schema import LAYOUT
from senna_autoprune.files.database import foreign
from senna_autoprune.files.json_files import LONGEST_NAME, text_fault

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


def images_of(text: str, path: Path) -> tuple[str, ...]:
    """The paths of a question's images."""
    return _parsed(_IMAGES, text, path, "images")


def attributes_of(text: str, path: Path) -> dict[str, str]:
    """The conditions of a question. Two of them are numbers: its weight (above 0) and its constructed complexity."""
    found: dict[str, str] = _parsed(_ATTRIBUTES, text, path, "attributes")
    for name, least in (("weight", 0.0), ("complexity", -math.inf)):
        if name in found and not least < _number(found[name]) < math.inf:
            raise foreign(path, f"attributes: {name} is {found[name][:40]!r}", LAYOUT)
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
            raise foreign(path, f"{column}: {fault}", LAYOUT)
        return kind.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        raise foreign(path, f"{column}: {'.'.join(map(str, first['loc']))} {first['msg']}", LAYOUT) from error
    except (ValueError, RecursionError) as error:
        raise foreign(path, f"{column} is no JSON: {error}", LAYOUT) from error
