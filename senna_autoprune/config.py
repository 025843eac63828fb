"""Configurations: dataclasses validated by pydantic, YAML in and out. A key nobody knows is an error with a suggestion.

A YAML file is untrusted data: it is read by PyYAML's safe loader, at most ``MAX_BYTES`` of it, without aliases (a few
lines of them can stand for gigabytes) and without duplicate keys.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic.dataclasses import dataclass

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.json_files import text_fault

MAX_BYTES = 50_000  # of a configuration: PyYAML needs a second for it
MOST_STEPS = 1000  # of a start:stop:step
QUESTION_TYPES = ("plan", "vru", "motion", "light", "description", "explanation")
BUDGETS = ("retention", "tokens", "tokens_per_view")
ENGINE_KEYS = ("engine", "workers", "gpus_per_worker", "ray_address")  # who computes; no answer depends on it
DEFAULT_RETENTION = 0.25

T = TypeVar("T")
Scalar = bool | int | float | str


@dataclass(config=ConfigDict(extra="forbid", allow_inf_nan=False), kw_only=True)
class AskConfig:
    """What every command that asks a model has in common: the checkpoint, the questions, how they are asked, and by whom.

    ``engine="ray"`` asks with ``workers`` models (default 1) on as many Ray actors, each with ``gpus_per_worker`` GPUs
    (default: one if ``device`` is cuda, else none), on the cluster at ``ray_address`` or on a local one.
    """

    model: str | None = None
    questions: str | None = None
    images: str | None = None
    vision_tower: str | None = None
    out: str | None = None
    types: tuple[str, ...] = ("plan",)
    limit: int | None = Field(default=None, ge=1)
    max_new_tokens: int | None = Field(default=None, ge=1, le=4096)
    prompt_template: Literal["eval", "train"] = "eval"
    batch_size: int = Field(default=1, ge=1, le=1024)
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    seed: int = Field(default=0, ge=0, lt=2**32)
    resamples: int = Field(default=2000, ge=100, le=1_000_000)
    engine: Literal["local", "ray"] = "local"
    workers: int | None = Field(default=None, ge=1, le=4096)
    gpus_per_worker: float | None = Field(default=None, ge=0)
    ray_address: str | None = None

    @field_validator("types", mode="before")
    @classmethod
    def _types(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = value.replace(" ", "").split(",")
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError("give question types as a list or separated by commas")
        names = tuple(value)
        if names == ("all",):
            return QUESTION_TYPES
        for name in names:
            if name not in QUESTION_TYPES:
                raise ValueError(f"unknown question type {name!r}{suggest(str(name), QUESTION_TYPES)}")
        return tuple(name for name in QUESTION_TYPES if name in names)

    @model_validator(mode="after")
    def _one_engine(self) -> Self:
        if self.engine == "local":
            for name in ENGINE_KEYS[1:]:
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} belongs to the ray engine; say engine ray, or leave it out")
        elif self.worker_gpus and self.device != "cuda":
            raise ValueError(f"gpus_per_worker {self.worker_gpus:g} with device {self.device}: with Ray say device cuda, or 0 GPUs")
        return self

    @property
    def worker_gpus(self) -> float:
        """GPUs of a Ray worker."""
        if self.gpus_per_worker is not None:
            return self.gpus_per_worker
        return 1.0 if self.device.startswith("cuda") else 0.0


@dataclass(config=ConfigDict(extra="forbid", allow_inf_nan=False), kw_only=True)
class EvalConfig(AskConfig):
    """One evaluation: a checkpoint, a question file, a pruning method with its budget. ``--help`` of ``senna-prune
    eval`` says the same.

    Of the budgets ``retention``, ``tokens`` and ``tokens_per_view`` at most one is given; none means retention 0.25.
    With ``budget="flops"`` the retention is the share of the unpruned prefill's FLOPs instead of the share of the
    visual tokens.
    """

    method: str = "autoprune"
    mode: Literal["paper", "release"] | None = None
    scope: Literal["scene", "view"] | None = None
    budget: Literal["tokens", "flops"] = "tokens"
    retention: float | None = Field(default=None, gt=0, le=1)
    tokens: float | None = Field(default=None, gt=0)
    tokens_per_view: float | None = Field(default=None, gt=0)
    options: dict[str, Scalar] = Field(default_factory=dict)
    controls: bool = True

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} both state a budget; give one")
        if self.budget == "flops" and given not in ([], ["retention"]):
            raise ValueError(f"a FLOPs budget is a share of the prefill: give retention, not {given[0]}")
        if not given:
            self.retention = DEFAULT_RETENTION
        for name in ("seed", "mode", "scope", *BUDGETS, "flops"):
            if name in self.options:
                raise ValueError(f"options: {name} has a place of its own; take it out of the options")
        return self

    def budget_arguments(self) -> dict[str, float]:
        """The budget as a policy's keyword argument: ``retention``, ``tokens``, ``tokens_per_view`` or ``flops``."""
        for name in ("tokens", "tokens_per_view"):
            value = getattr(self, name)
            if value is not None:
                return {name: value}
        assert self.retention is not None
        return {"flops" if self.budget == "flops" else "retention": self.retention}

    def method_arguments(self) -> dict[str, Any]:
        """Keyword arguments of the method besides its budget; what was not given is left to the method's default."""
        given = {name: getattr(self, name) for name in ("mode", "scope") if getattr(self, name) is not None}
        return {**given, **self.options}


def parse_range(text: str) -> list[float]:
    """``0.2,0.25`` or ``0.20:0.40:0.05`` (start:stop:step, the stop included). ValueError if it is neither."""
    if ":" not in text:
        return [float(part) for part in text.split(",")]
    start, stop, step = (float(part) for part in text.split(":"))
    if not (step > 0 and start <= stop < float("inf")):
        raise ValueError(f"{text!r} is not start:stop:step")
    steps = (stop - start) / step + 1e-9
    if steps > MOST_STEPS:
        raise ValueError(f"{text!r} has more than {MOST_STEPS} steps")
    return [round(start + index * step, 10) for index in range(int(steps) + 1)]


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
        with path.open("rb") as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise SennaPruneError(f"cannot read the configuration {path}: {error.strerror or error}") from error
    if len(raw) > limit:
        raise SennaPruneError(f"{path} is larger than {limit} bytes: this is not a configuration")
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
    return build(
        cls, merged, where if not overrides else "the command line" if path is None else f"{path} with the command line"
    )


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain data (tuples become lists), fit for YAML and JSON."""
    data: dict[str, Any] = TypeAdapter(type(config)).dump_python(config, mode="json")
    return data


def dump_yaml(data: dict[str, Any]) -> str:
    """Plain data as YAML, keys in the order given."""
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)
