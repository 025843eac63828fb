"""The cells of a sweep, measured: one plain-data table from which every output is written. Computes, writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from senna_autoprune.evaluation.measures.adapted import Reading, right_or_same
from senna_autoprune.evaluation.measures.clusters import clusters_of
from senna_autoprune.evaluation.measures.cost import CLAMP_WARNING
from senna_autoprune.evaluation.measures.intervals import Paired
from senna_autoprune.evaluation.measures.paired_tests import holm, non_inferiority, scene_test
from senna_autoprune.evaluation.measures.parsing import parse_plan
from senna_autoprune.evaluation.measures.retention import mcnemar
from senna_autoprune.evaluation.paper import paper, table3_at
from senna_autoprune.evaluation.runs.rows import MAJORITY, NO_IMAGE, UNPRUNED, AnswerRow, QuestionRow
from senna_autoprune.evaluation.sweep.config import budget_name
from senna_autoprune.evaluation.sweep.verdict import sweep_verdict

if TYPE_CHECKING:
    from senna_autoprune.evaluation.sweep.cells import Cell

SCHEMA = 1
LEVEL = 0.05  # of the tests by scene, corrected by Holm over the table, for the marks
PLAIN = (UNPRUNED, NO_IMAGE, MAJORITY)  # rows that no budget touches

Hits = dict[str, list[bool]]  # setting -> right or wrong, question by question


def tabulate(
    cells: Sequence[Cell],
    budgets: Sequence[tuple[str, float]],
    questions: Sequence[QuestionRow],
    rows: Sequence[AnswerRow],
    metrics: Mapping[str, Any],
    impossible: Mapping[str, str],
    subject: str = "plan",
    reading: Reading | None = None,
) -> dict[str, Any]:
    """The sweep as plain data (JSON-ready).

    Args:
        rows: answers of all settings but the impossible ones; metrics: ``summarise`` of them.
        impossible: setting -> why it cannot be.
        subject: the question type that the table is about; reading: of the run's adapter.
    Returns:
        ``verdict``, ``columns`` (budgets), ``plain`` (unpruned, no-image, majority), ``cells`` (row by row), ``paper``, ``facts``.
    """
    about = about_of(metrics, subject)
    planning = about == PLANNING or reading is None
    hits, scenes = right_answers(questions, rows) if planning else _right(questions, rows, subject, reading)  # type: ignore[arg-type]
    label = {cell.setting.name: cell.row.label for cell in cells}
    full = metrics["settings"].get(UNPRUNED, {}).get("cost", {}).get("tokens_per_view")
    columns = [_column(budget, full) for budget in budgets]
    there = {name for name in metrics["settings"] if _entry(metrics, name, subject, about) is not None}
    plain = {name: measured(metrics, name, subject, about) for name in PLAIN if name in there}
    entries = []
    for cell in cells:
        name, budget = cell.setting.name, budget_name(cell.budget)
        entry: dict[str, Any] = {"row": cell.row.label, "kind": cell.row.kind, "budget": budget, "setting": name}
        if name not in there:
            reason = impossible.get(name, f"no {'planning ' if subject == 'plan' else ''}question was answered by every setting")
            entries.append({**entry, "status": "n/a", "reason": reason})
            continue
        peers = [one for one in cells if one.budget == cell.budget and one.setting.name in hits]
        entry.update(status="ok", **measured(metrics, name, subject, about))
        if UNPRUNED in hits:
            entry["lower"] = _bound(Paired.of(hits[UNPRUNED], hits[name], scenes))
        random = next((one.setting.name for one in peers if one.row.kind == "control" and one.row.label == "random"), None)
        if random is not None and random != name:
            entry["against_random"] = _against(hits[random], hits[name], scenes)
        rival = best_rival(name, [one.setting.name for one in peers if one.row.kind != "control"], hits)
        if rival is not None and cell.row.kind != "control":
            entry["against_rival"] = {"rival": label[rival], **_against(hits[rival], hits[name], scenes)}
        entries.append(entry)
    _correct(entries)
    count = next((found["count"] for name in there if (found := _entry(metrics, name, subject, about)) is not None), 0)
    shares = [column["share"] for column in columns] if about == PLANNING and all(column["share"] for column in columns) else []
    said = sweep_verdict(entries, metrics["scenes"]["count"])
    return {
        "schema": SCHEMA,
        **({"verdict": said} if said is not None else {}),
        "columns": columns,
        "plain": plain,
        "cells": entries,
        "paper": {"source": paper()["source"], **{key: paper()["table3"][key] for key in ("label", "measure")}}
        | {"rows": table3_at(shares)},
        "paper_ablations": _paper_ablations(cells),
        "facts": {
            "questions": count,
            "about": about,
            "type": subject,
            "scenes": metrics["scenes"],
            "failed_rows": metrics["questions"]["failed_rows"],
            "failed": metrics["questions"]["failed"][:20],
            "majority_answer": metrics["settings"].get(MAJORITY, {}).get("answer"),
            "bootstrap": metrics["bootstrap"],
            "tests": sum(name in entry for entry in entries for name in ("against_random", "against_rival")),
            "level": LEVEL,
            "batch_size": metrics["run"]["config"].get("batch_size", 1),
            "machine": metrics["run"]["machine"],
        },
        "warnings": _warnings(entries, columns),
    }


def _bound(pairs: Paired) -> float | None:
    """One-sided 95 % bound of accuracy after - before; None without two scenes."""
    if pairs.questions == 0 or pairs.scenes < 2:
        return None
    return non_inferiority(pairs, 0.5).lower  # the bound does not depend on the margin


def _against(before: Sequence[bool], after: Sequence[bool], scenes: Sequence[str]) -> dict[str, Any]:
    """McNemar's figures, and the test by scene."""
    return {**mcnemar(before, after).to_dict(), "by_scene": scene_test(Paired.of(before, after, scenes)).to_dict()}


def _correct(entries: Sequence[dict[str, Any]]) -> None:
    """Holm over all tests of the table, then the marks."""
    tests = {
        f"{place}/{key}": entry[key]["by_scene"]
        for place, entry in enumerate(entries)
        for key in ("against_random", "against_rival")
        if key in entry
    }
    for name, p_value in holm({name: test["p_value"] for name, test in tests.items()}).items():
        tests[name]["p_holm"] = p_value
    for entry in entries:
        if entry.get("status") == "ok":
            entry["marks"] = marks(entry)


PLANNING, ACCURACY, AGREEMENT = "planning accuracy", "accuracy", "agreement with unpruned"


def about_of(metrics: Mapping[str, Any], subject: str) -> str:
    """What the table retains: planning accuracy; the accuracy of answers of another type; or, where no label says what is right,
    the unpruned model's own answers.
    """
    entries = list(metrics["settings"].values())
    if subject == "plan" and any("plan" in entry for entry in entries):
        return PLANNING
    found = [entry["measures"][subject] for entry in entries if subject in entry.get("measures", {})]
    if subject == "plan" and not found:
        return PLANNING
    return ACCURACY if any("accuracy" in entry for entry in found) else AGREEMENT


def _entry(metrics: Mapping[str, Any], name: str, subject: str, about: str) -> dict[str, Any] | None:
    """The measures of one setting that the table reads."""
    entry = metrics["settings"].get(name, {})
    found: dict[str, Any] | None = entry.get("plan") if about == PLANNING else entry.get("measures", {}).get(subject)
    return found


def _right(questions: Sequence[QuestionRow], rows: Sequence[AnswerRow], subject: str, reading: Reading) -> tuple[Hits, list[str]]:
    """``right_answers`` of another question type, as its adapter reads it; without labels: the same as unpruned."""
    texts: dict[str, dict[int, str]] = {}
    for row in rows:
        texts.setdefault(row.setting, {})
        if row.words is not None:
            texts[row.setting][row.question] = row.words
    hits, asked = right_or_same([q for q in questions if q.type == subject], texts, reading)
    return hits, clusters_of(asked)


def right_answers(questions: Sequence[QuestionRow], rows: Sequence[AnswerRow]) -> tuple[Hits, list[str]]:
    """For every setting, which planning questions it got exactly right, and the questions' clusters; only questions that all
    settings answered.
    """
    texts: dict[str, dict[int, str]] = {}
    for row in rows:
        texts.setdefault(row.setting, {})
        if row.answer is not None:
            texts[row.setting][row.question] = row.answer
    plans = [q for q in questions if q.type == "plan" and parse_plan(q.label).valid]
    common = [q for q in plans if all(q.question in found for found in texts.values())]
    labels = [parse_plan(q.label) for q in common]
    hits = {
        name: [parse_plan(found[q.question]) == label for q, label in zip(common, labels, strict=True)] for name, found in texts.items()
    }
    return hits, clusters_of(common)


def best_rival(name: str, peers: Sequence[str], hits: Hits) -> str | None:
    """The most often right of the other methods at the same budget; of equals the first."""
    others = [peer for peer in dict.fromkeys(peers) if peer != name]
    return max(others, key=lambda peer: sum(hits[peer])) if others else None


def marks(entry: Mapping[str, Any]) -> list[str]:
    """``R+``: separated from random and better; ``R-``: worse; ``B+``/``B-``: likewise from the best rival."""
    found = []
    for letter, key in (("R", "against_random"), ("B", "against_rival")):
        test = entry.get(key)
        if test is not None and test["by_scene"]["p_holm"] < LEVEL:
            found.append(letter + ("+" if test["gained"] > test["lost"] else "-"))
    return found


def measured(metrics: Mapping[str, Any], name: str, subject: str = "plan", about: str = PLANNING) -> dict[str, Any]:
    """What the table says of one setting of ``metrics``: accuracy, retention, cost, flips."""
    entry = metrics["settings"][name]
    cost, flips = entry.get("cost"), metrics["flips"].get(name)
    found = _planned(entry["plan"]) if about == PLANNING else _adapted(entry["measures"][subject], about)
    if cost is not None:
        found.update(
            tokens_per_view=cost["tokens_per_view"],
            retention_tokens=cost["retention_tokens"],
            flops_ratio=cost["flops_ratio"],
            prefill_ms=cost["prefill_ms"],
            prefill_ratio=cost["prefill_ratio"],
            kv_ratio=cost["kv_ratio"]["median"],
            kept_per_view=cost.get("kept_per_view"),
            clamped=cost.get("clamped"),
            notes=cost.get("notes", {}),
        )
    if flips is not None:
        counts = {severity: one["count"] for severity, one in flips["by_severity"].items()}
        found["flips"] = {"compared": flips["compared"], "all": flips["flips"], "harmful": flips["harmful"], **counts}
    return found


def _adapted(entry: Mapping[str, Any], about: str) -> dict[str, Any]:
    """Accuracy and retention of one setting's answers as the adapter reads them; its own measures beside them."""
    measures, agreement = entry.get("measures", {}), entry.get("agreement", {})
    labelled = about == ACCURACY
    return {
        "accuracy": entry["accuracy"] if labelled else agreement.get("interval"),
        "official_accuracy": None,
        "macro_f1": measures.get("macro_f1"),
        "invalid": measures.get("unreadable", measures.get("invalid")),
        "agreement": agreement.get("agreement"),
        "retention": entry.get("retention", {}).get("accuracy") if labelled else agreement.get("interval"),
        "retention_official": None,
        "retention_macro_f1": None,
        "measures": measures,
    }


def _planned(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Accuracy and retention of one setting's plans."""
    return {
        "accuracy": plan["exact_accuracy_interval"],
        "official_accuracy": plan["official"]["accuracy"],
        "macro_f1": plan["macro_f1"],
        "invalid": plan["invalid"],
        "agreement": plan.get("agreement"),
        "retention": plan.get("retention", {}).get("exact_accuracy"),
        "retention_official": plan.get("retention", {}).get("official_accuracy"),
        "retention_macro_f1": plan.get("retention", {}).get("macro_f1"),
    }


def _column(budget: tuple[str, float], full: float | None) -> dict[str, Any]:
    """A budget as a share and as tokens of a view, where the number of tokens a view has is known."""
    name, value = budget
    if name == "retention":
        tokens = value * full if full else None
        return {"budget": budget_name(budget), "share": value, "tokens_per_view": tokens}
    return {"budget": budget_name(budget), "share": value / full if full else None, "tokens_per_view": value}


def _paper_ablations(cells: Sequence[Cell]) -> dict[str, Any]:
    """The parts of the paper's Table 4 that belong to the sweep's ablations; empty without any."""
    labels = {cell.row.label for cell in cells if cell.row.kind == "ablation"}
    table = paper()["table4"]
    rows = {
        f"{option}={value}": figures
        for part, option in (("indicators", "indicator"), ("curves", "curve"))
        for value, figures in table[part].items()
        if f"{option}={value}" in labels
    }
    return {"label": table["label"], "measure": table["measure"], "columns": table["columns"], "rows": rows} if rows else {}


def _overspent(entry: Mapping[str, Any], columns: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a cell used more tokens than its column allows: by over 2 % and over half a token a layer."""
    target = next(column["tokens_per_view"] for column in columns if column["budget"] == entry["budget"])
    spent, views = entry.get("tokens_per_view"), len(entry.get("kept_per_view") or ()) or 1
    return target is not None and spent is not None and spent - target > max(0.02 * target, 0.5 / views)


def _warnings(entries: Sequence[Mapping[str, Any]], columns: Sequence[Mapping[str, Any]]) -> list[str]:
    """What must be said beside the table."""
    clamped = [f"{e['row']} at {e['budget']}" for e in entries if (e.get("clamped") or 0) > CLAMP_WARNING]
    found = []
    if clamped:
        found.append(
            f"k is clamped at 0 for more than {CLAMP_WARNING:.0%} of the questions, so nothing adapts to them ({', '.join(clamped)}): "
            "this model's mutual information needs another gamma, see the row autoprune:gamma=calibrated"
        )
    over = [f"{e['row']} at {e['budget']} ({e['tokens_per_view']:.1f} a view)" for e in entries if _overspent(e, columns)]
    if over:
        found.append(f"used more visual tokens than the column's budget, so not on a level with the others: {', '.join(over)}")
    noted: dict[str, list[str]] = {}
    for entry in entries:
        for note in entry.get("notes") or {}:
            noted.setdefault(note, []).append(entry["row"])
    found += [f"{', '.join(dict.fromkeys(rows))}: {note}" for note, rows in noted.items()]
    return found
