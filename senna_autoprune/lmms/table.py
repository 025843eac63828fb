"""The cells of a benchmark suite as one table in the paper's form: a block of rows a budget, a column a benchmark."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

from senna_autoprune.evaluation.paper import llava15_at, paper
from senna_autoprune.evaluation.runs.rows import NO_IMAGE
from senna_autoprune.files.atomic import write_atomically
from senna_autoprune.files.csv_cells import csv_text
from senna_autoprune.lmms.cells import Outcome, Place
from senna_autoprune.lmms.suites import UNPRUNED, SuiteConfig, columns, rows
from senna_autoprune.tables.grid import UNDEFINED, Grid, markdown, number, percent

SCHEMA = 1
FILES = ("table.csv", "table.json", "table.md")
STATUSES = ("ok", "impossible", "failed", "not run")  # of a cell
CSV_COLUMNS = (
    "source", "row", "kind", "tokens", "task", "column", "status", "reason", "score", "stderr", "relative", "questions",
    "visual_tokens", "visual_tokens_unpruned", "flops_share",
)  # fmt: skip


def tabulate(suite: SuiteConfig, place: Place, outcomes: Sequence[Outcome], version: str | None = None) -> dict[str, Any]:
    """All cells so far as plain data (JSON-ready). Cells without an outcome are "not run".

    Args:
        version: of lmms-eval.
    Returns:
        ``columns``, ``rows`` (each with its ``cells`` by task, ``relative``: mean of its scores over the unpruned ones', and mean
        ``visual_tokens`` and ``flops_share``, all three only where every task has a score), ``paper``, ``facts``.
    """
    found = {(outcome.cell.row.name, outcome.cell.task.name): outcome for outcome in outcomes}
    full = {task.name: _score(found.get((UNPRUNED, task.name))) for task in suite.tasks}
    entries: list[dict[str, Any]] = []
    for row in rows(suite):
        cells = {task.name: _cell(found.get((row.name, task.name)), full[task.name]) for task in suite.tasks}
        entries.append({"row": row.label, "kind": row.kind, "tokens": row.tokens, **_means(list(cells.values())), "cells": cells})
    every = [cell for entry in entries for cell in entry["cells"].values()]
    return {
        "schema": SCHEMA,
        "title": suite.title,
        "visual_tokens": suite.visual_tokens,
        "tokens": list(dict.fromkeys(suite.tokens)),
        "columns": columns(suite.tasks),
        "rows": entries,
        "paper": _paper(suite),
        "facts": {
            "model": place.model,
            "limit": place.limit,
            "dtype": place.dtype,
            "lmms_eval": version,
            "missing": sorted({metric for cell in every for metric in cell.get("missing", ())}),
            "cells": {status: sum(cell["status"] == status for cell in every) for status in STATUSES},
        },
    }


def _score(outcome: Outcome | None) -> float | None:
    return outcome.result.score if outcome is not None and outcome.result is not None else None


def _cell(outcome: Outcome | None, unpruned: float | None) -> dict[str, Any]:
    if outcome is None:
        return {"status": "not run"}
    if outcome.result is None:
        return {"status": "impossible" if outcome.impossible else "failed", "reason": outcome.reason}
    relative = outcome.result.score / unpruned if unpruned else None
    return {"status": "ok", "relative": relative, **asdict(outcome.result), "missing": list(outcome.result.missing)}


def _means(cells: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    names = ("relative", "visual_tokens", "flops_share")
    values = {name: [cell[name] for cell in cells if cell.get(name) is not None] for name in names}
    return {name: fmean(found) if len(found) == len(cells) else None for name, found in values.items()}


def _paper(suite: SuiteConfig) -> dict[str, Any] | None:
    """AutoPrune's published figures at the suite's budgets, by column."""
    if suite.paper is None:
        return None
    return {
        "source": paper()["source"],
        "label": f"{paper()['table4']['label']}, Table 4",
        "rows": {str(tokens): figures for tokens in suite.tokens if (figures := llava15_at(tokens))},
    }


# --- as text --------------------------------------------------------------------------------------------------------------------------


def grid(table: Mapping[str, Any]) -> Grid:
    """The table as text cells."""
    names = [column["name"] for column in table["columns"]]
    found = Grid(
        f"{table['title']}: {Path(table['facts']['model']).name}",
        ["budget", "method", *(column["column"] for column in table["columns"]), "% of\nunpruned", "visual\ntokens", "FLOPs"],
        texts=(0, 1),
    )
    for budget in [None, *table["tokens"]]:
        block = [entry for entry in table["rows"] if entry["tokens"] == budget]
        for place, entry in enumerate(block):
            head = "" if place else "all tokens" if budget is None else f"{budget} ({100 * budget / table['visual_tokens']:.1f} %)"
            label = f"{entry['row']} (control)" if entry["kind"] == "control" else entry["row"]
            cost = [percent(entry["relative"], ""), number(entry["visual_tokens"], 1), percent(entry["flops_share"])]
            found.rows.append([head, label, *(_text(entry["cells"][name]) for name in names), *cost])
        found.rows += _paper_rows(table, budget)
        found.end_section()
    found.notes = _notes(table)
    return found


def _text(cell: Mapping[str, Any]) -> str:
    return f"{cell['score']:.1f}" if cell["status"] == "ok" else "" if cell["status"] == "not run" else UNDEFINED


def _paper_rows(table: Mapping[str, Any], budget: int | None) -> list[list[str]]:
    """The paper's row of a block, if it has figures for one of the columns."""
    figures = (table["paper"] or {}).get("rows", {}).get(str(budget), {})
    texts = [f"{figures[column['column']]:.1f}" if column["column"] in figures else "" for column in table["columns"]]
    return [["", f"autoprune ({table['paper']['label']})", *texts, "", "", ""]] if any(texts) else []


def _notes(table: Mapping[str, Any]) -> list[str]:
    facts = table["facts"]
    sums = [f"{c['column']} = {' + '.join(c['metrics'])} of {c['name']}" for c in table["columns"]]
    notes = [
        f"measured by lmms-eval {facts['lmms_eval'] or '(version unknown)'}: {'; '.join(sums)}",
        "% of unpruned: mean over the benchmarks of score / unpruned score; visual tokens (average of the layers) and FLOPs (share of the "
        "full prefill) are means of what these runs' traces counted",
        f"{NO_IMAGE}: every image replaced by one even colour, so only the question's words can help; a majority-answer control is not "
        "possible here, because lmms-eval shows a model no labels",
        "prompts follow the checkpoint's chat template and lmms-eval's tasks; published figures may rest on other prompts",
    ]
    if facts["limit"] is not None:
        notes.append(f"only the first {facts['limit']} questions of each benchmark were asked: not a measurement, a trial")
    if facts["missing"]:
        notes.append(f"without any question at this limit, and left out of the sums: {', '.join(facts['missing'])}")
    if table["paper"] is not None:
        notes.append(f'rows marked "{table["paper"]["label"]}" are the paper\'s figures ({table["paper"]["source"]}), not measured here')
    notes.append("the paper's Tables 1 and 2 themselves are not among this package's sources, so none of their figures stands here")
    for status in ("impossible", "failed"):
        reasons: dict[str, list[str]] = {}
        for entry in table["rows"]:
            for name, cell in entry["cells"].items():
                if cell["status"] == status:
                    where = entry["row"] if entry["tokens"] is None else f"{entry['row']} at {entry['tokens']}"
                    reasons.setdefault(cell["reason"], []).append(where if status == "impossible" else f"{where} on {name}")
        notes += [f"{UNDEFINED}, {status}: {', '.join(dict.fromkeys(where))}: {reason}" for reason, where in reasons.items()]
    if facts["cells"]["not run"]:
        notes.append(f"{facts['cells']['not run']} cells are not run yet; the same command goes on with them")
    return notes


def to_csv(table: Mapping[str, Any]) -> str:
    """One line a cell, ours only ("source" says so), all figures unrounded."""
    heads = {column["name"]: column["column"] for column in table["columns"]}
    lines = []
    for entry in table["rows"]:
        for task, cell in entry["cells"].items():
            shown = {"source": "ours", "row": entry["row"], "kind": entry["kind"], "tokens": entry["tokens"], "task": task}
            cells = {**shown, "column": heads[task], **cell}
            lines.append({name: value for name, value in cells.items() if name in CSV_COLUMNS})
    return csv_text(CSV_COLUMNS, lines)


def write_files(out: Path, table: Mapping[str, Any], command: str | None = None) -> list[Path]:
    """table.csv, table.json and table.md, each written atomically. SennaPruneError if it cannot be."""
    head = ["```", command, "```", ""] if command else []
    texts = (to_csv(table), json.dumps(table, indent=1, allow_nan=False) + "\n", "\n".join([*head, *markdown(grid(table))]) + "\n")
    for name, text in zip(FILES, texts, strict=True):
        write_atomically(out / name, text)
    return [out / name for name in FILES]


def outcome_line(outcome: Outcome, place: int, total: int, seconds: float | None) -> str:
    """One cell as it ends: ``[3/38] autoprune@64, GQA: 57.7 (64.0 visual tokens, 12.3 % of the FLOPs), 81 s``."""
    head = f"[{place}/{total}] {outcome.cell.row.name}, {outcome.cell.task.column}: "
    if outcome.result is None:
        return head + ("not possible: " if outcome.impossible else f"failed, see {outcome.cell.log}: ") + (outcome.reason or "")
    result = outcome.result
    cost = f" ({number(result.visual_tokens, 1)} visual tokens, {percent(result.flops_share)} of the FLOPs)"
    return f"{head}{result.score:.1f}{cost}" + (", found" if seconds is None else f", {seconds:.0f} s")
