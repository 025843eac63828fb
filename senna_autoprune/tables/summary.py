"""What fits a screen of 80 columns: one verdict, one table, what to type next. ``tables/run.py`` has everything."""

from __future__ import annotations

from senna_autoprune.evaluation.answering.named import in_words, pointed_to
from senna_autoprune.evaluation.runs.rows import UNPRUNED
from senna_autoprune.tables.grid import Grid, number, percent
from senna_autoprune.tables.run import Metrics, ordered

COLUMNS = 80


def verdict_line(metrics: Metrics) -> str | None:
    """The one sentence that may be said of the method; None where no planning question was asked pruned, or by an older version."""
    found = metrics.get("verdict")
    return found["sentence"] if found else None


def summary_grid(metrics: Metrics) -> Grid | None:
    """Accuracy, retention, harmful flips, tokens and time of every setting and control; None without planning questions."""
    entries = {name: entry for name in ordered(metrics) if "plan" in (entry := metrics["settings"][name])}
    if not entries:
        return None
    count, scenes = next(iter(entries.values()))["plan"]["count"], metrics["scenes"]["count"]
    grid = Grid(
        f"Planning: {count} questions, {scenes} scenes",
        ["setting", "accuracy", "retention, %\n[95 %]", "harmful\nflips\n[< %]", "tokens\na view", "whole\ntime", "pre-\nfill"],
        notes=[
            "flips: answers made worse, [at most so many % of scenes have one]",
            "times over unpruned, medians of paired ratios: whole question, prefill",
        ],
    )
    size = metrics.get("run", {}).get("config", {}).get("batch_size", 1)
    if size > 1:
        grid.notes.append(f"batches of up to {size}: times are equal shares of a batch's")
    for name, entry in entries.items():
        if name == metrics["method"]:
            grid.strong.append(len(grid.rows))
        plan, cost, first = entry["plan"], entry.get("cost"), name == UNPRUNED
        kept = "" if first else _bounds(plan.get("retention", {}).get("exact_accuracy"))
        row = [name, percent(plan["exact_accuracy"]), kept, "" if first else _flips(metrics["flips"].get(name))]
        if cost is None:  # an answer without a model costs nothing
            grid.rows.append([*row, "", "", ""])
            continue
        times = ["" if first else number(cost[ratio]["median"], 2) for ratio in ("total_ratio", "prefill_ratio")]
        grid.rows.append([*row, number(cost["tokens_per_view"], 1), *times])
    return grid


def _bounds(found: Metrics | None) -> str:
    """``95.5 [69.6, 127.1]`` in percent, without signs."""
    if found is None or found["value"] is None:
        return "n/a"
    value = percent(found["value"], "")
    return value if found["low"] is None else f"{value} [{percent(found['low'], '')}, {percent(found['high'], '')}]"


def _flips(found: Metrics | None) -> str:
    """``3 [8]``: harmful flips, and the share of scenes that have one at most."""
    if found is None:
        return ""
    upper = found.get("scenes", {}).get("harmful_upper")
    return str(found["harmful"]) if upper is None else f"{found['harmful']} [{100 * upper:.0f}]"


def next_commands(directory: str, metrics: Metrics) -> list[str]:
    """What a reader of the summary types next: of replays one that has something to show."""
    flips = metrics["flips"].get(metrics["method"], {})
    which = "worst" if flips.get("harmful") else "all" if flips.get("flips") else None
    again = in_words(pointed_to(metrics["run"]))  # what a replay must be told
    replay = [] if which is None else [f"senna-prune replay --run {directory} --flips {which}{again}"]
    following = [*replay, "senna-prune budget    how far may this model be pruned, and how sure is that"]
    lines = [f"{'      ' if number else 'next: '}{line}" for number, line in enumerate(following)]
    return [f"all tables: --full, or senna-prune report {directory}", *lines]
