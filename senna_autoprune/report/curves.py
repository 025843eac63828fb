"""The paper's Fig. 2 from a run: how each question's complexity shaped its retention curve. Drawn by curve_figures.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from senna_autoprune.demo import label_of_run
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.config import BUDGETS
from senna_autoprune.evaluation.runs.rows import AnswerRow
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.evaluation.sweep.config import budget_name
from senna_autoprune.report.curve_figures import Family, draw_curves, family
from senna_autoprune.report.drawing import save, sign, style

Budget = tuple[str, float]  # ("retention", 0.25)


@dataclass(frozen=True)
class RunCurves:
    """Families of one budget of a run. budget: as tables write it. budgets: all that could be drawn. label: see ``demo``."""

    families: list[Family]
    budget: str
    budgets: list[str]
    label: str | None


def curves_of(run: str | Path, budget: str | None = None) -> RunCurves:
    """The curves of a run of ``eval`` or ``sweep``, finished or not.

    Args:
        budget: one of the run's, as its tables write it (0.25, 32/view); None: its middle one.
    Raises:
        SennaPruneError: no run, no such budget, or no answer of AutoPrune's paper mode with a measured complexity.
    """
    with RunStore.read(run) as store:
        return _curves(run, budget, store.config, store.measured)


def _curves(run: str | Path, budget: str | None, description: Mapping[str, Any], answers: Callable[[str], list[AnswerRow]]) -> RunCurves:
    found: dict[str, list[Family]] = {}
    values: dict[str, float] = {}
    for name, entry in _settings(run, description).items():
        options = dict(entry.get("options") or {})
        stated = next(((key, options.pop(key)) for key in (*BUDGETS, "flops") if key in options), None)
        # the release integrates another curve, and no other method has one
        if entry.get("method") != "autoprune" or stated is None or options.get("mode") == "release":
            continue
        drawn = family(_title(options), options.get("curve", "logistic"), name, answers(name))
        if drawn is not None:
            found.setdefault(_budget(stated), []).append(drawn)
            values[_budget(stated)] = stated[1]
    if not found:
        raise SennaPruneError(
            f"the run {run} has no curves: they come from answers of AutoPrune in paper mode whose complexity was measured; "
            "make some with `senna-prune eval` or `sweep`"
        )
    budgets = sorted(found, key=lambda one: values[one])
    chosen = budget if budget is not None else budgets[len(budgets) // 2]
    if chosen not in found:
        raise SennaPruneError(f"the run {run} has no curves at the budget {budget}: --budget can be {', '.join(budgets)}")
    return RunCurves(found[chosen], chosen, budgets, label_of_run(description))


def save_curves(curves: RunCurves, out: Path) -> None:
    """Draw them to a file (.png, .svg or .pdf). SennaPruneError if it cannot be written."""
    with style():
        figure = draw_curves(curves.families, curves.budget)
        sign(figure, curves.label)
        save(figure, out)


def _settings(run: str | Path, description: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    settings = description.get("settings")
    if not isinstance(settings, dict) or not all(isinstance(entry, dict) for entry in settings.values()):
        raise SennaPruneError(f"{run}/config.yaml lists no settings: not written by this senna-prune")
    return settings


def _budget(stated: Budget) -> str:
    """As a sweep's tables name it; what they cannot have is named in full."""
    kind, value = stated
    return budget_name(stated) if kind in ("retention", "tokens_per_view") else f"{value:g} {kind}"


def _title(options: Mapping[str, Any]) -> str:
    return ", ".join(["autoprune", *(f"{name} {value}" for name, value in options.items())])
