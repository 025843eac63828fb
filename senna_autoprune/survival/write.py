"""Survival as files: ``survival.json`` (all figures) and ``survival.md`` (tables and the sentence that says it)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.runs.results import SURVIVAL, read_result, there
from senna_autoprune.evaluation.sweep.cells import Cell
from senna_autoprune.files.atomic import write_atomically
from senna_autoprune.survival.evidence import UNKNOWN_BAND
from senna_autoprune.survival.measure import measures
from senna_autoprune.tables.grid import Grid, markdown, percent

if TYPE_CHECKING:
    from senna_autoprune.survival.run import Survived

FORMAT = "senna-prune survival 1"
JSON_NAME, MARKDOWN_NAME = SURVIVAL, "survival.md"
NOTES = (
    "survival: share of an object's evidence (tokens weighted by how much they show it) that still enters a layer; mean over objects",
    "chance: share of all visual tokens that enter it; a random choice of as many keeps exactly that share on average",
    "gain: survival minus chance, mean over layers, with a 95 % interval over scenes",
    "lost: objects of which less than a tenth is left in the last layer",
    "an object's place is its annotated box, whatever stands in front of it; of rendered scenes, the patches in which it was seen",
    "merged tokens count for neither side",
)


def result_of(
    survived: Survived, cells: Sequence[Cell], source: str, label: str | None, seed: int = 0, model: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """All figures, JSON-ready. label: what must be said of the data (``demo.LABEL``). model: its provenance."""
    return {
        "format": FORMAT,
        "evidence": source,
        "label": label,
        "samples": survived.samples,
        "samples_without_evidence": survived.without_evidence,
        "objects_without_a_token": survived.unseen_objects,
        "settings": {
            cell.setting.name: {"method": cell.row.label, "kind": cell.row.kind, cell.budget[0]: cell.budget[1]} for cell in cells
        },
        "impossible": survived.impossible,
        "model": dict(model or {}),
        "measures": measures(survived.rows, seed),
        "notes": list(NOTES),
    }


def grids(result: dict[str, Any]) -> list[Grid]:
    """Table of all settings, and one by class."""
    every = Grid("Evidence that survives", ["method", "budget", "survival", "chance", "gain", "middle layer", "last layer", "lost"])
    every.notes = [*result["notes"], *([result["label"]] if result["label"] else [])]
    for name, one in result["measures"].items():
        both = one["all"]
        layers = both["by_layer"]["survival"]
        every.rows.append(
            [
                *method_and_budget(result, name),
                percent(both["mean"]),
                percent(both["chance"]),
                _gain(both["gain"]),
                percent(layers[len(layers) // 2]),
                percent(layers[-1]),
                percent(both["lost"]),
            ]
        )
    for name, why in result["impossible"].items():
        every.notes.append(f"{' at '.join(method_and_budget(result, name))}: {why}")
    return [every, *(_by(result, group) for group in ("class", "role", "distance", "view", "flipped"))]


def _by(result: dict[str, Any], group: str) -> Grid:
    values = sorted({value for one in result["measures"].values() for value in one.get(group, {})})  # 0.1 knew no roles
    values = [] if values == [UNKNOWN_BAND] else values
    grid = Grid(f"Survival in the middle layer by {group} (in brackets: chance there)", ["method", "budget", *values])
    for name, one in result["measures"].items():
        cells = []
        for value in values:
            found = one.get(group, {}).get(value)
            layers = found["by_layer"] if found else None
            middle = len(layers["survival"]) // 2 if layers else 0
            cells.append(f"{percent(layers['survival'][middle])} ({percent(layers['chance'][middle], '')})" if layers else "")
        grid.rows.append([*method_and_budget(result, name), *cells])
    return grid


def sentence(result: dict[str, Any]) -> str | None:
    """The first method's figure in words, beside the random control's; None where there is nothing to compare."""
    kinds = {name: facts["kind"] for name, facts in result["settings"].items()}
    chosen = next((name for name in result["measures"] if kinds[name] == "method"), None)
    if chosen is None:
        return None
    budget = method_and_budget(result, chosen)[1]
    alike = (n for n in result["measures"] if result["settings"][n]["method"] == "random" and method_and_budget(result, n)[1] == budget)
    control = next(alike, None)
    name = max(result["measures"][chosen]["class"], key=lambda value: result["measures"][chosen]["class"][value]["objects"])
    mine = result["measures"][chosen]["class"][name]["by_layer"]["survival"]
    middle = len(mine) // 2
    text = f"{method_and_budget(result, chosen)[0]} at {budget}, layer {middle}: {percent(mine[middle])} of {name} evidence was still there"
    if control is None or name not in result["measures"][control]["class"]:
        return text
    return f"{text}, random {percent(result['measures'][control]['class'][name]['by_layer']['survival'][middle])}"


def method_and_budget(result: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Of a setting, as tables and figures say it: ``fastv`` and ``25.0 %``, or ``32 a view``."""
    facts = result["settings"][name]
    if "retention" in facts:
        return facts["method"], percent(facts["retention"])
    return facts["method"], f"{facts['tokens_per_view']:g} a view"


def _gain(gain: dict[str, Any]) -> str:
    value = f"{100 * gain['value']:+.1f}"
    return value if gain["low"] is None else f"{value} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]"


def write(result: dict[str, Any], folder: Path) -> list[Path]:
    """Both files. SennaPruneError: the folder cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SennaPruneError(f"cannot make {folder} ({error.strerror}): choose another --out") from error
    said = sentence(result)
    lines = ["# Survival of evidence", "", *([f"{said}.", ""] if said else [])]
    for grid in grids(result):
        if grid.rows and len(grid.columns) > 2:
            lines += [*markdown(grid), ""]
    write_atomically(folder / JSON_NAME, json.dumps(result, indent=1, allow_nan=False) + "\n")
    write_atomically(folder / MARKDOWN_NAME, "\n".join(lines))
    return [folder / JSON_NAME, folder / MARKDOWN_NAME]


def read_grids(folder: Path) -> list[Grid]:
    """The tables of a folder's ``survival.json``, for its report; none where there is no such file. Raises as ``read_survival``."""
    return read_survival(folder)[0]


def read_survival(folder: Path) -> tuple[list[Grid], str | None]:
    """The tables of a folder's ``survival.json``, and what it says in a sentence; none where there is no such file.

    Raises:
        SennaPruneError: the file is not one of ours.
    """
    file = folder / JSON_NAME
    if not there(file):
        return [], None
    result = read_result(file)
    try:
        if result["format"] != FORMAT:
            raise KeyError(FORMAT)
        found, said = [grid for grid in grids(result) if grid.rows and len(grid.columns) > 2], sentence(result)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, ArithmeticError) as error:
        raise SennaPruneError(f"{file} is no result of senna-prune survival ({type(error).__name__}: {error}): run it again") from error
    if found and said:
        found[0].notes.insert(0, said)
    return found, said
