"""Severity of changed answers: the worst that fits, and only what pruning made worse."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from senna_autoprune.evaluation.measures.flips import HARMLESS, SEVERITIES, Flip, flip_table, meanings, plan_severity, severity, sort_flips
from senna_autoprune.evaluation.measures.parsing import INVALID_PLAN, PATHS, SPEEDS, Plan

NO = "No, I don't see any."
YES = "Yes, I see a bicycle located 3 meters ahead of me."


@pytest.mark.parametrize(
    ("label", "unpruned", "pruned", "expected"),
    [
        ("STOP, STRAIGHT", "STOP, STRAIGHT", "KEEP, STRAIGHT", "missed_brake"),
        ("DECELERATE, STRAIGHT", "STOP, STRAIGHT", "ACCELERATE, LEFT_TURN", "missed_brake"),
        ("STOP, STRAIGHT", "STOP, STRAIGHT", "garbage", "missed_brake"),
        ("STOP, STRAIGHT", "KEEP, STRAIGHT", "ACCELERATE, STRAIGHT", "both_wrong"),
        ("STOP, STRAIGHT", "STOP, STRAIGHT", "DECELERATE, STRAIGHT", "wrong_speed"),
        ("KEEP, LEFT_TURN", "KEEP, LEFT_TURN", "KEEP, RIGHT_CHANGE", "wrong_side"),
        ("KEEP, LEFT_TURN", "KEEP, STRAIGHT", "KEEP, RIGHT_TURN", "wrong_side"),
        ("KEEP, LEFT_TURN", "KEEP, RIGHT_CHANGE", "KEEP, RIGHT_TURN", "both_wrong"),
        ("KEEP, STRAIGHT", "KEEP, STRAIGHT", "KEEP, RIGHT_TURN", "wrong_path"),
        ("KEEP, LEFT_TURN", "KEEP, LEFT_TURN", "KEEP, LEFT_CHANGE", "wrong_path"),
        ("KEEP, STRAIGHT", "KEEP, STRAIGHT", "", "no_answer"),
        ("KEEP, STRAIGHT", "KEEP, STRAIGHT", "STOP, STRAIGHT", "false_brake"),
        ("ACCELERATE, STRAIGHT", "ACCELERATE, STRAIGHT", "KEEP, STRAIGHT", "wrong_speed"),
        ("KEEP, STRAIGHT", "STOP, STRAIGHT", "KEEP, STRAIGHT", "repaired"),
        ("KEEP, STRAIGHT", "", "KEEP, STRAIGHT", "repaired"),
        ("KEEP, STRAIGHT", "a", "b", "both_wrong"),
        ("KEEP, STRAIGHT", "KEEP, STRAIGHT", "KEEP,STRAIGHT", "wording"),
        ("no label", "STOP, STRAIGHT", "KEEP, STRAIGHT", "missed_brake"),
        ("no label", "a", "KEEP, STRAIGHT", "both_wrong"),
    ],
)
def test_plan_table(label: str, unpruned: str, pruned: str, expected: str) -> None:
    assert severity("plan", label, unpruned, pruned) == expected


plans = st.builds(Plan, st.sampled_from(SPEEDS), st.sampled_from(PATHS))
answers = plans | st.just(INVALID_PLAN)


@settings(deadline=None)
@given(plans, answers, answers)
def test_right_answers_are_never_harmful_and_lost_ones_always_are(label: Plan, unpruned: Plan, pruned: Plan) -> None:
    found = plan_severity(label, unpruned, pruned)
    assert found in SEVERITIES
    if pruned == label:
        assert found in HARMLESS
    elif unpruned == label:
        assert found not in HARMLESS


@pytest.mark.parametrize(
    ("kind", "label", "unpruned", "pruned", "expected"),
    [
        ("vru", YES, YES, NO, "missed_road_user"),
        ("vru", YES, YES, "Hm", "missed_road_user"),
        ("vru", NO, NO, YES, "false_road_user"),
        ("vru", NO, NO, "Hm", "no_answer"),
        ("vru", YES, NO, YES, "repaired"),
        ("vru", YES, YES, "Yes.", "wording"),
        ("vru", "?", YES, NO, "missed_road_user"),
        ("vru", "?", NO, YES, "false_road_user"),
        ("vru", "?", "Hm", YES, "both_wrong"),
        ("vru", YES, "Hm", "Eh", "both_wrong"),
        ("vru", YES, NO, "Hm", "no_answer"),
        ("vru", YES, "Hm", NO, "both_wrong"),
        ("light", "Red", "Red", "Green", "broken"),
        ("light", "Red", "Green", "Red", "repaired"),
        ("light", "Red", "Hm", "Eh", "both_wrong"),
        ("light", "Red", "Green", "Yellow", "both_wrong"),
        ("light", "Red", "red", "Red.", "wording"),
        ("motion", "Object 1: KEEP, STRAIGHT", "Object 1: KEEP, STRAIGHT", "Object 1: STOP, STRAIGHT", "broken"),
        ("description", "a b", "a b", "a c", "broken"),
    ],
)
def test_other_types(kind: str, label: str, unpruned: str, pruned: str, expected: str) -> None:
    assert severity(kind, label, unpruned, pruned) == expected


def test_table_counts_and_order() -> None:
    def flip(question: int, name: str) -> Flip:
        return Flip(question, f"t{question}", "s", "plan", "autoprune", name, "", "", "")

    flips = [flip(3, "repaired"), flip(2, "wrong_path"), flip(5, "missed_brake"), flip(1, "wrong_path")]
    assert [f.question for f in sort_flips(flips)] == [5, 1, 2, 3]
    table = flip_table(flips, compared=8)
    assert (table["flips"], table["rate"], table["harmful"], table["harmful_rate"]) == (4, 0.5, 3, 0.375)
    assert next(iter(table["by_severity"])) == "missed_brake"
    assert table["by_severity"]["wrong_path"] == {"count": 2, "rate": 0.25, "meaning": SEVERITIES["wrong_path"]}
    assert SEVERITIES["wrong_path"] == "unpruned had the path right, pruned has not"
    assert meanings("A", "B")["wrong_path"] == "A had the path right, B has not"
    assert flip_table([], compared=0)["rate"] is None
