"""A sweep's table as grids of text, and those as Markdown; the same cells as CSV and JSON. Reads ``tabulate``'s result."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from senna_autoprune.evaluation.measures.flips import SEVERITIES
from senna_autoprune.evaluation.runs.rows import MAJORITY, NO_IMAGE
from senna_autoprune.files.atomic import write_atomically
from senna_autoprune.files.csv_cells import csv_text
from senna_autoprune.tables.by_type import type_grids
from senna_autoprune.tables.complexity import complexity_grids
from senna_autoprune.tables.grid import UNDEFINED, Grid, interval, markdown, percent

FILES = ("table.csv", "table.json", "table.md")
CSV_COLUMNS = (
    "source", "row", "kind", "budget", "setting", "status", "reason", "marks",
    "accuracy", "accuracy_low", "accuracy_high", "retention", "retention_low", "retention_high",
    "retention_official", "retention_macro_f1", "official_accuracy", "macro_f1", "agreement", "invalid",
    "tokens_per_view", "retention_tokens", "flops_ratio", "prefill_ms", "prefill_ratio", "kv_ratio", "clamped",
    "p_against_random", "p_against_rival", "rival",
    "p_scenes_random", "p_holm_random", "p_scenes_rival", "p_holm_rival",
    "flips", "flips_harmful", *(f"flips_{name}" for name in SEVERITIES),
)  # fmt: skip


def grids(table: Mapping[str, Any]) -> list[Grid]:
    """Retention, cost and flips of all cells; the paper's ablations where ours are there."""
    found = [_retention_grid(table)]
    if table["paper_ablations"]:
        found.append(_ablation_grid(table["paper_ablations"]))
    if table.get("by_type"):
        found += type_grids(table["by_type"])
    if table.get("complexity"):
        found += complexity_grids(table["complexity"])
    if any((cell.get("measures") or {}).get("l2_m") for cell in table["cells"]):
        found.append(_waypoint_grid(table))
    return [*found, _cost_grid(table), _flip_grid(table)]


def _head(column: Mapping[str, Any]) -> str:
    tokens, share = column["tokens_per_view"], column["share"]
    words = [f"{tokens:.4g} a view"] if tokens is not None else []
    return " = ".join([*words, f"{100 * share:.4g} %"] if share is not None else words)


def _by_row(table: Mapping[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    """row -> budget -> cell."""
    rows: dict[str, dict[str, dict[str, Any]]] = {}
    for cell in table["cells"]:
        rows.setdefault(cell["row"], {})[cell["budget"]] = cell
    return rows


def _retention_grid(table: Mapping[str, Any]) -> Grid:
    facts, columns = table["facts"], table["columns"]
    title = f"{_title(facts)} ({facts['questions']} questions, {facts['scenes']['count']} scenes)"
    title += f", {facts['label']}" if facts.get("label") else ""
    grid = Grid(title, ["visual tokens, average of the layers", *map(_head, columns)])
    plain = table["plain"]
    if "unpruned" in plain:
        grid.rows.append(["unpruned", *["100" if plain["unpruned"]["accuracy"]["value"] else UNDEFINED] * len(columns)])
        grid.end_section()
    for name in (NO_IMAGE, MAJORITY):
        if name in plain:
            grid.rows.append([f"{name} (control)", *[interval(plain[name]["retention"], "")] * len(columns)])
    rows, kind = _by_row(table), "control"
    for row, cells in rows.items():
        first = next(iter(cells.values()))
        if first["kind"] != kind:
            grid.end_section()
            kind = first["kind"]
        name = f"{row} (control)" if kind == "control" else row
        texts = []
        for column in columns:
            cell = cells[column["budget"]]
            found = UNDEFINED if cell["status"] != "ok" else interval(cell["retention"], "")
            texts.append(" ".join([found, *cell.get("marks", [])]))
        grid.rows.append([name, *texts])
    paper = table["paper"]
    if paper["rows"]:
        grid.end_section()
        for name, figures in paper["rows"].items():
            grid.rows.append([f"{name} ({paper['label']})", *["" if one is None else f"{one:.2f}" for one in figures]])
    grid.notes = _notes(table)
    return grid


def _title(facts: Mapping[str, Any]) -> str:
    """What is retained; tables made before there were others are about planning."""
    about, kind = facts.get("about", "planning accuracy"), facts.get("type", "plan")
    if about == "planning accuracy":
        return "Retention of planning accuracy, % of unpruned"
    if about == "accuracy":
        return f"Retention of the accuracy of {kind} answers, % of unpruned"
    return f"Agreement with the unpruned model, % of its {kind} answers; no labels"


def _notes(table: Mapping[str, Any]) -> list[str]:
    facts = table["facts"]
    unpruned = table["plain"].get("unpruned")
    notes = []
    if unpruned is not None:
        about = facts.get("about", "planning accuracy")
        if about == "planning accuracy":
            official = percent(unpruned["official_accuracy"])
            notes.append(f"unpruned accuracy {interval(unpruned['accuracy'])} (exact parse), {official} (original metric)")
        elif about == "accuracy":
            notes.append(f"unpruned accuracy {interval(unpruned['accuracy'])}, as the adapter reads the answers")
        else:
            notes.append("no label says what is right, so an answer counts that says what the unpruned model says")
        if unpruned["accuracy"]["value"] == 0:
            notes.append("unpruned accuracy is 0: there is nothing to retain")
    if facts["majority_answer"]:
        notes.append(f"majority: {facts['majority_answer']} for every question")
    notes.append(f"in brackets: 95 % paired score interval with the design effect of {facts['scenes']['count']} scenes")
    if facts["scenes"]["count"] < 2:
        notes.append("one scene: no interval can be given")
    notes += [facts["scenes"][key] for key in ("warning", "note") if key in facts["scenes"]]
    notes.append(
        "R+ / R-: better / worse than random at the same budget, B+ / B-: than the best rival there (the best of these very answers): sign "
        f"flips of whole scenes, Holm over all {facts['tests']} tests, p < {facts['level']}"
    )
    reasons: dict[str, str] = {}
    for cell in table["cells"]:
        if cell["status"] != "ok":
            reasons.setdefault(f"{cell['row']} at {cell['budget']}", cell["reason"])
    notes += [f"{UNDEFINED} {where}: {reason}" for where, reason in reasons.items()]
    if table["paper"]["rows"]:
        notes.append(f'rows marked "{table["paper"]["label"]}" are the paper\'s figures ({table["paper"]["source"]}), not measured here')
    return [*notes, *table["warnings"]]


def _ablation_grid(paper: Mapping[str, Any]) -> Grid:
    grid = Grid(f"Table 4 of the paper ({paper['label']}, {paper['measure']}; not measured here)", ["setting", *paper["columns"]])
    grid.rows = [[f"{row} ({paper['label']})", *(f"{value:.1f}" for value in values)] for row, values in paper["rows"].items()]
    return grid


def _waypoint_grid(table: Mapping[str, Any]) -> Grid:
    """L2 and collisions of every cell at the last horizon, in the first convention that was asked for."""

    def shown(entry: Mapping[str, Any]) -> str:
        found = entry.get("measures") or {}
        texts = []
        for name, digits in (("l2_m", 2), ("collision_rate", 3)):
            for horizons in list(found.get(name, {}).values())[:1]:
                *_, (_, last) = horizons.items()
                texts.append(UNDEFINED if last["value"] is None else f"{last['value']:.{digits}f}")
        return " / ".join(texts) or UNDEFINED

    first = next(cell["measures"] for cell in table["cells"] if (cell.get("measures") or {}).get("l2_m"))
    convention, horizons = next(iter(first["l2_m"].items()))
    grid = Grid(f"L2 in m / collision rate at {[*horizons][-1]} ({convention})", ["method", *map(_head, table["columns"])])
    for name, entry in table["plain"].items():
        grid.rows.append([name, *[shown(entry)] * len(table["columns"])])
    for row, cells in _by_row(table).items():
        grid.rows.append([row, *(shown(cells[column["budget"]]) for column in table["columns"])])
    grid.notes = ["every horizon and both ways of averaging are in table.json and metrics.json"]
    return grid


def _cost_grid(table: Mapping[str, Any]) -> Grid:
    grid = Grid("Cost: FLOPs ratio / prefill time ratio (tokens a view)", ["method", *map(_head, table["columns"])])
    for row, cells in _by_row(table).items():
        texts = []
        for column in table["columns"]:
            cell = cells[column["budget"]]
            texts.append(UNDEFINED if cell["status"] != "ok" else _cost(cell))
        grid.rows.append([row, *texts])
    facts, unpruned = table["facts"], table["plain"].get("unpruned")
    if unpruned is not None and unpruned["prefill_ms"]["median"] is not None:
        grid.notes.append(f"unpruned prefill: {unpruned['prefill_ms']['median']:.1f} ms (median) on {facts['machine']['device']}")
    grid.notes.append("prefill: first forward call of the decoder, pruning inside; medians of ratios to unpruned on the same question")
    if facts["batch_size"] > 1:
        grid.notes.append(f"batches of up to {facts['batch_size']}: times are equal shares of a batch's, padding included")
    return grid


def _cost(cell: Mapping[str, Any]) -> str:
    ratio, flops, tokens = cell["prefill_ratio"]["median"], cell["flops_ratio"], cell["tokens_per_view"]
    texts = [UNDEFINED if value is None else f"{value:.2f}" for value in (flops, ratio)]
    return " / ".join(texts) + (f" ({tokens:.1f})" if tokens is not None else "")


def _flip_grid(table: Mapping[str, Any]) -> Grid:
    """Answers that changed, by severity, a row a cell; severities that never happened are left out."""
    cells = [cell for cell in table["cells"] if cell.get("flips")]
    seen = [name for name in SEVERITIES if any(cell["flips"][name] for cell in cells)]
    grid = Grid("Flips: answers that changed against unpruned, worst first", ["method", "budget", "all", "harmful", *seen])
    if cells:
        grid.title += f" (of {cells[0]['flips']['compared']})"
    row = None
    for cell in cells:
        if row not in (None, cell["row"]):
            grid.end_section()
        row = cell["row"]
        grid.rows.append([row, cell["budget"], *(str(cell["flips"][name]) for name in ("all", "harmful", *seen))])
    grid.notes = [f"{name}: {SEVERITIES[name]}" for name in seen]
    return grid


def to_markdown(table: Mapping[str, Any], figures: Sequence[str] = (), command: str | None = None, more: Sequence[Grid] = ()) -> str:
    """All grids, and ``more`` of them, as one Markdown document. ``figures``: paths of pictures, relative to it."""
    lines: list[str] = []
    if command:
        lines += ["```", command, "```", ""]
    for grid in (*grids(table), *more):
        lines += [*markdown(grid), ""]
    lines += [f"![{Path(figure).stem.replace('_', ' ')}]({figure})\n" for figure in figures]
    return "\n".join(lines).rstrip() + "\n"


def to_csv(table: Mapping[str, Any]) -> str:
    """One line a cell, ours only ("source" says so), all measures unrounded."""
    lines: list[dict[str, Any]] = []
    for name, entry in table["plain"].items():
        kind = "control" if name != "unpruned" else "unpruned"
        lines.append({"row": name, "kind": kind, "setting": name, "status": "ok", **_flat(entry)})
    for cell in table["cells"]:
        shown = {key: cell[key] for key in ("row", "kind", "budget", "setting", "status")}
        lines.append({**shown, **_flat(cell)})
    return csv_text(CSV_COLUMNS, ({"source": "ours", **line} for line in lines))


def _flat(entry: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {key: entry.get(key) for key in CSV_COLUMNS if not isinstance(entry.get(key), (dict, list))}
    for key in ("accuracy", "retention"):
        found = entry.get(key) or {}
        flat.update({key: found.get("value"), f"{key}_low": found.get("low"), f"{key}_high": found.get("high")})
    for key in ("retention_official", "retention_macro_f1"):
        flat[key] = (entry.get(key) or {}).get("value")
    for key in ("prefill_ms", "prefill_ratio"):
        flat[key] = (entry.get(key) or {}).get("median")
    flat["marks"] = " ".join(entry.get("marks", []))
    flat["p_against_random"] = entry.get("against_random", {}).get("p_value")
    flat["p_against_rival"] = entry.get("against_rival", {}).get("p_value")
    for key in ("random", "rival"):
        test = entry.get(f"against_{key}", {}).get("by_scene", {})
        flat.update({f"p_scenes_{key}": test.get("p_value"), f"p_holm_{key}": test.get("p_holm")})
    flat["rival"] = entry.get("against_rival", {}).get("rival")
    flips = entry.get("flips") or {}
    flat.update({"flips": flips.get("all"), "flips_harmful": flips.get("harmful")})
    flat.update({f"flips_{name}": flips.get(name) for name in SEVERITIES})
    return {key: value for key, value in flat.items() if value is not None and key not in _SHOWN}


_SHOWN = ("source", "row", "kind", "budget", "setting", "status")


def write_files(
    directory: Path, table: Mapping[str, Any], figures: Sequence[str] = (), command: str | None = None, more: Sequence[Grid] = ()
) -> list[Path]:
    """table.csv, table.json and table.md (``more``: at its end) in the run directory, each written atomically. SennaPruneError if it
    cannot be.
    """
    texts = (to_csv(table), json.dumps(table, indent=1, allow_nan=False) + "\n", to_markdown(table, figures, command, more))
    for name, text in zip(FILES, texts, strict=True):
        write_atomically(directory / name, text)
    return [directory / name for name in FILES]
