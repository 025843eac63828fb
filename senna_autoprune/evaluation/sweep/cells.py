"""A sweep's configuration -> its cells: every method at every budget, calibrated where it says so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.settings import Setting
from senna_autoprune.evaluation.runs.rows import AnswerRow
from senna_autoprune.evaluation.sweep.config import CALIBRATED, RowSpec, SweepConfig, budget_name, specs


@dataclass(frozen=True)
class Cell:
    """One method at one budget: ("retention" or "tokens_per_view", value), and the setting that answers for it."""

    row: RowSpec
    budget: tuple[str, float]
    setting: Setting

    def named(self) -> dict[str, str]:
        """What the entries of ``table.json`` begin with."""
        return {"row": self.row.label, "kind": self.row.kind, "budget": budget_name(self.budget), "setting": self.setting.name}


def texts_of(rows: Iterable[AnswerRow]) -> dict[str, dict[int, str]]:
    """setting -> question -> what was answered, as the adapter hands it on; failed rows are left out."""
    texts: dict[str, dict[int, str]] = {}
    for row in rows:
        if row.answer is not None:
            texts.setdefault(row.setting, {})[row.question] = row.words or ""
    return texts


def cells_of(config: SweepConfig, calibration: dict[str, Any] | None) -> list[Cell]:
    """All cells, budget by budget within each row. ``calibration``: of ``calibration.calibrate``; None: not measured yet."""
    cells = []
    for row in specs(config):
        options = calibrated(row, calibration)
        for budget in config.budgets:
            setting = row.setting(budget, options)
            setting.policy(config.seed)
            cells.append(Cell(row, budget, setting))
    return cells


def needs_calibration(row: RowSpec) -> bool:
    scaled = row.options.get("indicator") in ("cosine", "attention") and "indicator_scale" not in row.options
    return scaled or row.options.get("gamma") == CALIBRATED


def calibrated(row: RowSpec, calibration: dict[str, Any] | None) -> dict[str, Any]:
    """The row's options with what calibration found in place of what asked for it."""
    options: dict[str, Any] = dict(row.options)
    indicator, found = str(options.get("indicator")), calibration or {}
    if indicator in ("cosine", "attention") and "indicator_scale" not in options:
        options["indicator_scale"] = found.get("indicator_scale", {}).get(indicator, 1.0)
    if options.get("gamma") == CALIBRATED:
        gamma = found.get("gamma", {})
        if "error" in gamma:
            raise SennaPruneError(f"{row.label}: {gamma['error']}")
        options.update(gamma or {"gamma": 0.2})
    return options
