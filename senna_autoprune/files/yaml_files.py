"""YAML in and out: bounded, without aliases, tags or doubled keys, and validated into a dataclass with one-line errors."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.json_files import text_fault
from senna_autoprune.files.regular import read_regular

MAX_BYTES = 50_000  # of a configuration: PyYAML needs a second for it


MOST_STEPS = 1000  # of a start:stop:step


T = TypeVar("T")


Scalar = bool | int | float | str


def parse_range(text: str, shares: bool = False) -> list[float]:
    """``0.2,0.25`` or ``0.20:0.40:0.05`` (start:stop:step, the stop included). ValueError if it is neither.
    ``shares``: each number may be a percentage, ``25%``.
    """
    if ":" not in text:
        return [_number(part, shares) for part in text.split(",")]
    start, stop, step = (_number(part, shares) for part in text.split(":"))
    if not (step > 0 and start <= stop < float("inf")):
        raise ValueError(f"{text!r} is not start:stop:step")
    steps = (stop - start) / step + 1e-9
    if steps > MOST_STEPS:
        raise ValueError(f"{text!r} has more than {MOST_STEPS} steps")
    return [round(start + index * step, 10) for index in range(int(steps) + 1)]


def _number(text: str, share: bool) -> float:
    text = text.strip()
    return float(text.removesuffix("%")) / 100 if share and text.endswith("%") else float(text)


def suggest(name: str, known: Sequence[str]) -> str:
    """``" (did you mean 'x'?)"`` or the list of what is known, for the end of an error line."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else f"; known: {', '.join(known)}"


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases and duplicate keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.constructor.ConstructorError(None, None, "aliases are not allowed in a configuration", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                if key_node.value in seen:
                    problem = f"the key {key_node.value!r} is given twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
                seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: str | Path, limit: int = MAX_BYTES) -> dict[str, Any]:
    """A YAML file that holds one mapping with string keys.

    Raises:
        SennaPruneError: unreadable, too large, not YAML, an alias, a tag, a duplicate key, or not a mapping; names file
        and line.
    """
    path = Path(path)
    try:
        raw = read_regular(path, limit)
    except OSError as error:
        raise SennaPruneError(f"cannot read the configuration {path}: {error.strerror or error}") from error
    try:
        loaded = yaml.load(raw, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise SennaPruneError(f"{where}: not a valid configuration: {_one_line(error.problem or error)}") from error
    except RecursionError as error:
        raise SennaPruneError(f"{path}: not a valid configuration: nested too deeply") from error
    except Exception as error:  # the loader's own errors, and what it came upon in a value that is not of its tag's kind
        raise SennaPruneError(f"{path}: not a valid configuration: {type(error).__name__}: {_one_line(error)}") from error
    if loaded is None:
        return {}
    if not isinstance(loaded, dict) or not all(isinstance(key, str) for key in loaded):
        raise SennaPruneError(f"{path}: a configuration is a mapping of names to values, like 'retention: 0.25'")
    return loaded


def read_value(text: str) -> Any:
    """The value of a NAME=VALUE option: a YAML scalar, or what YAML makes of it. ValueError if nothing."""
    try:
        return yaml.load(text, Loader=_Loader)
    except Exception as error:  # as in read_yaml
        raise ValueError(f"not a value: {_one_line(error)}") from error


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:300]


def build(cls: type[T], values: dict[str, Any], where: str) -> T:
    """A validated configuration dataclass from a mapping.

    Args:
        where: what to name in an error ("configs/eval.yaml", "the command line").
    Raises:
        SennaPruneError: an unknown key (with a suggestion), or a value of the wrong kind or range (names the key).
    """
    fault = text_fault(values)
    if fault:
        raise SennaPruneError(f"{where}: {fault}")
    known = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise SennaPruneError(f"{where}: unknown key {_one_line(key)!r}{suggest(key, known)}")
    try:
        return cls(**values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        message = _one_line(first["msg"].removeprefix("Value error, "))
        shown = f" (got {_one_line(repr(first['input']))[:80]})" if name else ""
        raise SennaPruneError(f"{where}: {name + ': ' if name else ''}{message}{shown}") from error


def load_config(cls: type[T], path: str | Path | None, overrides: dict[str, Any] | None = None) -> T:
    """A configuration from a YAML file (or none), with ``overrides`` (the command line's flags) on top."""
    values = read_yaml(path) if path is not None else {}
    where = str(path) if path is not None else "the command line"
    if values:
        build(cls, values, where)  # a fault of the file is reported as the file's, before any flag is laid over it
    merged = {**values, **(overrides or {})}
    return build(cls, merged, where if not overrides else "the command line" if path is None else f"{path} with the command line")


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain data (tuples become lists), fit for YAML and JSON."""
    data: dict[str, Any] = TypeAdapter(type(config)).dump_python(config, mode="json")
    return data


def dump_yaml(data: dict[str, Any]) -> str:
    """Plain data as YAML, keys in the order given."""
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)
