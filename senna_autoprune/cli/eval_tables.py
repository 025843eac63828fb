"""A run's measures as tables on a terminal. Reads ``metrics`` as ``evaluation.summary`` makes them; computes nothing."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from senna_autoprune.evaluation.cost import CLAMP_WARNING

UNDEFINED = "n/a"
WIDE = 132  # columns assumed where the output is no terminal


def console_for(stderr: bool = False) -> Console:
    """A console that is wide enough for the tables when its output goes to a file or a pipe."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=WIDE)


def percent(value: float | None) -> str:
    return UNDEFINED if value is None else f"{100 * value:.1f} %"


def number(value: float | None, digits: int = 3) -> str:
    return UNDEFINED if value is None else f"{value:.{digits}f}"


def interval(found: dict[str, Any] | None, as_percent: bool = True) -> str:
    """``value [low, high]``; the interval is left out where there is none."""
    if found is None or found["value"] is None:
        return UNDEFINED
    shown = percent if as_percent else number
    if found["low"] is None:
        return shown(found["value"])
    low, high = shown(found["low"]).removesuffix(" %"), shown(found["high"]).removesuffix(" %")
    return f"{shown(found['value'])} [{low}, {high}]"


def show(metrics: dict[str, Any], console: Console) -> None:
    """Print everything that a run measured."""
    if any("plan" in entry for entry in metrics["settings"].values()):
        console.print(_main_table(metrics))
        _explain(metrics, console)
        console.print(_class_table(metrics))
    for table in _other_tables(metrics):
        console.print(table)
    console.print(_cost_table(metrics))
    if metrics["flips"]:
        console.print(_flip_table(metrics))
    if "breakdown" in metrics:
        if not all(map(_unknown, metrics["breakdown"].values())):
            console.print(_breakdown_table(metrics))
        hidden = [name.replace("_", " ") for name, groups in metrics["breakdown"].items() if _unknown(groups)]
        if hidden:
            console.print(f"unknown for every question: {', '.join(hidden)}", style="dim")
    _warn(metrics, console)


def ordered(metrics: dict[str, Any]) -> list[str]:
    """Settings in the order of the tables: unpruned, the method, its controls."""
    first = ["unpruned", metrics["method"], "random", "uniform", "no-image", "majority", "random-answer"]
    names = metrics["settings"]
    return [name for name in dict.fromkeys([*first, *names]) if name in names]


def _table(title: str, *columns: str) -> Table:
    """A light table: the first column is a name, the others are figures."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _main_table(metrics: dict[str, Any]) -> Table:
    plans = next(entry["plan"] for entry in metrics["settings"].values() if "plan" in entry)
    table = _table(
        f"Planning: {plans['count']} questions, {metrics['scenes']['count']} scenes",
        "setting",
        "accuracy,\noriginal\nmetric",
        "accuracy,\nexact\nparse",
        "invalid",
        "macro-F1,\n9 meta-\nactions",
        "agrees\nwith\nunpruned",
        "retention of accuracy\n(95 % interval)",
        "McNemar p\nagainst\nunpruned",
        "tokens\nper view\nand layer",
        "FLOPs\nratio",
        "prefill\ntime\nratio",
    )
    for name in ordered(metrics):
        entry = metrics["settings"][name]
        if "plan" in entry:
            table.add_row(*_main_row(name, entry), style="bold" if name == metrics["method"] else None)
    return table


def _main_row(name: str, entry: dict[str, Any]) -> list[str]:
    plan, cost, first = entry["plan"], entry.get("cost"), name == "unpruned"
    against = plan["mcnemar_against"].get("unpruned")
    row = [
        escape(name),
        percent(plan["official"]["accuracy"]),
        percent(plan["exact_accuracy"]),
        str(plan["invalid"]),
        number(plan["macro_f1"]),
        "" if first else percent(plan.get("agreement")),
        "" if first else interval(plan.get("retention", {}).get("exact_accuracy")),
        number(against["p_value"]) if against else "",
    ]
    if cost is None:  # an answer without a model costs nothing
        return [*row, "", "", ""]
    ratio = "" if first else number(cost["prefill_ratio"]["median"], 2)
    return [*row, number(cost["tokens_per_view"], 1), number(cost["flops_ratio"]), ratio]


def _explain(metrics: dict[str, Any], console: Console) -> None:
    unpruned = metrics["settings"].get("unpruned", {}).get("plan")
    if unpruned is not None and unpruned["exact_accuracy"] == 0:
        console.print("retention: n/a (unpruned accuracy is 0: there is nothing to retain)")
    error = unpruned["official"].get("error") if unpruned is not None else None
    if error:
        console.print(f"original metric: n/a, it stops with {escape(error)}")
    kept = metrics["settings"].get(metrics["method"], {}).get("plan", {}).get("retention", {})
    for name, words in (("official_accuracy", "accuracy by the original metric"), ("macro_f1", "macro-F1")):
        if kept.get(name, {}).get("value") is not None:
            console.print(f"{escape(metrics['method'])}: retention of {words} {interval(kept[name])}")
    majority = metrics["settings"].get("majority")
    if majority is not None:
        console.print(f"majority: {escape(majority['answer'])} for every question", style="dim")
    boot = metrics["bootstrap"]
    console.print(
        f"intervals: bootstrap over {metrics['scenes']['count']} scenes, {boot['resamples']} resamples, seed {boot['seed']}."
        " prefill time: first forward call with the vision features given, pruning inside, median of paired ratios.",
        style="dim",
    )
    size = metrics.get("run", {}).get("config", {}).get("batch_size", 1)
    if size > 1:
        console.print(f"batches of up to {size}: times and KV bytes are equal shares of a batch's, padding included", style="dim")
    if metrics["scenes"]["count"] < 2:
        console.print("one scene: no interval can be given", style="yellow")
    if "note" in metrics["scenes"]:
        console.print(escape(metrics["scenes"]["note"]), style="yellow")


def _class_table(metrics: dict[str, Any]) -> Table:
    """Labels of each meta-action, and its recall in every setting of a model."""
    names = [name for name in ordered(metrics) if "cost" in metrics["settings"][name]]
    table = _table("Recall of each meta-action", "meta-action", "labels", *(escape(name) for name in names))
    for axis in ("speed", "path"):
        entries = [metrics["settings"][name]["plan"][axis] for name in names]
        confusion = entries[0]["confusion"]
        for label, row in zip(confusion["rows"], confusion["counts"], strict=True):
            recalls = [percent(entry["recall"][label]) if sum(row) else "" for entry in entries]
            table.add_row(label, str(sum(row)), *recalls, end_section=label in ("STOP", "LEFT_TURN"))
    return table


_OTHER: dict[str, tuple[str, dict[str, str]]] = {
    "vru": (
        "Vulnerable road users",
        {
            "count": "questions",
            "accuracy": "accuracy",
            "precision": "precision",
            "recall": "recall",
            "invalid": "invalid",
        },
    ),
    "motion": (
        "Motion of objects",
        {
            "questions": "questions",
            "count": "objects",
            "exact_accuracy": "accuracy",
            "macro_f1": "macro-F1",
            "invalid": "invalid",
        },
    ),
    "light": (
        "Traffic lights",
        {"count": "questions", "accuracy": "accuracy", "macro_f1": "macro-F1", "invalid": "invalid"},
    ),
}
_TEXT = {"count": "questions", "rouge_l": "ROUGE-L", "bleu": "BLEU"}


def _other_tables(metrics: dict[str, Any]) -> list[Table]:
    tables = []
    kinds = [kind for kind in metrics["questions"]["by_type"] if kind != "plan"]
    for kind in kinds:
        title, columns = _OTHER.get(kind, (f"{kind.capitalize()} (text against its label)", _TEXT))
        table = _table(title, "setting", *columns.values())
        for name in ordered(metrics):
            entry = metrics["settings"][name].get(kind)
            if entry is not None:
                table.add_row(escape(name), *(_cell(entry[key], key) for key in columns))
        tables.append(table)
    return tables


def _cell(value: float | int | None, key: str) -> str:
    if isinstance(value, int):
        return str(value)
    return number(value, 1) if key == "bleu" else number(value)


def _cost_table(metrics: dict[str, Any]) -> Table:
    table = _table(
        "Cost: medians, times in ms (vision features are computed once a sample)",
        "setting",
        "vision",
        "prefill",
        "decode",
        "new\ntokens",
        "KV cache\nMB",
        "KV\nratio",
        "retention\nof tokens",
        "mutual\ninformation",
        "k",
    )
    for name in ordered(metrics):
        cost = metrics["settings"][name].get("cost")
        if cost is not None:
            table.add_row(
                escape(name),
                number(cost["vision_ms"], 1),
                number(cost["prefill_ms"]["median"], 1),
                number(cost["decode_ms"]["median"], 1),
                number(cost["new_tokens"], 0),
                UNDEFINED if cost["kv_bytes"] is None else f"{cost['kv_bytes'] / 1e6:.2f}",
                number(cost["kv_ratio"]["median"], 3),
                percent(cost["retention_tokens"]),
                _optional(cost.get("mutual_information")),
                _optional(cost.get("k")),
            )
    return table


def _optional(found: dict[str, float | None] | None) -> str:
    return "" if found is None or found["median"] is None else number(found["median"])


def _flip_table(metrics: dict[str, Any]) -> Table:
    flips = metrics["flips"]
    names = [name for name in ordered(metrics) if name in flips]
    columns = ["severity", *(escape(name) for name in names)]
    table = _table("Flips: answers that changed against unpruned, worst first", *columns)
    table.add_column("meaning")
    table.add_row("all", *(_count(flips[n]["flips"], flips[n]["rate"]) for n in names), "any change of the text")
    table.add_row(
        "harmful", *(_count(flips[n]["harmful"], flips[n]["harmful_rate"]) for n in names), "", end_section=True
    )
    for severity, first in flips[names[0]]["by_severity"].items():
        cells = [flips[name]["by_severity"][severity] for name in names]
        if any(cell["count"] for cell in cells):
            table.add_row(severity, *(_count(cell["count"], cell["rate"]) for cell in cells), first["meaning"])
    return table


def _count(count: int, rate: float | None) -> str:
    return f"{count} ({percent(rate)})" if count else "0"


def _breakdown_table(metrics: dict[str, Any]) -> Table:
    title = f"Breakdown: exact accuracy of unpruned and {escape(metrics['method'])}"
    table = _table(title, "condition", "value", "questions", "unpruned", "pruned", "retention", "agreement")
    table.columns[1].justify = "left"
    for attribute, groups in metrics["breakdown"].items():
        if _unknown(groups):
            continue
        for group in groups:
            table.add_row(
                attribute.replace("_", " "),
                escape(group["value"]),
                str(group["count"]),
                percent(group["unpruned_accuracy"]),
                percent(group["pruned_accuracy"]),
                percent(group["retention_accuracy"]),
                percent(group["agreement"]),
                end_section=group is groups[-1],
            )
    return table


def _unknown(groups: list[dict[str, Any]]) -> bool:
    return all(group["value"] == "unknown" for group in groups)


def _warn(metrics: dict[str, Any], console: Console) -> None:
    for name in ordered(metrics):
        cost = metrics["settings"][name].get("cost") or {}
        if (cost.get("clamped") or 0) > CLAMP_WARNING:
            console.print(
                f"{escape(name)}: k is clamped at 0 for {percent(cost['clamped'])} of the questions, so nothing adapts to "
                "them: the mutual information of this model needs another gamma",
                style="yellow",
            )
        for note, count in (cost.get("notes") or {}).items():
            console.print(f"{escape(name)}: {escape(note)} ({count} questions)", style="yellow")
    if metrics["unlabelled"]:
        left_out = ", ".join(f"{count} {escape(kind)}" for kind, count in metrics["unlabelled"].items())
        console.print(f"left out, their labels cannot be read: {left_out}", style="yellow")
    questions = metrics["questions"]
    if questions["failed_rows"]:
        first = questions["failed"][0]
        console.print(
            f"{questions['failed_rows']} answers of {questions['failed_samples']} samples failed; the first: sample "
            f"{escape(str(first['token']))}, {escape(first['setting'])}: {escape(str(first['reason']))}",
            style="red",
        )
