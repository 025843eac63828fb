"""What answers cost, from the rows of a run: tokens, FLOPs, memory and measured times, each beside the unpruned one."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from senna_autoprune.evaluation.runs.rows import AnswerRow, whole

_CLAMPED = 1e-12  # a k at or below this is eq. 8's clamp at 0: the curve is flat and nothing adapts to the question
CLAMP_WARNING = 0.9
_COLUMNS = ("average_tokens", "retention_tokens", "flops_full", "flops_pruned")  # numbers that every trace has
_MAYBE = ("mutual_information", "k", "pruner_ms")
_TOGETHER = 1024  # lists summed at once


def median(values: Iterable[float | None]) -> float | None:
    """Median of what is there; None of nothing."""
    known = np.array([value for value in values if value is not None], dtype=float)
    return float(np.median(known)) if len(known) else None


def spread(values: Iterable[float | None]) -> dict[str, float | None]:
    """Median with the 10th and 90th percentile."""
    known = np.array([value for value in values if value is not None], dtype=float)
    if not len(known):
        return {"median": None, "p10": None, "p90": None}
    p10, middle, p90 = np.quantile(known, [0.1, 0.5, 0.9])
    return {"median": float(middle), "p10": float(p10), "p90": float(p90)}


def paired_ratio(
    rows: Sequence[AnswerRow], reference: Sequence[AnswerRow], measure: Callable[[AnswerRow], float | None]
) -> dict[str, float | None]:
    """Spread of row / reference of the same question: drift of the machine cancels in the pair."""
    by_question = {row.question: measure(row) for row in reference}
    ratios: list[float | None] = []
    for row in rows:
        above, below = measure(row), by_question.get(row.question)
        if above is not None and below:
            ratios.append(above / below)
    return spread(ratios)


def total_ms(row: AnswerRow) -> float | None:
    """Vision, prefill and decoding of one answer; None if one of them was not measured."""
    if row.vision_ms is None or row.prefill_ms is None or row.decode_ms is None:
        return None
    return row.vision_ms + row.prefill_ms + row.decode_ms


def full_tokens(rows: Sequence[AnswerRow]) -> tuple[float, float] | None:
    """(visual tokens, visual tokens per view) of an unpruned prompt, averaged over the questions of rows with a trace."""
    full = {}
    for row in rows:
        if row.trace is not None and row.question not in full:  # the same under every setting
            trace = whole(row.trace)
            full[row.question] = (trace["visual_tokens"], trace["visual_tokens"] / max(len(trace["per_view"]), 1))
    if not full:
        return None
    total, per_view = np.mean(list(full.values()), axis=0)
    return float(total), float(per_view)


def cost_measures(rows: Sequence[AnswerRow], unpruned: Sequence[AnswerRow], full: tuple[float, float] | None = None) -> dict[str, Any]:
    """Cost of one setting's rows.

    Returns:
        times in ms (``total_ms``: all stages, as if the vision features served this answer alone) and ``kv_bytes``
        (medians), their paired ratios to the unpruned rows, what the prefill gained (``_gain``), and of rows with a trace:
        ``tokens_per_layer`` (average over layers and questions), ``tokens_per_view`` (that, per view),
        ``retention_tokens``, ``flops_ratio`` (sum of pruned / sum of full prefill FLOPs), ``kept_per_view`` (average
        unmerged tokens of each view), ``schedule`` (average tokens entering each layer), ``mutual_information`` and
        ``k`` spreads, ``pruner_ms`` (spread of the part of the prefill that pruning itself took; of no value where it was
        not measured), ``clamped`` (share of questions whose k is at its clamp), ``notes`` with their counts. Rows
        without a trace keep all tokens: ratios 1.
    """
    traces = _Traces(row.trace for row in rows if row.trace is not None)
    measures: dict[str, Any] = {
        "count": len(rows),
        "vision_ms": median([row.vision_ms for row in rows]),
        "prefill_ms": spread([row.prefill_ms for row in rows]),
        "decode_ms": spread([row.decode_ms for row in rows]),
        "new_tokens": median([row.new_tokens for row in rows]),
        "kv_bytes": median([row.kv_bytes for row in rows]),
        "total_ms": spread(list(map(total_ms, rows))),
        "prefill_ratio": paired_ratio(rows, unpruned, attrgetter("prefill_ms")),
        "kv_ratio": paired_ratio(rows, unpruned, attrgetter("kv_bytes")),
        "total_ratio": paired_ratio(rows, unpruned, total_ms),
    }
    measures.update(traces.measures() if traces.count else _nothing_pruned(full))
    return {**measures, **_gain(measures["prefill_ratio"]["median"], measures["flops_ratio"])}


def _gain(time_ratio: float | None, flops_ratio: float | None) -> dict[str, float | None]:
    """``prefill_speedup`` measured, ``flops_bound`` that the FLOPs would allow, and the share of it that was ``reached``."""
    return {
        "prefill_speedup": 1 / time_ratio if time_ratio else None,
        "flops_bound": 1 / flops_ratio if flops_ratio else None,
        "reached": flops_ratio / time_ratio if time_ratio and flops_ratio else None,
    }


def _nothing_pruned(full: tuple[float, float] | None) -> dict[str, Any]:
    total, per_view = full if full is not None else (None, None)
    return {
        "pruned": False,
        "retention_tokens": 1.0,
        "flops_ratio": 1.0,
        "tokens_per_layer": total,
        "tokens_per_view": per_view,
    }


class _Traces:
    """Columns of traces, each trace looked at once: half a million of them as objects would fill gigabytes."""

    def __init__(self, traces: Iterable[Mapping[str, Any]]) -> None:
        self.count = 0
        columns = {name: array("d") for name in (*_COLUMNS, *_MAYBE, "views")}
        self._columns, self._notes = columns, Counter[str]()
        self._lists = {name: _MeanRow() for name in ("per_view", "tokens_per_layer")}
        for stored in traces:
            trace = whole(stored)
            self.count += 1
            for name in _COLUMNS:
                columns[name].append(trace[name])
            for name in _MAYBE:
                if trace.get(name) is not None:
                    columns[name].append(trace[name])
            columns["views"].append(len(trace["per_view"]))
            for name, mean in self._lists.items():
                mean.add(trace[name])
            self._notes.update(trace["notes"])

    def measures(self) -> dict[str, Any]:
        """Of at least one trace."""
        columns = {name: np.array(values) for name, values in self._columns.items()}
        average, views, steepness = columns["average_tokens"], columns["views"], columns["k"]
        full = float(columns["flops_full"].sum())
        seen = views > 0
        return {
            "pruned": True,
            "tokens_per_layer": float(average.mean()),
            "tokens_per_view": float((average[seen] / views[seen]).mean()) if seen.any() else None,
            "retention_tokens": float(columns["retention_tokens"].mean()),
            "flops_ratio": float(columns["flops_pruned"].sum()) / full if full else None,
            "kept_per_view": self._lists["per_view"].mean(),
            "schedule": self._lists["tokens_per_layer"].mean(),
            "mutual_information": spread(columns["mutual_information"]),
            "k": spread(steepness),
            "pruner_ms": spread(columns["pruner_ms"]),
            "clamped": float((steepness <= _CLAMPED).mean()) if len(steepness) else None,
            "notes": dict(self._notes.most_common(20)),
        }


class _MeanRow:
    """Mean of equally long lists, position by position; None if they differ in length (samples with other numbers of views)."""

    def __init__(self) -> None:
        self._rows: list[Sequence[float]] = []
        self._sum: Any = None
        self._count, self._length = 0, -1

    def add(self, row: Sequence[float]) -> None:
        self._length = len(row) if self._length in (-1, len(row)) else -2
        if self._length >= 0:
            self._rows.append(row)
            if len(self._rows) == _TOGETHER:
                self._add_up()

    def _add_up(self) -> None:
        if self._rows:
            total = np.asarray(self._rows, dtype=float).sum(axis=0)
            self._sum = total if self._sum is None else self._sum + total
            self._count += len(self._rows)
            self._rows = []

    def mean(self) -> list[float] | None:
        if self._length < 0:
            return None
        self._add_up()
        return [float(value) for value in self._sum / self._count]
