"""What a setting costs: sums of work, not means of ratios; pairs of the same question, not medians of two crowds."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from senna_autoprune.evaluation.measures.cost import clock_drift, cost_beside, cost_measures, full_tokens, median, spread
from senna_autoprune.evaluation.runs.rows import AnswerRow, PackedTrace, StoredTrace


def trace(full: float, pruned: float, average: float = 4.0, views: int = 2, k: float | None = 0.2) -> dict[str, Any]:
    return {
        "mutual_information": 1.0, "k": k, "x0": 2.0, "visual_tokens": 12, "text_tokens": 9, "tokens_per_layer": [12, 4],
        "average_tokens": average, "retention_tokens": average / 12, "per_view": [average / views] * views,
        "flops_full": full, "flops_pruned": pruned, "kv_bytes": 10, "notes": [],
    }  # fmt: skip


def row(question: int, setting: str = "a", ms: float = 1.0, kv: int = 10, **changes: Any) -> AnswerRow:
    return AnswerRow(question, setting, "ok", "KEEP", None, 1.0, ms, 1.0, 4, kv, **changes)


def test_the_flops_ratio_is_a_ratio_of_sums() -> None:
    """A long prompt costs more and weighs more; the mean of the two ratios would be 0.3."""
    measures = cost_measures([row(0, trace=trace(100.0, 50.0)), row(1, trace=trace(1000.0, 100.0))], [])
    assert measures["flops_ratio"] == pytest.approx(150 / 1100)


def test_tokens_a_view_are_each_questions_own() -> None:
    measures = cost_measures([row(0, trace=trace(1, 1, average=4, views=1)), row(1, trace=trace(1, 1, average=12, views=6))], [])
    assert measures["tokens_per_view"] == pytest.approx((4 / 1 + 12 / 6) / 2)
    assert measures["tokens_per_layer"] == pytest.approx(8)
    assert measures["kept_per_view"] is None  # one view and six have no common list


def test_an_unpruned_prompt_is_as_long_as_any_rows_of_it_say() -> None:
    """12 tokens in one view, 12 in two; the second row of a question says nothing new. Rows without a trace keep all of it."""
    rows = [row(0), row(0, trace=trace(1, 1, views=1)), row(0, "b", trace=trace(1, 1, views=3)), row(1, trace=trace(1, 1, views=2))]
    assert full_tokens(rows) == (12.0, 9.0) and full_tokens([row(0)]) is None
    kept = cost_measures([row(0)], [], (12.0, 9.0))
    assert (kept["pruned"], kept["tokens_per_layer"], kept["tokens_per_view"], kept["retention_tokens"]) == (False, 12.0, 9.0, 1.0)
    assert cost_measures([row(0, trace=trace(1, 1))], [])["pruned"] is True


def test_times_are_compared_question_by_question() -> None:
    """Medians of each side would say 3 / 3 = 1; the pairs say 2."""
    unpruned = [row(0, "unpruned", ms=1), row(1, "unpruned", ms=3), row(2, "unpruned", ms=50)]
    pruned = [row(2, ms=100), row(0, ms=2), row(1, ms=3), row(9, ms=1)]
    assert cost_measures(pruned, unpruned)["prefill_ratio"] == {"median": 2.0, "p10": pytest.approx(1.2), "p90": 2.0}


def test_times_of_another_hour_are_compared_only_if_the_same_work_took_as_long() -> None:
    """Pruned answers of twice the speed, on a machine that had slowed down to a half: not equal times, but none."""
    unpruned = [row(question, "unpruned", ms=10) for question in range(3)]
    pruned = [row(question, ms=5, trace=trace(100, 50)) for question in (2, 0, 1, 7)]
    for slower, said in ((1.0, 0.5), (1.09, 0.5), (1 / 1.09, 0.5), (1.2, None), (1 / 1.2, None), (0.0, None)):
        rows = [replace(one, vision_ms=slower) for one in pruned]
        assert clock_drift(rows, unpruned) == pytest.approx(slower)
        beside = cost_beside(rows, unpruned)
        assert beside["prefill_ratio"] == said and (beside["total_ratio"] is None) == (said is None)
        assert beside["retention_tokens"] == cost_measures(rows, unpruned)["retention_tokens"]
        assert beside["flops_ratio"] == pytest.approx(0.5) and beside["drift"] == pytest.approx(slower)
    unknown = cost_beside([replace(one, vision_ms=None) for one in pruned], unpruned)
    assert unknown["drift"] is None and unknown["prefill_ratio"] == 0.5


def test_what_was_not_measured_is_none() -> None:
    assert median([]) is median([None]) is None and median([3.0, None, 1]) == 2.0
    assert spread([None]) == {"median": None, "p10": None, "p90": None}
    assert spread([0, None, 10]) == {"median": 5.0, "p10": pytest.approx(1), "p90": pytest.approx(9)}
    nothing = {**trace(0.0, 0.0, k=None), "per_view": [], "mutual_information": None}
    measures = cost_measures([row(0, trace=nothing)], [row(0, "unpruned")])
    for name in ("tokens_per_view", "flops_ratio", "clamped", "flops_bound", "reached"):
        assert measures[name] is None, name
    assert measures["kept_per_view"] == [] and measures["mutual_information"]["p90"] is None
    assert cost_measures([row(0, trace=trace(1.0, 0.0))], [])["flops_bound"] is None


def test_a_packed_trace_costs_what_it_cost() -> None:
    whole = [trace(100.0, 30.0, 5.0), trace(200.0, 90.0, 7.0, k=0.0)]
    plain, packed = ([row(n, trace=make(one)) for n, one in enumerate(whole)] for make in (dict, PackedTrace))
    assert cost_measures(packed, []) == cost_measures(plain, []) and full_tokens(packed) == full_tokens(plain) == (12.0, 6.0)
    assert cost_measures([packed[0], plain[1]], []) == cost_measures(plain, [])


def test_a_gain_is_measured_over_bound() -> None:
    unpruned = [row(0, "unpruned", ms=10)]
    measures = cost_measures([row(0, ms=5, trace=trace(100, 25))], unpruned)
    assert (measures["prefill_speedup"], measures["flops_bound"], measures["reached"]) == (2.0, 4.0, 0.5)


def test_the_clamp_counts_questions_with_a_curve() -> None:
    rows = [row(0, trace=trace(1, 1, k=0.0)), row(1, trace=trace(1, 1, k=0.3)), row(2, trace=trace(1, 1, k=None))]
    assert cost_measures(rows, [])["clamped"] == 0.5


def _by_lists(traces: list[dict[str, Any]]) -> dict[str, Any]:
    """The slow twin: every trace in memory, a list a measure."""

    def spread(values: list[float]) -> dict[str, float | None]:
        return dict(zip(("p10", "median", "p90"), np.quantile(values, [0.1, 0.5, 0.9]), strict=True)) if values else {}

    def known(name: str) -> list[float]:
        return [one[name] for one in traces if one.get(name) is not None]

    return {
        "tokens_per_layer": np.mean(known("average_tokens")),
        "tokens_per_view": np.mean([one["average_tokens"] / len(one["per_view"]) for one in traces]),
        "retention_tokens": np.mean(known("retention_tokens")),
        "flops_ratio": sum(known("flops_pruned")) / sum(known("flops_full")),
        "kept_per_view": list(np.mean([one["per_view"] for one in traces], axis=0)),
        "schedule": list(np.mean([one["tokens_per_layer"] for one in traces], axis=0)),
        "mutual_information": spread(known("mutual_information")),
        "k": spread(known("k")),
        "pruner_ms": spread(known("pruner_ms")),
        "clamped": np.mean([k <= 1e-12 for k in known("k")]),
    }


def test_columns_of_stored_traces_are_the_lists_of_whole_ones() -> None:
    rng = np.random.default_rng(0)
    traces = []
    for number in range(2500):
        one = trace(float(rng.uniform(5, 9)), float(rng.uniform(1, 5)), float(rng.uniform(1, 9)), 3, rng.choice([None, 0.0, 0.3]))
        one["tokens_per_layer"] = [int(rng.integers(12)) for _ in range(4)]
        one["pruner_ms"] = None if number % 7 == 0 else float(rng.random())
        traces.append(one)
    found = cost_measures([row(n, trace=StoredTrace(json.dumps(one))) for n, one in enumerate(traces)], [])
    for name, value in _by_lists(traces).items():
        assert found[name] == pytest.approx(value, rel=1e-12), name
