"""Measures on counts against the loops of ``twins.py`` and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from senna_autoprune.evaluation.measures import metrics
from senna_autoprune.evaluation.measures.parsing import INVALID_PLAN, PATHS, SPEEDS, Plan, parse_motion, parse_road_users
from tests.evaluation.twins import macro_f1_by_counting

KEEP = Plan("KEEP", "STRAIGHT")
STOP = Plan("STOP", "STRAIGHT")
LEFT = Plan("KEEP", "LEFT_TURN")

plans = st.builds(Plan, st.sampled_from(SPEEDS), st.sampled_from(PATHS))
pairs = st.lists(st.tuples(plans, plans | st.just(INVALID_PLAN)), max_size=30)


@settings(max_examples=60, deadline=None)
@given(pairs)
def test_macro_f1_equals_the_counting_twin(rows: list[tuple[Plan, Plan]]) -> None:
    labels, answers = [row[0] for row in rows], [row[1] for row in rows]
    found = metrics.plan_measures(labels, answers)["macro_f1"]
    expected = macro_f1_by_counting(labels, answers)
    assert found == (pytest.approx(expected) if expected is not None else None)


def test_measures_by_hand() -> None:
    measures = metrics.plan_measures([KEEP, KEEP, STOP, LEFT], [KEEP, INVALID_PLAN, KEEP, LEFT])
    assert measures["count"] == 4
    assert measures["invalid"] == 1
    assert measures["exact_accuracy"] == 0.5
    assert measures["speed"]["accuracy"] == 0.5  # KEEP, KEEP (left turn)
    assert measures["path"]["accuracy"] == 0.75
    assert measures["speed"]["recall"] == {
        "KEEP": pytest.approx(2 / 3),
        "ACCELERATE": None,
        "DECELERATE": None,
        "STOP": 0.0,
    }
    assert measures["speed"]["f1"]["KEEP"] == pytest.approx(2 * 2 / (3 + 3))
    assert measures["macro_f1_classes"] == 4  # KEEP, STOP, STRAIGHT, LEFT_TURN
    assert measures["path"]["f1"]["STRAIGHT"] == pytest.approx(2 * 2 / (3 + 2))
    assert measures["macro_f1"] == pytest.approx((4 / 6 + 0.0 + 4 / 5 + 1.0) / 4)
    confusion = measures["speed"]["confusion"]
    assert confusion["columns"][-1] == "invalid"
    assert confusion["counts"][0] == [2, 0, 0, 0, 1]
    assert confusion["counts"][3] == [1, 0, 0, 0, 0]


def test_classes_only_answers_name_count_in_one_mean_alone() -> None:
    """KEEP and STOP are labels, ACCELERATE and LEFT_TURN only answers: five classes occur, three are labelled."""
    turn = Plan("ACCELERATE", "LEFT_TURN")
    measures = metrics.plan_measures([KEEP, KEEP, KEEP, STOP], [KEEP, STOP, INVALID_PLAN, turn])
    assert measures["macro_f1_classes"] == 5
    assert measures["macro_f1"] == pytest.approx((2 / 4 + 0 + 0 + 4 / 6 + 0) / 5)
    assert measures["macro_f1_labelled"] == pytest.approx((2 / 4 + 0 + 4 / 6) / 3)
    assert measures["speed"]["macro_f1"] == pytest.approx((2 / 4 + 0 + 0) / 3) and measures["path"]["macro_f1"] == pytest.approx(2 / 6)
    assert measures["path"]["recall"]["STRAIGHT"] == 0.5 and measures["path"]["f1"]["LEFT_TURN"] == 0


def test_nothing_measured_is_none_not_zero() -> None:
    measures = metrics.plan_measures([], [])
    assert measures["exact_accuracy"] is None
    assert measures["macro_f1"] is None
    assert metrics.agreement([], []) is None
    assert metrics.road_user_measures([], [])["precision"] is None


def test_a_label_outside_the_classes_is_an_error() -> None:
    with pytest.raises(ValueError, match="FLY"):
        metrics.confusion(["FLY"], ["KEEP"], SPEEDS)


def test_measures_take_leading_batch_axes() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 5, size=(7, 4, 5))
    together = metrics.macro_f1(counts)
    assert together.shape == (7,)
    assert together == pytest.approx([float(metrics.macro_f1(one)) for one in counts])
    other = rng.integers(0, 5, size=(7, 5, 6))
    for measure in (metrics.macro_f1, metrics.labelled_macro_f1):
        assert measure(counts, other) == pytest.approx([float(measure(*pair)) for pair in zip(counts, other, strict=True)])
    for measure in (metrics.class_f1, metrics.class_recall):
        assert measure(counts) == pytest.approx(np.stack([measure(one) for one in counts]), nan_ok=True)
    assert metrics.class_recall(counts)[0, 1] == counts[0, 1, 1] / counts[0, 1].sum()


def test_road_users_by_hand() -> None:
    yes = parse_road_users("Yes, I see a pedestrian located 10 meters ahead of me.")
    near = parse_road_users("Yes, I see a bicycle located 7 meters ahead of me.")
    no, bad = parse_road_users("No."), parse_road_users("Perhaps")
    measures = metrics.road_user_measures([yes, yes, no, no, yes, no], [near, no, no, yes, bad, bad])
    assert measures["confusion"] == {"tp": 1, "fp": 1, "fn": 2, "tn": 1}
    assert measures["precision"] == 0.5
    assert measures["recall"] == pytest.approx(1 / 3)
    assert measures["accuracy"] == pytest.approx(2 / 6)
    assert measures["f1"] == pytest.approx(2 / 5)
    assert measures["invalid"] == 2
    assert measures["distance_error_m"] == 3.0
    assert measures["distance_pairs"] == 1
    counts = metrics.road_user_measures([yes] * 5 + [no] * 7, [near] * 4 + [no] + [yes] * 2 + [no] * 3 + [bad] * 2)
    assert counts["confusion"] == {"tp": 4, "fp": 2, "fn": 1, "tn": 3} and (counts["count"], counts["invalid"]) == (12, 2)
    assert (counts["distance_error_m"], counts["distance_pairs"]) == (3.0, 4)


def test_motion_is_counted_per_object() -> None:
    label = parse_motion("Object 1: KEEP, STRAIGHT\nObject 2: STOP, STRAIGHT\n")
    answer = parse_motion("Object 1: KEEP, STRAIGHT\nObject 3: STOP, STRAIGHT\n")
    measures = metrics.motion_measures([label], [answer])
    assert measures["questions"] == 1
    assert measures["count"] == 2
    assert measures["invalid"] == 1
    assert measures["extra"] == 1
    assert metrics.motion_measures([label, label, {}], [answer, answer, answer])["extra"] == 4
    assert measures["exact_accuracy"] == 0.5


def test_light_classes() -> None:
    measures = metrics.class_measures(["red", "none", "none"], ["red", "invalid", "none"], ("red", "none"))
    assert measures["accuracy"] == pytest.approx(2 / 3)
    assert measures["invalid"] == 1
    assert measures["recall"] == {"red": 1.0, "none": 0.5}
    uneven = metrics.class_measures(["red", "red", "none", "none", "none"], ["invalid", "red", "red", "none", "none"], ("red", "none"))
    assert (uneven["count"], uneven["invalid"], uneven["macro_f1"]) == (5, 1, pytest.approx((2 / 4 + 4 / 5) / 2))


def test_a_road_user_label_says_yes_or_no() -> None:
    with pytest.raises(ValueError, match="a label of a road-user question begins with neither yes nor no"):
        metrics.road_user_measures([parse_road_users("Perhaps")], [parse_road_users("No.")])


def test_labels_and_answers_are_as_many() -> None:
    for measure in (metrics.motion_measures, metrics.road_user_measures, metrics.plan_measures):
        with pytest.raises(ValueError):
            measure([{}], [])
    with pytest.raises(ValueError):
        metrics.confusion(["KEEP"], [], SPEEDS)
