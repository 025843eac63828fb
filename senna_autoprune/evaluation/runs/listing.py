"""The runs of a folder in a line each: what, how far, how good. Reads no answers and no model."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.runs.identity import ANSWERS, CERTIFIED, CONFIG
from senna_autoprune.evaluation.runs.results import CERTIFICATE, METRICS, TABLE, read_result, there
from senna_autoprune.evaluation.runs.rows import UNPRUNED
from senna_autoprune.evaluation.runs.store import RunStore

MOST_RUNS = 500  # of a folder


@dataclass(frozen=True)
class RunLine:
    """``state``: finished, under way, or why the folder cannot be read. Accuracies are shares; None where not measured.

    ``verdict``: the sentence of a finished run, None where it has none. ``method`` is "sweep" for a sweep, whose settings are many, and
    "budget" for a search, of which nobody knows beforehand how many answers it will need: it wants those that it has.
    """

    directory: Path
    state: str
    method: str = ""
    budget: str = ""
    answers: int = 0
    wanted: int = 0
    unpruned: float | None = None
    pruned: float | None = None
    verdict: str | None = None


def runs_in(folder: Path) -> Iterator[RunLine]:
    """Runs directly in ``folder`` (or ``folder`` itself), by name.

    Raises:
        SennaPruneError: no such folder, or more than ``MOST_RUNS`` runs in it.
    """
    if not folder.is_dir():
        raise SennaPruneError(f"{folder} is no folder: name the one that your runs are in, e.g. runs")
    found = [folder] if (folder / ANSWERS).exists() else sorted(path.parent for path in folder.glob(f"*/{ANSWERS}"))
    if len(found) > MOST_RUNS:
        raise SennaPruneError(f"{folder} holds {len(found)} runs: name a folder with at most {MOST_RUNS}")
    for directory in found:
        yield run_line(directory)


def run_line(directory: Path) -> RunLine:
    """One run; what is wrong with it becomes its state."""
    try:
        with RunStore.read(directory) as store:
            description = store.config
            answers, asked = store.counts()
        settings = description.get("settings")
        if not isinstance(settings, dict):
            raise SennaPruneError(f"{directory / CONFIG} has no settings")
        wanted = asked * len(settings)
        state = "finished" if there(directory / METRICS) and answers >= wanted else f"{answers} of {wanted} answers"
        if "sweep" in description:
            said = _sentence(directory / TABLE, "verdict") if state == "finished" else None
            return RunLine(directory, state, "sweep", f"{len(settings)} settings", answers, wanted, verdict=said)
        config = description.get("config")
        if isinstance(config, dict) and "choose_share" in config:
            over, said = CERTIFIED in description, _sentence(directory / CERTIFICATE)
            methods = ", ".join(map(str, config.get("methods") or ()))
            state = "finished" if over else f"{answers} answers"
            return RunLine(directory, state, "budget", methods, answers, answers, verdict=said if over else None)
        method, budget = _asked(config if isinstance(config, dict) else {})
        metrics = read_result(directory / METRICS) if state == "finished" else None
        said = (metrics or {}).get("verdict", {}).get("sentence")
        accuracies = _accuracy(metrics, UNPRUNED), _accuracy(metrics, method)
        return RunLine(directory, state, method, budget, answers, wanted, *accuracies, verdict=said)
    except (SennaPruneError, sqlite3.Error) as error:
        return RunLine(directory, f"unreadable: {error}")


def _asked(config: dict[str, Any]) -> tuple[str, str]:
    for name in ("retention", "tokens", "tokens_per_view"):
        value = config.get(name)
        if isinstance(value, int | float):
            return str(config.get("method")), f"{name} {value:g}"
    return str(config.get("method")), ""


def _sentence(path: Path, *place: str) -> str | None:
    """``sentence`` of a file of the run, inside ``place``; None where there is no such file, or it says nothing."""
    if not there(path):
        return None
    found = read_result(path)
    for key in (*place, "sentence"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, str) else None


def _accuracy(metrics: Any, setting: str) -> float | None:
    for key in ("settings", setting, "plan", "exact_accuracy"):
        metrics = metrics.get(key) if isinstance(metrics, dict) else None
    return None if metrics is None else float(metrics)
