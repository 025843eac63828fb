"""Bootstrap over scenes against nested loops; McNemar against sums of binomials."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from senna_autoprune.evaluation.measures.clusters import Clusters
from senna_autoprune.evaluation.measures.complexity import spearman
from senna_autoprune.evaluation.measures.intervals import share_interval
from senna_autoprune.evaluation.measures.metrics import Few, each_once, pair_once, tally
from senna_autoprune.evaluation.measures.parsing import INVALID_PLAN, PATHS, SPEEDS, Plan
from senna_autoprune.evaluation.measures.retention import (
    Interval,
    accuracy,
    accuracy_retention,
    bootstrap,
    by_scene,
    hit_statistics,
    macro_f1_measure,
    mcnemar,
    mean_measure,
    plan_statistics,
    plan_sums,
    retention,
)
from tests.evaluation.twins import bootstrap_by_loops, drawn_times, macro_f1_by_counting, mcnemar_by_summing


def _questions(seed: int, count: int = 40, scenes: int = 6) -> tuple[list[str], list[bool], list[bool]]:
    rng = np.random.default_rng(seed)
    names = [f"scene-{i}" for i in rng.integers(0, scenes, size=count)]
    return names, (rng.random(count) < 0.6).tolist(), (rng.random(count) < 0.5).tolist()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_retention_interval_equals_nested_loops(seed: int) -> None:
    scenes, before, after = _questions(seed)
    found = retention(hit_statistics(after), hit_statistics(before), scenes, resamples=300, seed=seed)
    draws = drawn_times(len(set(scenes)), 300, seed)

    def ratio(taken: list[int]) -> float | None:
        below = sum(before[i] for i in taken)
        return sum(after[i] for i in taken) / below if below else None

    low, high, undefined = bootstrap_by_loops(scenes, draws, ratio)
    assert found.value == pytest.approx(sum(after) / sum(before))
    assert (found.low, found.high, found.undefined) == (pytest.approx(low), pytest.approx(high), undefined)
    assert found.low is not None and found.value is not None and found.high is not None
    assert found.low <= found.value <= found.high


def test_sums_of_plans_are_those_of_rows() -> None:
    rng = np.random.default_rng(6)
    few = [Plan(speed, path) for speed in SPEEDS for path in PATHS]
    for count in (0, 1, 300):
        labels = [few[rng.integers(20)] for _ in range(count)]
        answers = [
            INVALID_PLAN if rng.random() < 0.2 else Plan("KEEP", "OVER") if rng.random() < 0.1 else few[rng.integers(20)] for _ in labels
        ]
        scenes = Clusters(f"s{rng.integers(7)}" for _ in labels)
        assert np.array_equal(plan_sums(labels, answers, scenes), by_scene(plan_statistics(labels, answers), scenes))


def test_what_is_done_once_is_what_is_done_each_time() -> None:
    asked: list[object] = []
    first, second = (
        [Plan("KEEP", "STRAIGHT"), Plan("KEEP", "STRAIGHT"), INVALID_PLAN] * 5,
        [INVALID_PLAN, Plan("STOP", "STRAIGHT"), INVALID_PLAN] * 5,
    )
    assert pair_once(lambda a, b: asked.append((a, b)) or a == b, first, second) == [a == b for a, b in zip(first, second, strict=True)]  # type: ignore[func-returns-value]
    assert len(asked) == 3
    assert each_once(str, first) == [str(one) for one in first]
    assert pair_once(str.__eq__, [], []) == [] == each_once(str, [])
    with pytest.raises(ValueError, match="cannot be paired"):
        pair_once(str.__eq__, ["a"], [])


@pytest.mark.parametrize("different", [1, 3, 200])  # of 200 pairs a table of all would be larger than the lists
def test_few_objects_by_number_are_the_lists_they_stand_for(different: int) -> None:
    rng = np.random.default_rng(different)
    first, second = ([f"{side}{one}" for one in rng.integers(different, size=200)] for side in "ab")
    one, other = Few(map(sys.intern, first)), Few(map(sys.intern, second))
    joined = pair_once(str.__add__, one, other)
    assert joined == [a + b for a, b in zip(first, second, strict=True)]
    assert each_once(len, joined) == list(map(len, joined))
    assert dict(Counter({(a, b): times for a, b, times in tally(one, other)})) == Counter(zip(first, second, strict=True))
    places = np.flatnonzero(rng.random(200) < 0.5).tolist()
    assert joined.take(places) == [joined[place] for place in places]
    assert sorted(joined.take(places).codes[1]) == sorted(set(joined.take(places)))  # and of no others: a label that is none is not asked
    assert each_once(str.upper, joined.take(places)) == [joined[place].upper() for place in places]
    assert joined.take(range(200)) is joined


def test_macro_f1_interval_equals_nested_loops() -> None:
    rng = np.random.default_rng(5)
    labels = [Plan(SPEEDS[rng.integers(4)], PATHS[rng.integers(5)]) for _ in range(30)]
    answers = [INVALID_PLAN if rng.random() < 0.2 else labels[i] if rng.random() < 0.5 else labels[0] for i in range(30)]
    scenes = [f"s{i % 5}" for i in range(30)]
    sums = by_scene(plan_statistics(labels, answers), scenes)
    found = bootstrap([sums], macro_f1_measure, resamples=120, seed=3)

    def value(taken: list[int]) -> float | None:
        return macro_f1_by_counting([labels[i] for i in taken], [answers[i] for i in taken])

    low, high, _ = bootstrap_by_loops(scenes, drawn_times(5, 120, 3), value)
    assert found.value == pytest.approx(macro_f1_by_counting(labels, answers))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_scenes_are_resampled_not_samples() -> None:
    """Two scenes, one all right and one all wrong: the mean of a resample can only be 0, 1/2 or 1."""
    hits = [True] * 50 + [False] * 50
    scenes = ["a"] * 50 + ["b"] * 50
    found = bootstrap([by_scene(hit_statistics(hits), scenes)], mean_measure, resamples=500)
    assert (found.low, found.value, found.high) == (0.0, 0.5, 1.0)


def test_the_same_answers_retain_exactly_one() -> None:
    scenes, before, _ = _questions(1)
    same = retention(hit_statistics(before), hit_statistics(before), scenes)
    assert (same.low, same.value, same.high) == (None, 1.0, None)  # no [100, 100]: resampling alike answers tells nothing
    scored = accuracy_retention(before, before, scenes)
    assert scored.value == 1.0 and scored.low is not None and scored.high is not None and scored.low < 1 < scored.high


def test_macro_f1_compares_the_same_classes() -> None:
    """One answer outside the labelled classes costs its own miss, not a tenth class of its own."""
    labels = [Plan("KEEP", "STRAIGHT")] * 99 + [Plan("STOP", "STRAIGHT")]
    after = [*labels[:98], Plan("ACCELERATE", "STRAIGHT"), labels[99]]
    scenes = [f"s{i // 5}" for i in range(100)]
    found = retention(plan_statistics(labels, after), plan_statistics(labels, labels), scenes, macro_f1_measure, 100)
    assert found.value == pytest.approx((2 * 98 / (98 + 99) + 1 + 1) / 3)
    assert macro_f1_by_counting(labels, after) == pytest.approx((2 * 98 / 197 + 1 + 0 + 1) / 4)  # the table's own macro-F1 counts four


def test_no_right_unpruned_answer_is_undefined_not_infinite() -> None:
    found = retention(hit_statistics([True, False]), hit_statistics([False, False]), ["a", "b"])
    assert (found.value, found.low, found.high) == (None, None, None)
    assert found.undefined == found.resamples


def test_one_scene_or_none_has_no_interval() -> None:
    one = retention(hit_statistics([True, False]), hit_statistics([True, True]), ["a", "a"])
    assert one == Interval(0.5, None, None, 1, 2000)
    none = retention(hit_statistics([]), hit_statistics([]), [])
    assert (none.value, none.scenes) == (None, 0)


def test_an_interval_says_what_it_is_made_from() -> None:
    """Score intervals resample nothing; a bootstrap says its resamples, and those in which the measure was undefined."""
    share = accuracy([True, False, True], ["a", "a", "b"])
    bounds = share_interval(np.array([1.0, 1.0]), np.array([2.0, 1.0]))
    assert share.to_dict() == {**bounds.to_dict(), "resamples": 0, "undefined": 0, "kind": "score"}
    assert accuracy([], []) == Interval(None, None, None, 0, 0, 0, "score")
    before, after = [True, False, False], [True, True, False]
    found = retention(hit_statistics(after), hit_statistics(before), ["a", "b", "c"], resamples=300, seed=1)
    without = int((drawn_times(3, 300, 1)[:, 0] == 0).sum())  # no scene with a right answer before
    assert (found.scenes, found.resamples, found.undefined, found.kind) == (3, 300, without, "bootstrap") and 50 < without < 150
    alike = retention(hit_statistics(before), hit_statistics(before), ["a", "b", "c"], resamples=300, seed=1)
    assert alike == Interval(1.0, None, None, 3, 300, without)
    with pytest.raises(ValueError, match="1 answers before, 2 after"):
        mcnemar([True], [True, False])


def test_without_resamples_there_is_no_interval() -> None:
    scenes, before, after = _questions(4)
    found = retention(hit_statistics(after), hit_statistics(before), scenes, resamples=0)
    assert (found.low, found.high, found.resamples) == (None, None, 0) and found.value == pytest.approx(sum(after) / sum(before))
    assert spearman([1.0, 2.0, 3.0], [1.0, 3.0, 2.0], ["a", "b", "c"], resamples=0) == {
        "value": pytest.approx(0.5),
        "low": None,
        "high": None,
        "count": 3,
        "scenes": 3,
    }


def test_seed_decides() -> None:
    scenes, before, after = _questions(4)
    intervals = [retention(hit_statistics(after), hit_statistics(before), scenes, seed=seed) for seed in (1, 1, 2)]
    assert intervals[0] == intervals[1]
    assert intervals[0] != intervals[2]


@settings(deadline=None)
@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_equals_the_sum_of_binomials(lost: int, gained: int) -> None:
    before = [True] * lost + [False] * gained + [True, False]
    after = [False] * lost + [True] * gained + [True, False]
    found = mcnemar(before, after)
    assert (found.lost, found.gained) == (lost, gained)
    assert found.p_value == pytest.approx(mcnemar_by_summing(lost, gained))
