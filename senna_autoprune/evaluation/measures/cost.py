"""What answers cost, from the rows of a run: tokens, FLOPs, memory and measured times, each beside the unpruned one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import numpy as np

from senna_autoprune.evaluation.runs.rows import AnswerRow, PackedTrace, whole

_CLAMPED = 1e-12  # a k at or below this is eq. 8's clamp at 0: the curve is flat and nothing adapts to the question
CLAMP_WARNING = 0.9
_COLUMNS = ("average_tokens", "retention_tokens", "flops_full", "flops_pruned")  # numbers that every trace has
_MAYBE = ("mutual_information", "k", "pruner_ms")
_TOKENS = PackedTrace.FIGURES.index("visual_tokens")
STEADY = 0.1  # times asked minutes apart are compared if the same work took as long then, up to this share
STAGES = ("vision_ms", "prefill_ms", "decode_ms")  # of one answer
_TOGETHER = 1024  # lists summed at once


def median(values: Iterable[float | None]) -> float | None:
    """Median of what is there; None of nothing."""
    known = _known(values)
    return float(np.median(known)) if len(known) else None


def _known(values: Iterable[float | None]) -> Any:
    """What is there, as an array."""
    return values if isinstance(values, np.ndarray) else np.array([value for value in values if value is not None], dtype=float)


def _there(column: Any) -> Any:
    """A column without what was not measured."""
    return column[~np.isnan(column)]


def spread(values: Iterable[float | None]) -> dict[str, float | None]:
    """Median with the 10th and 90th percentile."""
    known = _known(values)
    if not len(known):
        return {"median": None, "p10": None, "p90": None}
    p10, middle, p90 = np.quantile(known, [0.1, 0.5, 0.9])
    return {"median": float(middle), "p10": float(p10), "p90": float(p90)}


class Columns:
    """Rows of one setting, and their numbers as arrays (R,), each made once; NaN where something was not measured."""

    def __init__(self, rows: Sequence[AnswerRow]) -> None:
        self.rows = rows
        self._made: dict[str, Any] = {}

    def of(self, name: str) -> Any:
        """One number of each row."""
        if name not in self._made:
            self._made[name] = np.array(list(map(attrgetter(name), self.rows)), dtype=float)
        return self._made[name]

    def total(self, *names: str) -> Any:
        """The sum of these numbers of each row."""
        first, *others = map(self.of, names)
        return sum(others, first)


def _pairs(rows: Columns, reference: Columns) -> tuple[Any, Any]:
    """Places of the rows of one question on both sides, (P,) each."""
    _, here, there = np.intersect1d(rows.of("question"), reference.of("question"), assume_unique=True, return_indices=True)
    return here, there


def _ratio(pairs: tuple[Any, Any], above: Any, below: Any) -> dict[str, float | None]:
    above, below = above[pairs[0]], below[pairs[1]]
    known = ~np.isnan(above) & ~np.isnan(below) & (below != 0)
    return spread(above[known] / below[known])


def full_tokens(rows: Sequence[AnswerRow]) -> tuple[float, float] | None:
    """(visual tokens, visual tokens per view) of an unpruned prompt, averaged over the questions of rows with a trace."""
    full = {}
    for row in rows:
        if row.trace is not None and row.question not in full:  # the same under every setting
            tokens, views = _size(row.trace)
            full[row.question] = (tokens, tokens / max(views, 1))
    if not full:
        return None
    total, per_view = np.mean(list(full.values()), axis=0)
    return float(total), float(per_view)


def _size(trace: Mapping[str, Any]) -> tuple[int, int]:
    """(visual tokens, views)."""
    if isinstance(trace, PackedTrace):
        return int(np.frombuffer(trace.figures)[_TOKENS]), len(trace.views) // 8
    found = whole(trace)
    return found["visual_tokens"], len(found["per_view"])


def clock_drift(rows: Sequence[AnswerRow], unpruned: Sequence[AnswerRow]) -> float | None:
    """How much longer the vision tower took over the same pictures when ``rows`` were answered than when ``unpruned`` ones were (median
    of paired ratios): what the machine's pace, and no pruning, did to their times. None: it was not measured.
    """
    mine, theirs = Columns(rows), Columns(unpruned)
    return _ratio(_pairs(mine, theirs), mine.of("vision_ms"), theirs.of("vision_ms"))["median"]


def cost_measures(
    rows: Sequence[AnswerRow] | Columns, unpruned: Sequence[AnswerRow] | Columns, full: tuple[float, float] | None = None
) -> dict[str, Any]:
    """Cost of one setting's rows, of which each question has one.

    Returns:
        times in ms (``total_ms``: all stages from the vision features on, as if these served this answer alone; ``images_ms``,
        waiting for pictures, is not in it) and ``kv_bytes``
        (medians), their paired ratios to the unpruned rows, what the prefill gained (``_gain``), and of rows with a trace:
        ``tokens_per_layer`` (average over layers and questions), ``tokens_per_view`` (that, per view),
        ``retention_tokens``, ``flops_ratio`` (sum of pruned / sum of full prefill FLOPs), ``kept_per_view`` (average
        unmerged tokens of each view), ``schedule`` (average tokens entering each layer), ``mutual_information`` and
        ``k`` spreads, ``pruner_ms`` (spread of the part of the prefill that pruning itself took; of no value where it was
        not measured), ``clamped`` (share of questions whose k is at its clamp), ``notes`` with their counts. Rows
        without a trace keep all tokens: ratios 1.
    """
    here, reference = (one if isinstance(one, Columns) else Columns(one) for one in (rows, unpruned))
    traces = _Traces([row.trace for row in here.rows if row.trace is not None])
    pairs = _pairs(here, reference)

    def ratio(*names: str) -> dict[str, float | None]:
        return _ratio(pairs, here.total(*names), reference.total(*names))

    measures: dict[str, Any] = {
        "count": len(here.rows),
        "images_ms": median(_there(here.of("images_ms"))),
        "vision_ms": median(_there(here.of("vision_ms"))),
        "prefill_ms": spread(_there(here.of("prefill_ms"))),
        "decode_ms": spread(_there(here.of("decode_ms"))),
        "new_tokens": median(_there(here.of("new_tokens"))),
        "kv_bytes": median(_there(here.of("kv_bytes"))),
        "total_ms": spread(_there(here.total(*STAGES))),
        "prefill_ratio": ratio("prefill_ms"),
        "kv_ratio": ratio("kv_bytes"),
        "total_ratio": ratio(*STAGES),
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
    """Columns of traces: half a million of them as objects would fill gigabytes. Packed ones are put one after the other as they are."""

    def __init__(self, traces: Sequence[Mapping[str, Any]]) -> None:
        self.count = len(traces)
        packed = [trace if isinstance(trace, PackedTrace) else PackedTrace(whole(trace)) for trace in traces]
        shape = (len(packed), len(PackedTrace.FIGURES))
        figures = np.frombuffer(b"".join(trace.figures for trace in packed)).reshape(shape) if packed else np.zeros(shape)
        columns = dict(zip(PackedTrace.FIGURES, figures.T, strict=True))
        self._columns = {name: columns[name].copy() for name in _COLUMNS}
        self._columns |= {name: columns[name][~np.isnan(columns[name])] for name in _MAYBE}
        self._columns["views"] = np.array([len(trace.views) // 8 for trace in packed], dtype=float)
        self._lists = {
            "per_view": _mean_row([trace.views for trace in packed], np.float64),
            "tokens_per_layer": _mean_row([trace.layers for trace in packed], np.intc),
        }
        self._notes = Counter(note for trace in packed for note in trace.notes)

    def measures(self) -> dict[str, Any]:
        """Of at least one trace."""
        columns = self._columns
        average, views, steepness = columns["average_tokens"], columns["views"], columns["k"]
        full = float(columns["flops_full"].sum())
        seen = views > 0
        return {
            "pruned": True,
            "tokens_per_layer": float(average.mean()),
            "tokens_per_view": float((average[seen] / views[seen]).mean()) if seen.any() else None,
            "retention_tokens": float(columns["retention_tokens"].mean()),
            "flops_ratio": float(columns["flops_pruned"].sum()) / full if full else None,
            "kept_per_view": self._lists["per_view"],
            "schedule": self._lists["tokens_per_layer"],
            "mutual_information": spread(columns["mutual_information"]),
            "k": spread(steepness),
            "pruner_ms": spread(columns["pruner_ms"]),
            "clamped": float((steepness <= _CLAMPED).mean()) if len(steepness) else None,
            "notes": dict(self._notes.most_common(20)),
        }


def _mean_row(rows: Sequence[bytes], kind: Any) -> list[float] | None:
    """Mean of equally long lists of numbers, position by position; None if they differ in length (samples with other numbers of views)."""
    if len(set(map(len, rows))) != 1:
        return None
    if not rows[0]:
        return []
    total: Any = 0.0
    for start in range(0, len(rows), _TOGETHER):
        part = rows[start : start + _TOGETHER]
        total = total + np.frombuffer(b"".join(part), dtype=kind).reshape(len(part), -1).astype(float).sum(axis=0)
    return [float(value) for value in total / len(rows)]


def cost_beside(rows: Sequence[AnswerRow], unpruned: Sequence[AnswerRow]) -> dict[str, Any]:
    """What is said of a setting that was asked at another time than its unpruned rows: ratios of times only if the machine kept its pace.

    Returns:
        ``retention_tokens``, ``flops_ratio``, ``prefill_ratio`` and ``total_ratio`` (medians), and ``drift``, of ``clock_drift``; beyond
        ``STEADY`` of one the two ratios are None.
    """
    found, drift = cost_measures(rows, unpruned), clock_drift(rows, unpruned)
    steady = drift is None or 1 / (1 + STEADY) <= drift <= 1 + STEADY
    times = {key: found[key]["median"] if steady else None for key in ("prefill_ratio", "total_ratio")}
    return {"retention_tokens": found["retention_tokens"], "flops_ratio": found["flops_ratio"], **times, "drift": drift}
