"""A sweep by constructed complexity: retention by band, the adaptive method against the static ones, MI's rank correlation, the oracle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from senna_autoprune.evaluation.config import ALL_TYPES
from senna_autoprune.evaluation.measures.adapted import Reading
from senna_autoprune.evaluation.measures.clusters import clusters_of
from senna_autoprune.evaluation.measures.complexity import (
    CLOSED,
    LEAST,
    bands_of,
    complexity_of,
    interaction,
    oracle,
    retention_by_band,
    spearman,
)
from senna_autoprune.evaluation.measures.retention import accuracy_retention
from senna_autoprune.evaluation.measures.rightness import labelled, right
from senna_autoprune.evaluation.runs.rows import UNPRUNED, AnswerRow, QuestionRow
from senna_autoprune.evaluation.sweep.cells import Cell, texts_of
from senna_autoprune.evaluation.sweep.config import budget_name

ADAPTIVE, INFORMATION = "autoprune", "mutual_information"
CLAIMED = (ADAPTIVE, f"{ADAPTIVE}:gamma=calibrated")  # rows of which the claim is tested
OTHERS = tuple(kind for kind in ALL_TYPES if kind not in CLOSED)
ORACLE_LEAST = 3  # variants at one budget that an oracle chooses among


def by_complexity(
    cells: Sequence[Cell],
    questions: Sequence[QuestionRow],
    rows: Sequence[AnswerRow],
    resamples: int = 2000,
    seed: int = 0,
    reading: Reading | None = None,
) -> dict[str, Any] | None:
    """Everything of the sweep that needs constructed complexity; None where too few questions have one.

    Only closed questions (plans, road users, lights, choices, ...) with a label that every setting answered count.

    Args:
        reading: of the run's adapter; None: as Senna's answers are read.
    Returns:
        ``questions`` by type and band; ``cells``: row, budget, ``bands`` (retention); ``interactions``: adaptive row, static row, budget,
        interval; ``mutual_information``: Spearman with complexity by type and pooled; ``indicators``: so of others, by name; ``oracle``:
        by budget, its retention and the best single variant's.
    """
    texts = texts_of(rows)
    known = [q for q in questions if complexity_of(q.attributes) is not None and labelled(q, reading)]
    asked = [q for q in known if all(q.question in found for found in texts.values())]
    if len(asked) < LEAST or UNPRUNED not in texts:
        return None
    values = [float(complexity_of(q.attributes) or 0.0) for q in asked]
    scenes, bands = clusters_of(asked), bands_of(values)
    hits = {name: [right(q, found[q.question], reading) for q in asked] for name, found in texts.items()}
    kinds = {kind: count for kind in (*CLOSED, *OTHERS) if (count := sum(q.type == kind for q in asked)) or kind in CLOSED}
    there = [cell for cell in cells if cell.setting.name in hits]
    before = hits[UNPRUNED]
    entries = [{**cell.named(), "bands": retention_by_band(before, hits[cell.setting.name], bands, scenes)} for cell in there]
    information = _information(there, rows, asked, values, scenes, seed)
    return {
        "questions": {band: sum(one == band for one in bands) for band in dict.fromkeys(bands)},
        "types": kinds,
        "cells": entries,
        "interactions": _interactions(there, hits, bands, scenes, resamples, seed),
        "mutual_information": information.pop(INFORMATION, {}),
        "indicators": information,
        "oracle": _oracle(there, hits, scenes),
    }


def adapts(cell: Cell) -> bool:
    """Whether the cell's allocation depends on the question."""
    return cell.row.method == ADAPTIVE and cell.row.options.get("indicator") != "static"


def _interactions(
    cells: Sequence[Cell], hits: dict[str, list[bool]], bands: list[str], scenes: list[str], resamples: int, seed: int
) -> list[dict[str, Any]]:
    found = []
    for cell in (one for one in cells if one.row.label in CLAIMED):
        for other in cells:
            if other.budget == cell.budget and not adapts(other):
                both = (hits[cell.setting.name], hits[other.setting.name])
                value = interaction(hits[UNPRUNED], *both, bands, scenes, resamples, seed)
                found.append({"adaptive": cell.row.label, "static": other.row.label, **_budget(cell), **value.to_dict()})
    return found


def _budget(cell: Cell) -> dict[str, str]:
    return {"budget": budget_name(cell.budget)}


def _information(
    cells: Sequence[Cell],
    rows: Sequence[AnswerRow],
    asked: Sequence[QuestionRow],
    values: Sequence[float],
    scenes: Sequence[str],
    seed: int,
) -> dict[str, dict[str, Any]]:
    """Each complexity indicator that some cell measured, against constructed complexity, by type of question.

    Of the first cell of each indicator: it is measured before anything is cut, so budget and curve do not matter.
    """
    firsts: dict[str, tuple[str, float]] = {}  # indicator -> setting, and by what it was scaled there
    for cell in cells:
        policy: Any = cell.setting.policy(0) if adapts(cell) else None
        if policy is not None and not policy.released:  # whose measure is another
            firsts.setdefault(policy.indicator, (cell.setting.name, policy.indicator_scale or 1.0))
    named = {setting: (indicator, scale) for indicator, (setting, scale) in firsts.items()}
    measured: dict[str, dict[int, float]] = {indicator: {} for indicator in firsts}
    for row in rows:
        if row.setting in named and row.trace is not None and (value := row.trace.get(INFORMATION)) is not None:
            indicator, scale = named[row.setting]
            measured[indicator][row.question] = value / scale  # a mean below 0 is scaled by a factor below 0
    found: dict[str, dict[str, Any]] = {indicator: {} for indicator in firsts}
    for indicator, known in measured.items():
        for kind in ("all", *dict.fromkeys(q.type for q in asked)):
            at = [i for i, q in enumerate(asked) if q.question in known and kind in ("all", q.type)]
            if at:
                ranked = ([known[asked[i].question] for i in at], [values[i] for i in at], [scenes[i] for i in at])
                found[indicator][kind] = spearman(*ranked, seed=seed)
    return found


def _oracle(cells: Sequence[Cell], hits: dict[str, list[bool]], scenes: list[str]) -> list[dict[str, Any]]:
    budgets = dict.fromkeys(cell.budget for cell in cells)
    found = []
    for budget in budgets:
        mine = {c.setting.name: hits[c.setting.name] for c in cells if c.budget == budget and c.row.method == ADAPTIVE}
        if len(mine) >= ORACLE_LEAST:
            best = max(mine, key=lambda name: sum(mine[name]))
            found.append(
                {
                    "budget": budget_name(budget),
                    "variants": len(mine),
                    "oracle": accuracy_retention(hits[UNPRUNED], oracle(mine), scenes).to_dict(),
                    "best": {"setting": best, **accuracy_retention(hits[UNPRUNED], mine[best], scenes).to_dict()},
                }
            )
    return found
