"""Configurations: dataclasses validated by pydantic, YAML in and out. A key nobody knows is an error with a suggestion.

A YAML file is untrusted data: it is read by PyYAML's safe loader, at most ``MAX_BYTES`` of it, without aliases (a few
lines of them can stand for gigabytes) and without duplicate keys.
"""

from __future__ import annotations

from typing import Any, Literal, Self, cast

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from senna_autoprune.device import AUTO, settle
from senna_autoprune.files.yaml_files import Scalar, suggest

QUESTION_TYPES = ("plan", "vru", "motion", "light", "description", "explanation")
ALL_TYPES = (*QUESTION_TYPES, "choice", "yes_no", "other")  # also of files that were not made for Senna
BUDGETS = ("retention", "tokens", "tokens_per_view")
ENGINE_KEYS = ("engine", "workers", "gpus_per_worker", "ray_address")  # who computes; no answer depends on it
DEFAULT_RETENTION = 0.25
MOST_RESAMPLES = 100_000  # an interval's end moves by a thousandth of its width from then on; ten times as many take seconds a table


@dataclass(config=ConfigDict(extra="forbid", allow_inf_nan=False), kw_only=True)
class AskConfig:
    """What every command that asks a model has in common: the checkpoint, the questions, how they are asked, and by whom.

    ``adapter``: a YAML file, a built-in family's name, an entry point's or ``package.module:attribute``; None: by the checkpoint's
    config.json. ``tables``: folder that holds VERSION/*.json, for true paths, boxes and earlier frames; None: the images' folder.

    ``device`` and ``dtype``: "auto" is replaced by what it means here, a GPU and bfloat16 or the CPU and float32 (``device.settle``).

    ``engine="local"`` asks in this process, or with ``workers`` models in as many processes of one thread each.
    ``engine="ray"`` asks with ``workers`` models (default 1) on as many Ray actors, each with ``gpus_per_worker`` GPUs
    (default: one if ``device`` is cuda, else none), on the cluster at ``ray_address`` or on a local one.
    """

    model: str | None = None
    questions: str | None = None
    images: str | None = None
    vision_tower: str | None = None
    out: str | None = None
    adapter: str | None = None
    tables: str | None = None
    types: tuple[str, ...] = ("plan",)
    limit: int | None = Field(default=None, ge=1)
    limit_scenes: int | None = Field(default=None, ge=1)
    max_new_tokens: int | None = Field(default=None, ge=1, le=4096)
    prompt_template: Literal["eval", "train"] = "eval"
    batch_size: int = Field(default=1, ge=1, le=1024)
    device: str = AUTO
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    seed: int = Field(default=0, ge=0, lt=2**32)
    resamples: int = Field(default=2000, ge=100, le=MOST_RESAMPLES)
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
            return ALL_TYPES
        for name in names:
            if name not in ALL_TYPES:
                raise ValueError(f"unknown question type {name!r}{suggest(str(name), ALL_TYPES)}")
        return tuple(name for name in ALL_TYPES if name in names)

    @model_validator(mode="after")
    def _settled(self) -> Self:
        device, dtype = settle(self.device, self.dtype, self.gpus_per_worker if self.engine == "ray" else None)
        self.device, self.dtype = device, cast(Any, dtype)
        return self

    @model_validator(mode="after")
    def _one_engine(self) -> Self:
        if self.engine == "local":
            for name in ENGINE_KEYS[2:]:
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} belongs to the ray engine; say engine ray, or leave it out")
            if (self.workers or 1) > 1 and not self.device.startswith("cpu"):
                raise ValueError(f"workers {self.workers} on device {self.device}: the local engine's workers share a CPU; say engine ray")
        elif self.worker_gpus and self.device != "cuda":
            raise ValueError(f"gpus_per_worker {self.worker_gpus:g} with device {self.device}: with Ray say device cuda, or 0 GPUs")
        return self

    @property
    def at_once(self) -> int:
        """Answers that may come together: a batch of each worker's."""
        return self.batch_size * (self.workers or 1)

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
