"""What answers cost, from the rows of a run: tokens, FLOPs, memory and measured times, each beside the unpruned one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from senna_autoprune.evaluation.runs.rows import AnswerRow

_CLAMPED = 1e-12  # a k at or below this is eq. 8's clamp at 0: the curve is flat and nothing adapts to the question
CLAMP_WARNING = 0.9


def median(values: Sequence[float | None]) -> float | None:
    """Median of what is there; None of nothing."""
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def spread(values: Sequence[float | None]) -> dict[str, float | None]:
    """Median with the 10th and 90th percentile."""
    known = [value for value in values if value is not None]
    if not known:
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
    full = {
        row.question: (row.trace["visual_tokens"], row.trace["visual_tokens"] / max(len(row.trace["per_view"]), 1))
        for row in rows
        if row.trace is not None
    }
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
    traces = [row.trace for row in rows if row.trace is not None]
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
    measures.update(_trace_measures(traces) if traces else _nothing_pruned(full))
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


def _trace_measures(traces: Sequence[dict[str, Any]]) -> dict[str, Any]:
    averages = [trace["average_tokens"] for trace in traces]
    views = [len(trace["per_view"]) for trace in traces]
    full = sum(trace["flops_full"] for trace in traces)
    steepness = [trace["k"] for trace in traces if trace["k"] is not None]
    notes = Counter(note for trace in traces for note in trace["notes"])
    return {
        "pruned": True,
        "tokens_per_layer": float(np.mean(averages)),
        "tokens_per_view": float(np.mean([a / v for a, v in zip(averages, views, strict=True) if v])) if any(views) else None,
        "retention_tokens": float(np.mean([trace["retention_tokens"] for trace in traces])),
        "flops_ratio": sum(trace["flops_pruned"] for trace in traces) / full if full else None,
        "kept_per_view": _mean_rows([trace["per_view"] for trace in traces]),
        "schedule": _mean_rows([trace["tokens_per_layer"] for trace in traces]),
        "mutual_information": spread([trace["mutual_information"] for trace in traces]),
        "k": spread(steepness),
        "pruner_ms": spread([trace.get("pruner_ms") for trace in traces]),
        "clamped": sum(k <= _CLAMPED for k in steepness) / len(steepness) if steepness else None,
        "notes": dict(notes.most_common(20)),
    }


def _mean_rows(rows: Sequence[Sequence[float]]) -> list[float] | None:
    """Mean of equally long lists, position by position; None if they differ in length (samples with other numbers of
    views).
    """
    if len({len(row) for row in rows}) != 1:
        return None
    return [float(value) for value in np.mean(rows, axis=0)]
