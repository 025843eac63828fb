"""Every recorded row of the label rules, and the properties the recordings only sample."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from senna_autoprune.nuscenes import rules
from tests.fixtures import shared


def recorded(name: str) -> list[dict]:
    return json.loads(shared("fixtures", "senna-qa", name).read_text())


def outcome(rule, *args):
    """What a recording says of a call: its value, or that it raised (ours raises ValueError whatever it did)."""
    try:
        return {"out": rule(*args)}
    except ValueError:
        return "raised"


def expected(record: dict):
    return "raised" if "exception" in record else {"out": record["out"]}


@pytest.mark.parametrize("dtype,suffix", [(np.float64, ""), (np.float32, "_f32")])
def test_trajectory_rules_equal_every_recording(dtype, suffix):
    rows = recorded("trajectory_rules.json")
    for row in rows:
        track = np.array(row["traj"], dtype=dtype).reshape(-1, 2)
        assert outcome(rules.speed_behaviour, track) == expected(row["acc_or_dec" + suffix]), row["traj"]
        assert outcome(rules.path_behaviour, track) == expected(row["turn_or_lane" + suffix]), row["traj"]
    assert len(rows) > 0


def test_sector_equals_every_recording():
    rows = recorded("rel_position.json")
    for row in rows:
        assert outcome(rules.sector, row["loc"]) == expected(row), row
        assert outcome(rules.sector, np.array(row["loc"])) == expected(row), row
    assert {row["out"] for row in rows} == {view for view, *_ in rules._SECTORS}


def test_navigation_command_equals_every_recording():
    rows = recorded("navi_command.json")
    for row in rows:
        assert rules.navigation_command(row["final_xy"], "reference") == row["ego_navi_cmd"], row
        assert list(rules.future_command(row["final_xy"])) == row["gt_ego_fut_cmd"], row
    assert {row["ego_navi_cmd"] for row in rows} == set(rules.NAVIGATION_COMMANDS)


def test_fixed_navigation_is_the_reference_rule_on_turned_axes():
    # the released rule reads (x, y) as (forward, left): give it just that
    for row in recorded("navi_command.json"):
        forward, left = row["final_xy"]
        assert rules.navigation_command((-left, forward), "fixed") == row["ego_navi_cmd"]


@pytest.mark.parametrize(
    "right,forward,fixed,reference",
    [
        (0.0, 60.0, "go straight", "turn left"),  # straight on for 60 m: why the fixed rule exists
        (0.0, 0.0, "go straight", "go straight"),
        (-15.0, 40.0, "go straight and turn left", "turn left"),
        (15.0, 40.0, "go straight and turn right", "turn left"),
        (-10.0, 19.99, "turn left", "turn left"),
        (10.0, 5.0, "turn right", "go straight"),
        (25.0, 10.0, "turn right", "go straight and turn left"),
        (math.nan, 50.0, "go straight", "go straight"),
    ],
)
def test_navigation_variants(right, forward, fixed, reference):
    assert rules.navigation_command((right, forward)) == fixed
    assert rules.navigation_command((right, forward), "reference") == reference
    assert rules.navigation_command((right, forward), "none") == "go straight"


def test_unknown_navigation_variant_raises():
    with pytest.raises(ValueError, match="sideways"):
        rules.navigation_command((0, 0), "sideways")  # type: ignore[arg-type]


def test_one_point_has_a_path_but_no_speed():
    point = np.array([[6.0, 6.0]])
    assert rules.path_behaviour(point) == "right turn"
    with pytest.raises(ValueError, match="at least two points"):
        rules.speed_behaviour(point)
    with pytest.raises(ValueError, match="at least one point"):
        rules.path_behaviour(point[:0])


def test_nan_position_has_no_sector():
    with pytest.raises(ValueError, match=r"position \(nan, 1.0\) lies in no view"):
        rules.sector((math.nan, 1.0))


def test_borders_are_as_strict_as_the_original():
    assert rules.path_behaviour(np.array([[4.0, 1.0]])) == "straight"  # right: strict
    assert rules.path_behaviour(np.array([[-4.0, 1.0]])) == "left turn"  # left: not strict
    assert rules.path_behaviour(np.array([[-4.1, 46.863214441321524]])) == "left turn"  # 5.0 degrees to the last bit: a turn
    steps = np.array([0.0, 1.0, 3.5, 6.0])  # speeds 2, 5, 5: +3 is accelerating
    assert rules.speed_behaviour(np.stack([0 * steps, steps], axis=1)) == "accelerate"
    assert rules.speed_behaviour(np.array([[0.0, 0.0], [0.0, 1.0]])) == "const"  # 2.0 m/s is not below 2.0
    assert rules.speed_behaviour(np.array([[0.0, 0.0], [0.0, 0.999]])) == "stop"


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_every_finite_position_has_a_sector(x, y):
    assert rules.sector((x, y)) in {view for view, *_ in rules._SECTORS}


@given(st.lists(st.tuples(st.floats(-60, 60), st.floats(-60, 60)), min_size=2, max_size=8))
def test_speed_ignores_where_the_track_lies_and_path_only_sees_its_end(points):
    track = np.round(np.array(points), 3)
    assert rules.path_behaviour(track) == rules.path_behaviour(track[-1:])
    assert rules.speed_behaviour(track) == rules.speed_behaviour(track[:, ::-1])  # speeds have no axes


def test_plan_label_speaks_the_answer_words():
    straight_on = np.stack([np.zeros(6), np.arange(1, 7) * 5.0], axis=1)
    assert rules.plan_label(straight_on) == ("KEEP", "STRAIGHT")


def test_rules_need_neither_devkit_nor_torch():
    code = "import sys, senna_autoprune.nuscenes.rules; print({'torch', 'nuscenes', 'cv2'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
