"""Benchmark suites: which tasks of lmms-eval, which budgets and which methods make one table, read from YAML.

Shipped here, and linked from configs/: ``table1`` (LLaVA-1.5) and ``table2`` (LLaVA-NeXT).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, TypeAdapter, field_validator, model_validator
from pydantic.dataclasses import dataclass

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.runs.rows import NO_IMAGE, PRUNING_CONTROLS, UNPRUNED
from senna_autoprune.evaluation.sweep.config import variant
from senna_autoprune.files.yaml_files import Scalar, load_config, suggest
from senna_autoprune.pruning.methods.registry import METHODS, build_policy, split_variant

SUITES = {"table1": "llava15_table1.yaml", "table2": "llava_next_table2.yaml"}
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")  # of a task: a word of a command line and a folder


@dataclass(config=ConfigDict(extra="forbid", allow_inf_nan=False), kw_only=True, frozen=True)
class TaskConfig:
    """A task of lmms-eval and how its results become one column: the sum of ``metrics``, times ``scale``."""

    name: str
    column: str
    metrics: tuple[str, ...] = Field(min_length=1)
    scale: float = Field(default=1.0, gt=0)

    @field_validator("name")
    @classmethod
    def _word(cls, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise ValueError("a task's name is one word of letters, digits, _, - and .")
        return value


@dataclass(config=ConfigDict(extra="forbid", allow_inf_nan=False), kw_only=True)
class SuiteConfig:
    """One table. Unpruned, no-image, random and uniform are always among its rows.

    visual_tokens: of an unpruned image (at most), for the headings; tokens: budgets, visual tokens averaged over the layers.
    methods: names of the registry, "all", or variants like "autoprune:mode=release".
    paper: which model's published figures belong beside ours, as far as paper.json has them.
    """

    title: str
    visual_tokens: int = Field(gt=0)
    tokens: tuple[int, ...] = Field(min_length=1)
    methods: tuple[str, ...] = Field(min_length=1)
    tasks: tuple[TaskConfig, ...] = Field(min_length=1)
    paper: Literal["llava-1.5-7b"] | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not all(0 < tokens <= self.visual_tokens for tokens in self.tokens):
            raise ValueError(f"tokens: budgets lie between 1 and the {self.visual_tokens} visual tokens of an image")
        names = [task.name for task in self.tasks]
        if len(set(names)) != len(names):
            raise ValueError("tasks: a task is named twice")
        rows(self)
        return self


@plain_dataclass(frozen=True)
class Row:
    """A row of the table: what the plug-in is told, besides the checkpoint. ``tokens`` is None where no budget applies."""

    label: str
    kind: Literal["unpruned", "control", "method"]
    tokens: int | None
    arguments: dict[str, Scalar] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``autoprune@64``."""
        return self.label if self.tokens is None else f"{self.label}@{self.tokens}"


def rows(suite: SuiteConfig) -> list[Row]:
    """Unpruned and no-image, then at every budget the controls and the methods. Every policy is built once, to fail early.

    Raises:
        ValueError: an unknown method or option, or a budget the method takes no part in.
    """
    found = [
        Row(UNPRUNED, "unpruned", None, {"method": "none"}),
        Row(NO_IMAGE, "control", None, {"method": "none", "no_image": True}),
    ]
    specs = []
    for text in suite.methods:
        specs += [variant(name, {}) for name in METHODS if name not in PRUNING_CONTROLS] if text == "all" else [variant(text, {})]
    methods = {spec.label: spec for spec in specs if spec.label not in PRUNING_CONTROLS}
    for tokens in dict.fromkeys(suite.tokens):
        found += [Row(name, "control", tokens, {"method": name, "tokens": tokens}) for name in PRUNING_CONTROLS]
        for spec in methods.values():
            try:
                build_policy(spec.method, tokens=tokens, **spec.options)
            except SennaPruneError as error:
                raise ValueError(f"methods: {spec.label}: {error}") from None
            found.append(Row(spec.label, "method", tokens, {"method": spec.method, "tokens": tokens, **spec.options}))
    return found


def load_suite(
    name: str,
    methods: str | None = None,
    tasks: str | None = None,
    tokens: str | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> SuiteConfig:
    """A shipped suite by its name, or any YAML file of the same keys, narrowed by the command line's flags.

    Args:
        methods, tasks, tokens: values separated by commas; tasks are chosen among the suite's.
        options: of methods, in all their rows, which are named after them.
    Raises:
        SennaPruneError: no such suite, task or method, or a fault in the file.
    """
    if name in SUITES:
        path = Path(__file__).with_name(SUITES[name])
    elif Path(name).suffix in (".yaml", ".yml"):
        path = Path(name)
    else:
        raise SennaPruneError(f"--suite {name!r} is unknown{suggest(name, list(SUITES))}; or give a YAML file of your own")
    given: dict[str, Any] = {}
    if methods is not None:
        given["methods"] = _words(methods)
    if tokens is not None:
        try:
            given["tokens"] = [int(word) for word in _words(tokens)]
        except ValueError:
            raise SennaPruneError(f"--tokens {tokens!r}: write budgets as whole numbers, like 192,128,64") from None
    suite = load_config(SuiteConfig, path, given)
    if options:
        suite = load_config(SuiteConfig, path, {**given, "methods": _with_options(suite.methods, options)})
    if tasks is not None:
        known = {task.name: task for task in suite.tasks} | {task.column.lower(): task for task in suite.tasks}
        chosen = []
        for word in _words(tasks):
            if word.lower() not in known:
                raise SennaPruneError(f"--tasks: {word!r} is not in this suite{suggest(word, [task.name for task in suite.tasks])}")
            chosen.append(known[word.lower()])
        suite.tasks = tuple(dict.fromkeys(chosen)) or suite.tasks
    return suite


def _with_options(methods: Sequence[str], options: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Each method as the variant that it becomes: its name is its folder, so no row is taken for another's."""
    named = [name for text in methods for name in (METHODS if text == "all" else [text]) if text != "all" or name not in PRUNING_CONTROLS]
    ours = [split_variant(text)[0] for text in named]
    for method in options:
        if method not in ours:
            raise SennaPruneError(f"--set {method}.{next(iter(options[method]))}: no row is of {method}{suggest(method, ours)}")
    return [":".join([text, *(f"{k}={v}" for k, v in options.get(name, {}).items())]) for text, name in zip(named, ours, strict=True)]


def columns(tasks: Sequence[TaskConfig]) -> list[dict[str, Any]]:
    """The tasks as plain data."""
    adapter = TypeAdapter(TaskConfig)
    return [adapter.dump_python(task, mode="json") for task in tasks]


def _words(text: str) -> list[str]:
    return [word for part in text.split(",") if (word := part.strip())]
