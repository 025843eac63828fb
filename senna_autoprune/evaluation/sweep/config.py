"""What a sweep is asked to do: methods x budgets on one checkpoint and one question file, and how its rows are named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator
from pydantic.dataclasses import dataclass

from senna_autoprune.evaluation.answering.settings import Setting
from senna_autoprune.evaluation.config import AskConfig
from senna_autoprune.evaluation.runs.rows import PRUNING_CONTROLS
from senna_autoprune.files.yaml_files import Scalar, parse_range, read_value, suggest
from senna_autoprune.pruning.methods.registry import METHODS, is_method, split_variant

DEFAULT_RETENTION = (0.08, 0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40)  # so low that the break is seen
LENGTHS = "random-lengths"  # the control on AutoPrune's own lengths, where it is asked for
SUBJECTS = ("plan", "choice", "yes_no", "other")  # question types that a table may be about; the first that is asked
CALIBRATED = "calibrated"  # value of gamma that asks for a label-free choice (calibration.py)
ABLATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "indicators": ("indicator", ("static", "cosine", "attention", "mutual_information")),
    "curves": ("curve", ("linear", "tanh", "exponential", "logistic")),
}
_DEFAULTS = {"indicator": "mutual_information", "curve": "logistic"}  # said or not, it is the same setting


@dataclass(config=ConfigDict(extra="forbid", allow_inf_nan=False), kw_only=True)
class SweepConfig(AskConfig):
    """One sweep. ``--help`` of ``senna-prune sweep`` says the same.

    methods: names of the registry, "all", or a variant with options, "autoprune:mode=release"; default "all", or none
        where ``ablation`` is given. random, uniform and no-image are always there.
    retention, tokens_per_view: at most one; a list, or "start:stop:step".
    ablation: "indicators", "curves" or both, of AutoPrune (the paper's Table 4).
    options: of a method, in all its rows: {autoprune: {scope: view}}.
    calibration: questions that the label-free factors of cosine, attention and ``gamma=calibrated`` are measured on.
    survival: keyframes whose evidence is followed through the layers afterwards; None: none.
    """

    methods: tuple[str, ...] | None = None
    retention: tuple[float, ...] | None = None
    tokens_per_view: tuple[float, ...] | None = None
    ablation: tuple[Literal["indicators", "curves"], ...] = ()
    options: dict[str, dict[str, Scalar]] = Field(default_factory=dict)
    calibration: int = Field(default=32, ge=2, le=1_000_000)
    figures: bool = True
    survival: int | None = Field(default=None, ge=1)

    @field_validator("methods", "ablation", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("retention", "tokens_per_view", mode="before")
    @classmethod
    def _budgets(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str):
            try:
                return parse_range(value, shares=info.field_name == "retention")
            except ValueError:
                raise ValueError("write 0.2,25% or start:stop:step, like 0.20:0.40:0.05") from None
        return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.retention is not None and self.tokens_per_view is not None:
            raise ValueError("retention and tokens_per_view both state the budgets; give one")
        if self.retention is None and self.tokens_per_view is None:
            self.retention = DEFAULT_RETENTION
        for name in ("retention", "tokens_per_view"):
            given = getattr(self, name)
            if given is not None:
                if not given or min(given) <= 0 or (name == "retention" and max(given) > 1):
                    raise ValueError(f"{name}: " + ("shares lie in (0, 1]: 0.25 or 25%" if name == "retention" else "give numbers > 0"))
                setattr(self, name, tuple(dict.fromkeys(given)))
        if not set(SUBJECTS) & set(self.types):
            raise ValueError("types: a sweep's table is about one kind of answer, so the types must hold plan, choice, yes_no or other")
        for method in self.options:
            if not is_method(method):
                raise ValueError(f"options: unknown method {method!r}{suggest(method, list(METHODS))}")
        specs(self)
        return self

    @property
    def budgets(self) -> list[tuple[str, float]]:
        """("retention", 0.2), ... in the order given."""
        if self.tokens_per_view is not None:
            return [("tokens_per_view", value) for value in self.tokens_per_view]
        return [("retention", value) for value in self.retention or ()]


@plain_dataclass(frozen=True)
class RowSpec:
    """A row of the table: a method with its options, at every budget. ``kind``: "control", "method" or "ablation"."""

    label: str
    kind: str
    method: str
    options: Mapping[str, Scalar] = field(default_factory=dict)

    def setting(self, budget: tuple[str, float], options: Mapping[str, Any]) -> Setting:
        """The run's setting at one budget. Its name tells all of it, so that rows on disk are found again.

        Args:
            options: ``self.options`` with what calibration found.
        """
        said = {name: value for name, value in options.items() if _DEFAULTS.get(name) != value}
        details = ",".join(f"{name}={_word(value)}" for name, value in sorted(said.items()))
        name = f"{self.method}:{details}" if details else self.method
        return Setting(f"{name}@{budget_name(budget)}", self.method, {budget[0]: budget[1], **options})


def budget_name(budget: tuple[str, float]) -> str:
    """``0.25`` for a retention, ``32/view`` for tokens of each view."""
    return f"{budget[1]:g}/view" if budget[0] == "tokens_per_view" else f"{budget[1]:g}"


def specs(config: SweepConfig) -> list[RowSpec]:
    """The rows: random and uniform, the methods, the ablations.

    Raises:
        ValueError: an unknown method (with a suggestion) or an option that is not NAME=VALUE.
    """
    wanted = config.methods if config.methods is not None else () if config.ablation else ("all",)
    rows = [RowSpec(name, "control", name, config.options.get(name, {})) for name in PRUNING_CONTROLS]
    for text in wanted:
        if text == "all":
            rows += [RowSpec(name, _kind(name), name, config.options.get(name, {})) for name in METHODS]
        else:
            rows.append(variant(text, config.options))
    for ablation in dict.fromkeys(config.ablation):
        option, values = ABLATIONS[ablation]
        common = config.options.get("autoprune", {})
        rows += [RowSpec(f"{option}={value}", "ablation", "autoprune", {**common, option: value}) for value in values]
    unique: dict[str, RowSpec] = {}
    for row in rows:
        unique.setdefault(row.label, row)
    return list(unique.values())


def _kind(name: str) -> str:
    """ "control" for a selection by luck, which is no method's rival."""
    return "control" if name in (*PRUNING_CONTROLS, LENGTHS) else "method"


def variant(text: str, options: Mapping[str, Mapping[str, Scalar]]) -> RowSpec:
    """A row written as ``autoprune`` or ``autoprune:mode=release:k0=0.3``.

    Args:
        options: of methods, in all their rows.
    Raises:
        ValueError: an unknown method (with a suggestion), or an option that is not NAME=VALUE.
    """
    name, parts = split_variant(text)
    if not is_method(name):
        raise ValueError(f"methods: unknown method {name!r}{suggest(name, ['all', *METHODS])}")
    given: dict[str, Scalar] = {}
    for part in parts:
        option, sign, value = part.partition("=")
        try:
            read = read_value(value) if sign else None
        except ValueError:
            read = None
        if not isinstance(read, (bool, int, float, str)) or option in ("seed", "retention", "tokens_per_view"):
            raise ValueError(f"methods: {text[:80]!r}: write a method's options as NAME=VALUE, like autoprune:mode=release")
        given[option] = read
    return RowSpec(text, _kind(name), name, {**options.get(name, {}), **given})


def _word(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
