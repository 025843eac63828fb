"""What ``senna-prune budget`` is asked: margins, candidates, halves. Stored with the run and compared when it goes on."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from senna_autoprune.evaluation.config import AskConfig
from senna_autoprune.evaluation.sweep.config import RowSpec, variant
from senna_autoprune.files.yaml_files import Scalar, parse_range, suggest
from senna_autoprune.pruning.methods.registry import METHODS, is_method

GRID = (0.10, 0.15, 0.20, 0.25, 0.30, 0.35, 0.40, 0.50, 0.60)
SAFETY = 2.0  # per cent: of a safety margin that nobody stated, where the scenes can show it
LARGEST_MARGIN = 2.0  # points: of a margin that nobody stated
LARGEST_MARGIN_M = 0.1  # metres of L2: of a margin that nobody stated
ALL = "all"  # every method of the registry
# where nobody states others for the embedded questions: the least that their 67 scenes can show of twelve methods together (Holm)
EMBEDDED = {"margin": 6.0, "safety": 10.0}


@dataclass(config=ConfigDict(extra="forbid", allow_inf_nan=False), kw_only=True)
class BudgetConfig(AskConfig):
    """One search for the smallest safe budget. ``--help`` of ``senna-prune budget`` says the same.

    margin: greatest loss, in points, or in metres of l2; None: half of (unpruned minus the best trivial control), at most 2 points or
        0.1 m.
    safety: greatest share of scenes with a newly dangerous flip (``budget.outcome``), in per cent; None: 2, or the least that so few
        scenes can show if none of them has one.
    measure: accuracy against the labels, agreement with the unpruned answers, or l2 in metres; None: what the adapter's answers and
        the questions' labels allow.
    methods: names of the registry or variants, ``autoprune:gamma=calibrated``, or "all"; one of them is chosen on the first half.
    each: certify every method on all scenes, beside its rivals and controls, in place of choosing one.
    grid: shares of visual tokens, a list or "start:stop:step".
    choose_share: of the scenes, for choosing; 0 with a single method: all scenes certify. looks: at the certificate's scenes.
    """

    margin: float | None = Field(default=None, gt=0, lt=100)
    safety: float | None = Field(default=None, gt=0, lt=100)
    measure: Literal["accuracy", "agreement", "l2"] | None = None
    methods: tuple[str, ...] = ("autoprune",)
    each: bool = False
    grid: tuple[float, ...] = GRID
    choose_share: float = Field(default=0.5, ge=0, le=0.9)
    looks: int = Field(default=3, ge=1, le=20)
    options: dict[str, dict[str, Scalar]] = Field(default_factory=dict)
    calibration: int = Field(default=32, ge=2, le=1_000_000)

    @field_validator("methods", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value

    @field_validator("grid", mode="before")
    @classmethod
    def _grid(cls, value: Any) -> Any:
        if isinstance(value, str):
            try:
                return parse_range(value, shares=True)
            except ValueError:
                raise ValueError("write 0.1,0.2 or start:stop:step, like 0.10:0.60:0.05") from None
        return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.grid or min(self.grid) <= 0 or max(self.grid) >= 1:
            raise ValueError("grid: shares of visual tokens lie between 0 and 1, both left out")
        self.grid = tuple(sorted({float(f"{share:g}") for share in self.grid}, reverse=True))  # as settings are named: no budget twice
        if not self.methods:
            raise ValueError("methods: name at least one")
        for method in self.options:
            if not is_method(method):
                raise ValueError(f"options: unknown method {method!r}{suggest(method, list(METHODS))}")
        if self.each:
            self.choose_share = 0.0
        elif self.choose_share == 0 and len(self.candidates) > 1:
            many = f"{len(self.candidates)} methods"
            raise ValueError(f"choose_share 0 leaves no scenes to choose one of {many} on; name one, give a share, or certify each")
        if self.choose_share == 0 and self.margin is None:
            why = "each method is certified on all scenes" if self.each else "choose_share is 0"
            raise ValueError(f"{why}: no scenes are left to derive a margin from; state one with --margin")
        self.candidates  # noqa: B018  # names and options are checked here
        return self

    @property
    def candidates(self) -> list[RowSpec]:
        """The methods as rows, in the order given. ValueError: an unknown method, or an option that is not NAME=VALUE."""
        rows: dict[str, RowSpec] = {}
        for name in self.methods:
            for one in METHODS if name == ALL else (name,):
                row = variant(one, self.options)
                if name != ALL or self.each or row.kind == "method":  # luck is no candidate, but a control
                    rows.setdefault(row.label, row)
        return list(rows.values())
