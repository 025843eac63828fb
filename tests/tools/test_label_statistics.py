"""What the real data says: counts over every val keyframe, through the package's own rules."""

from __future__ import annotations

import json

import numpy as np
import pytest

from senna_autoprune.errors import SennaPruneError
from tests.fixtures import shared
from tools.maintain.label_statistics import label_table, tangent_headings


@pytest.fixture(scope="module")
def val():
    return label_table(shared("nuscenes", "ego_trajectories", "ego_trajectories_val.json"))


def test_plan_labels_of_val(val):
    assert (val.keyframes, val.questions) == (6019, 5119)
    assert val.questions == val.keyframes - 150 * 6  # the last six keyframes of each scene have no plan
    assert round(100 * val.share("KEEP, STRAIGHT"), 1) == 73.6
    assert round(100 * val.share("STOP, STRAIGHT"), 1) == 19.0
    rest = 1 - val.share("KEEP, STRAIGHT") - val.share("STOP, STRAIGHT")
    assert round(100 * rest, 1) == 7.4
    assert sum(val.labels.values()) == val.questions


def test_navigation_commands_of_val(val):
    assert round(100 * val.command_share("reference", "turn left")) == 77
    assert round(100 * val.command_share("fixed", "go straight")) == 92
    assert all(sum(counts.values()) == val.questions for counts in val.commands.values())


def test_markdown_holds_the_counts(val):
    text = val.to_markdown()
    assert f"| label | KEEP, STRAIGHT | {val.labels['KEEP, STRAIGHT']} | 73.6 % |" in text
    assert text.startswith("| val: 5119 plan questions |")


def test_heading_is_the_tangent_held_through_standstill():
    times = np.arange(6) / 2
    east = np.array([[0, 0], [0, 0], [1, 0], [2, 0], [2, 0], [2, 0]], dtype=float)
    np.testing.assert_allclose(tangent_headings(east, times), 0.0)
    np.testing.assert_allclose(tangent_headings(east[:, ::-1], times), np.pi / 2)
    np.testing.assert_allclose(tangent_headings(np.zeros((6, 2)), times), 0.0)
    turn = np.concatenate([east, [[2, 1], [2, 2]]])
    np.testing.assert_allclose(tangent_headings(turn, np.arange(8) / 2)[-2:], np.pi / 2)


@pytest.mark.parametrize("content", ["{}", "[1]", "{", json.dumps({"scenes": {"x": [{"trajectory": [1]}]}})])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "t.json"
    path.write_text(content)
    with pytest.raises(SennaPruneError, match=r"t\.json: not an ego-trajectory file"):
        label_table(path)
