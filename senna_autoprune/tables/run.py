"""A run's measures as grids and sentences. Reads ``metrics`` as ``evaluation.summary`` makes them; measures nothing."""

from __future__ import annotations

from typing import Any

from senna_autoprune.evaluation.measures.breakdown import UNKNOWN
from senna_autoprune.evaluation.measures.cost import CLAMP_WARNING
from senna_autoprune.evaluation.runs.rows import MAJORITY, NO_IMAGE, PRUNING_CONTROLS, RANDOM_ANSWER, UNPRUNED
from senna_autoprune.tables.grid import NOT_MEASURED, UNDEFINED, Grid, interval, number, percent
from senna_autoprune.tables.weighted import weighted_grids

Metrics = dict[str, Any]


def grids(metrics: Metrics) -> list[Grid]:
    """Everything that a run measured, in the order of reading."""
    found = [plan_grid(metrics), recall_grid(metrics), *other_grids(metrics), cost_grid(metrics)]
    found += weighted_grids(metrics, ordered(metrics))
    return [grid for grid in (*found, flip_grid(metrics), breakdown_grid(metrics)) if grid is not None]


def ordered(metrics: Metrics) -> list[str]:
    """Settings in the order of the tables: unpruned, the method, its controls."""
    first = [UNPRUNED, metrics["method"], *PRUNING_CONTROLS, NO_IMAGE, MAJORITY, RANDOM_ANSWER]
    names = metrics["settings"]
    return [name for name in dict.fromkeys([*first, *names]) if name in names]


def plan_grid(metrics: Metrics) -> Grid | None:
    """Planning accuracy of every setting and control; None without planning questions."""
    entries = {name: entry for name in ordered(metrics) if "plan" in (entry := metrics["settings"][name])}
    if not entries:
        return None
    count = next(iter(entries.values()))["plan"]["count"]
    grid = Grid(
        f"Planning: {count} questions, {metrics['scenes']['count']} scenes",
        [
            "setting",
            "accuracy,\noriginal\nmetric",
            "accuracy,\nexact\nparse",
            "invalid",
            "macro-F1,\n9 meta-\nactions",
            "agrees\nwith\nunpruned",
            "retention of accuracy\n(95 % interval)",
            "p against\nunpruned,\nby scene",
            "tokens\nper view\nand layer",
            "FLOPs\nratio",
            "prefill\ntime\nratio",
        ],
        notes=_plan_notes(metrics),
    )
    for name, entry in entries.items():
        if name == metrics["method"]:
            grid.strong.append(len(grid.rows))
        grid.rows.append(_plan_row(name, entry))
    return grid


def _plan_row(name: str, entry: Metrics) -> list[str]:
    plan, cost, first = entry["plan"], entry.get("cost"), name == UNPRUNED
    against = _against_unpruned(plan)
    row = [
        name,
        percent(plan["official"]["accuracy"]),
        percent(plan["exact_accuracy"]),
        str(plan["invalid"]),
        number(plan["macro_f1"]),
        "" if first else percent(plan.get("agreement")),
        "" if first else interval(plan.get("retention", {}).get("exact_accuracy")),
        p_value(against["p_holm" if "p_holm" in against else "p_value"]) if against else "",
    ]
    if cost is None:  # an answer without a model costs nothing
        return [*row, "", "", ""]
    ratio = "" if first else number(cost["prefill_ratio"]["median"], 2)
    return [*row, number(cost["tokens_per_view"], 1), number(cost["flops_ratio"]), ratio]


def _against_unpruned(plan: Metrics) -> Metrics | None:
    """The test by scene; of runs made before there was one, McNemar's."""
    tests: Metrics = plan["scene_test_against" if "scene_test_against" in plan else "mcnemar_against"]
    return tests.get(UNPRUNED)


def p_value(value: float) -> str:
    """Three decimals; a smaller p is not 0."""
    return "< 0.001" if value < 0.001 else number(value)


def _plan_notes(metrics: Metrics) -> list[str]:
    notes = []
    unpruned = metrics["settings"].get(UNPRUNED, {}).get("plan")
    if unpruned is not None and unpruned["exact_accuracy"] == 0:
        notes.append("retention: n/a (unpruned accuracy is 0: there is nothing to retain)")
    error = unpruned["official"].get("error") if unpruned is not None else None
    if error:
        notes.append(f"original metric: n/a, it stops with {error}")
    kept = metrics["settings"].get(metrics["method"], {}).get("plan", {}).get("retention", {})
    for name, words in (("official_accuracy", "accuracy by the original metric"), ("macro_f1", "macro-F1")):
        if kept.get(name, {}).get("value") is not None:
            notes.append(f"{metrics['method']}: retention of {words} {interval(kept[name])}")
    majority = metrics["settings"].get(MAJORITY)
    if majority is not None:
        notes.append(f"majority: {majority['answer']} for every question")
    found = (metrics["settings"].get(UNPRUNED, {}).get("plan") or {}).get("exact_accuracy_interval") or {}
    boot, scenes = metrics["bootstrap"], metrics["scenes"]["count"]
    resampled = f"bootstrap over {scenes} scenes, {boot['resamples']} resamples, seed {boot['seed']}"
    if found.get("kind") == "score":
        notes.append(
            f"intervals: paired score intervals with the design effect of {scenes} scenes (macro-F1: {resampled}). "
            "p: sign flips of whole scenes, Holm over the table"
        )
        extra = metrics["settings"].get(metrics["method"], {}).get("plan", {}).get("mcnemar_against", {}).get(UNPRUNED)
        if extra is not None:
            notes.append(
                f"{metrics['method']} against unpruned, questions as if independent (an extra): lost {extra['lost']}, gained "
                f"{extra['gained']}, McNemar's exact p {p_value(extra['p_value'])}"
            )
    else:
        notes.append(f"intervals: {resampled}. p: McNemar's exact test, questions as if independent")
    notes.append("prefill time: first forward call with the vision features given, pruning inside, median of paired ratios.")
    return notes


def recall_grid(metrics: Metrics) -> Grid | None:
    """Labels of each meta-action, and its recall in every setting of a model."""
    names = [name for name in ordered(metrics) if {"cost", "plan"} <= metrics["settings"][name].keys()]
    if not names:
        return None
    grid = Grid("Recall of each meta-action", ["meta-action", "labels", *names])
    for axis in ("speed", "path"):
        entries = [metrics["settings"][name]["plan"][axis] for name in names]
        confusion = entries[0]["confusion"]
        for label, row in zip(confusion["rows"], confusion["counts"], strict=True):
            recalls = [percent(entry["recall"][label]) if sum(row) else "" for entry in entries]
            grid.rows.append([label, str(sum(row)), *recalls])
        grid.end_section()
    return grid


_OTHER: dict[str, tuple[str, dict[str, str]]] = {
    "vru": (
        "Vulnerable road users",
        {"count": "questions", "accuracy": "accuracy", "precision": "precision", "recall": "recall", "invalid": "invalid"},
    ),
    "motion": (
        "Motion of objects",
        {"questions": "questions", "count": "objects", "exact_accuracy": "accuracy", "macro_f1": "macro-F1", "invalid": "invalid"},
    ),
    "light": ("Traffic lights", {"count": "questions", "accuracy": "accuracy", "macro_f1": "macro-F1", "invalid": "invalid"}),
}
_TEXT = {"count": "questions", "rouge_l": "ROUGE-L", "bleu": "BLEU"}


def other_grids(metrics: Metrics) -> list[Grid]:
    """One for each question type besides planning."""
    found = []
    for kind in metrics["questions"]["by_type"]:
        if not any(kind in metrics["settings"][name] for name in ordered(metrics)):
            found.append(measured_grid(metrics, kind))
            continue
        if kind == "plan":
            continue
        title, columns = _OTHER.get(kind, (f"{kind.capitalize()} (text against its label)", _TEXT))
        grid = Grid(title, ["setting", *columns.values()])
        for name in ordered(metrics):
            entry = metrics["settings"][name].get(kind)
            if entry is not None:
                grid.rows.append([name, *(_cell(entry[key], key) for key in columns)])
        found.append(grid)
    return found


def measured_grid(metrics: Metrics, kind: str) -> Grid:
    """What the run's adapter measures of one question type; agreement with unpruned needs no label."""
    settings = metrics["settings"]
    entries = {name: settings[name]["measures"][kind] for name in ordered(metrics) if kind in settings[name].get("measures", {})}
    if not entries:
        return Grid(f"{kind.capitalize()}: no adapter reads its answers", ["setting"])
    first = next(iter(entries.values()))
    columns = list(dict.fromkeys(key for entry in entries.values() for key in _figures(entry)))
    labelled = first["count"] - first["unlabelled"]
    grid = Grid(f"{_KINDS.get(first['kind'], first['kind'])}: {first['count']} questions of type {kind}", ["setting", *columns])
    if first["unlabelled"]:
        grid.notes.append(f"{labelled} of {first['count']} questions have a label that can be read; agreement is over all of them")
    if not labelled:
        grid.notes.append("agreement: share of answers that say what the unpruned model says (95 % interval over scenes)")
    if first["kind"] == "waypoints" and labelled:
        turned = first["measures"].get("ego_heading")
        grid.notes.append(
            "uniad: at the horizon itself; stp3: mean of the half seconds up to it. L2 in metres, collision as a share of plans; of plans "
            "that reach the horizon" + (f"; the vehicle's heading: {turned}" if turned else "")
        )
    for name, entry in entries.items():
        figures = _figures(entry)
        if name == metrics["method"]:
            grid.strong.append(len(grid.rows))
        grid.rows.append([name, *(figures.get(column, "") for column in columns)])
    return grid


_KINDS = {"choice": "Choices", "label": "Labels", "plan": "Plans", "waypoints": "Waypoints", "text": "Text"}


def _figures(entry: Metrics) -> dict[str, str]:
    """Column -> text of one setting's measures."""
    measures, shown = entry.get("measures", {}), {}
    if "accuracy" in entry:
        shown["accuracy\n(95 % interval)"] = interval(entry["accuracy"])
        shown["macro-F1"] = number(measures.get("macro_f1"))
        shown["unreadable"] = str(measures.get("unreadable", measures.get("invalid", "")))
        shown["retention of accuracy\n(95 % interval)"] = interval(entry.get("retention", {}).get("accuracy"))
        by_scene = "scene_test_against" in entry  # runs of version 0.1 have McNemar's test alone
        against = entry.get("scene_test_against" if by_scene else "mcnemar_against", {}).get(UNPRUNED)
        shown[f"p against\nunpruned\n{'(by scene)' if by_scene else '(McNemar)'}"] = p_value(against["p_value"]) if against else ""
    for name, words, digits in (("l2_m", "L2", 2), ("collision_rate", "collision", 3)):
        for convention, horizons in measures.get(name, {}).items():
            for horizon, found in horizons.items():
                shown[f"{words}\n{convention}\n{horizon}"] = number(found["value"], digits)
    if "rouge_l" in measures:
        shown["ROUGE-L"], shown["BLEU"] = number(measures["rouge_l"]), number(measures.get("bleu"), 1)
    if entry["kind"] in ("waypoints", "text") and "invalid" in measures:
        shown["invalid"] = str(measures["invalid"])
    if "agreement" in entry:
        shown["agrees with unpruned\n(95 % interval)"] = interval(entry["agreement"]["interval"])
        if "shift_m" in entry["agreement"]:
            shown["moved by\nm"] = number(entry["agreement"]["shift_m"], 2)
    return shown


def _cell(value: float | int | None, key: str) -> str:
    if isinstance(value, int):
        return str(value)
    return number(value, 1) if key == "bleu" else number(value)


def cost_grid(metrics: Metrics) -> Grid:
    """Where the time goes, what was gained of what the FLOPs allow, what the cache holds."""
    grid = Grid(
        "Cost: medians, times in ms",
        [
            "setting",
            "wait for\nimages",
            "vision",
            "prefill",
            "of it\npruning",
            "decode",
            "whole\nquestion",
            "prefill\nspeed-up",
            "FLOPs\nbound",
            "reached",
            "new\ntokens",
            "KV cache\nMB",
            "KV\nratio",
            "tokens\nkept",
            "mutual\ninfo",
            "k",
        ],
        notes=[
            "pictures are opened and vision features computed once a sample, and shared by its questions and settings; the whole question "
            "counts the features in full, the wait not at all. reached: measured prefill speed-up / FLOPs bound. pruning: the hooks and "
            "the attention rows they read, by the host's clock."
        ],
    )
    for name in ordered(metrics):
        cost = metrics["settings"][name].get("cost")
        if cost is not None:
            grid.rows.append(_cost_row(name, cost))
    size = metrics.get("run", {}).get("config", {}).get("batch_size", 1)
    if size > 1:
        grid.notes.append(f"batches of up to {size}: times and KV bytes are equal shares of a batch's, padding included")
    return grid


def _cost_row(name: str, cost: Metrics) -> list[str]:
    def milliseconds(value: float | None) -> str:
        return number(value, 1, NOT_MEASURED)

    pruned = cost["pruned"]
    return [
        name,
        milliseconds(cost.get("images_ms")),
        milliseconds(cost["vision_ms"]),
        milliseconds(cost["prefill_ms"]["median"]),
        milliseconds(cost["pruner_ms"]["median"]) if pruned else "",
        milliseconds(cost["decode_ms"]["median"]),
        milliseconds(cost["total_ms"]["median"]),
        number(cost["prefill_speedup"], 2) if pruned else "",
        number(cost["flops_bound"], 2) if pruned else "",
        number(cost["reached"], 2) if pruned else "",
        number(cost["new_tokens"], 0),
        UNDEFINED if cost["kv_bytes"] is None else f"{cost['kv_bytes'] / 1e6:.2f}",
        number(cost["kv_ratio"]["median"]),
        percent(cost["retention_tokens"]),
        _optional(cost.get("mutual_information")),
        _optional(cost.get("k")),
    ]


def _optional(found: dict[str, float | None] | None) -> str:
    return "" if found is None or found["median"] is None else number(found["median"])


def flip_grid(metrics: Metrics) -> Grid | None:
    """Changed answers by severity; severities that never happened are left out. None where nothing was compared."""
    flips = metrics["flips"]
    names = [name for name in ordered(metrics) if name in flips]
    if not names:
        return None
    grid = Grid("Flips: answers that changed against unpruned, worst first", ["severity", *names, "meaning"])
    grid.texts = (0, len(grid.columns) - 1)
    grid.rows.append(["all", *(_count(flips[n]["flips"], flips[n]["rate"]) for n in names), "any change of the text"])
    harmful = "all but both_wrong, repaired and wording"
    grid.rows.append(["harmful", *(_count(flips[n]["harmful"], flips[n]["harmful_rate"]) for n in names), harmful])
    if all("scenes" in flips[n] for n in names):
        shown = [_scenes(flips[n]["scenes"]) for n in names]
        grid.rows.append(["scenes with a dangerous one", *shown, "missed_brake or wrong_side; in brackets: exact one-sided 95 % bound"])
    grid.end_section()
    for severity, first in flips[names[0]]["by_severity"].items():
        cells = [flips[name]["by_severity"][severity] for name in names]
        if any(cell["count"] for cell in cells):
            grid.rows.append([severity, *(_count(cell["count"], cell["rate"]) for cell in cells), first["meaning"]])
    return grid


def _scenes(found: Metrics) -> str:
    """``0 of 67 (at most 4.4 %)``."""
    upper = found["dangerous_upper"]
    return f"{found['dangerous']} of {found['compared']}" + ("" if upper is None else f" (at most {percent(upper)})")


def _count(count: int, rate: float | None) -> str:
    return f"{count} ({percent(rate)})" if count else "0"


def breakdown_grid(metrics: Metrics) -> Grid | None:
    """Exact accuracy by condition; None without planning questions or where no condition is known."""
    known = known_conditions(metrics)
    if not known:
        return None
    title = f"Breakdown: exact accuracy of unpruned and {metrics['method']}"
    grid = Grid(title, ["condition", "value", "questions", "unpruned", "pruned", "retention", "agreement"], texts=(0, 1))
    for attribute, groups in known.items():
        for group in groups:
            figures = ("unpruned_accuracy", "pruned_accuracy", "retention_accuracy", "agreement")
            shown = [percent(group[figure]) for figure in figures]
            grid.rows.append([attribute.replace("_", " "), group["value"], str(group["count"]), *shown])
        grid.end_section()
    return grid


def known_conditions(metrics: Metrics) -> dict[str, list[Metrics]]:
    """The breakdown without attributes that are unknown for every question."""
    return {name: groups for name, groups in metrics.get("breakdown", {}).items() if not _unknown(groups)}


def _unknown(groups: list[Metrics]) -> bool:
    return all(group["value"] == UNKNOWN for group in groups)


def warnings(metrics: Metrics) -> list[str]:
    """What makes these figures weaker than they look."""
    found = []
    if metrics["scenes"]["count"] < 2:
        found.append("one scene: no interval can be given")
    found += [metrics["scenes"][key] for key in ("warning", "note") if key in metrics["scenes"]]
    missing = metrics.get("missing_frames")
    if missing:
        who = f"{missing['questions']} of {missing['of']} questions"
        found.append(f"{missing['pictures']} pictures of {who} stand for earlier frames that are not there")
    for name in ordered(metrics):
        unended = metrics["settings"][name].get("unended") or {}
        if unended.get("count"):
            found.append(f"{name}: {unended['count']} of {unended['of']} answers did not end and were cut: give more --max-new-tokens")
        cost = metrics["settings"][name].get("cost") or {}
        if (cost.get("clamped") or 0) > CLAMP_WARNING:
            found.append(
                f"{name}: k is clamped at 0 for {percent(cost['clamped'])} of the questions, so nothing adapts to "
                "them: the mutual information of this model needs another gamma"
            )
        found += [f"{name}: {note} ({count} questions)" for note, count in (cost.get("notes") or {}).items()]
    hidden = [name.replace("_", " ") for name, groups in metrics.get("breakdown", {}).items() if _unknown(groups)]
    if hidden:
        found.append(f"unknown for every question: {', '.join(hidden)}")
    if metrics["unlabelled"]:
        left_out = ", ".join(f"{count} {kind}" for kind, count in metrics["unlabelled"].items())
        found.append(f"left out, their labels cannot be read: {left_out}")
    return found


def failures(metrics: Metrics) -> str | None:
    """How many answers are missing, with the first reason; None if none is."""
    questions = metrics["questions"]
    if not questions["failed_rows"]:
        return None
    first = questions["failed"][0]
    return (
        f"{questions['failed_rows']} answers of {questions['failed_samples']} samples failed; the first: "
        f"sample {first['token']}, {first['setting']}: {first['reason']}"
    )
