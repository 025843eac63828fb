"""L2 and collision of waypoints on the real futures of nuScenes mini, against slow twins."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pydantic import ValidationError

from senna_autoprune import SennaPruneError
from senna_autoprune.adapters.answers import Invalid, Waypoints, parse
from senna_autoprune.adapters.schema import Parse, Score
from senna_autoprune.adapters.waypoints import at_steps, collisions, waypoint_measures, waypoint_row
from senna_autoprune.nuscenes.futures import Future, future_of
from senna_autoprune.nuscenes.scenes import keyframes_of, load_tables
from tests.adapters import twins
from tests.fixtures import shared


@pytest.fixture(scope="module")
def mini():
    return load_tables(shared("nuscenes", "mini_meta"), "v1.0-mini")


@pytest.fixture(scope="module")
def samples(mini):
    """Every sixth keyframe of two scenes with exact poses, and the last three of one, whose future is cut off."""
    tokens = []
    for name in ("scene-0103", "scene-0916"):
        scene = next(row for row in mini.scene if row["name"] == name)
        tokens += [keyframe["token"] for keyframe in keyframes_of(mini, scene)][::6]
    return [*tokens, *[keyframe["token"] for keyframe in keyframes_of(mini, scene)][-4:-1]]


def test_futures_are_the_devkits(mini, samples):
    boxes = 0
    for token in samples:
        ours, (path, corners) = future_of(mini, token), twins.future(mini, token)
        assert ours.valid.tolist() == [place is not None for place in path]
        for step in range(6):
            if path[step] is not None:
                np.testing.assert_allclose(ours.path[step], path[step], atol=1e-9)
            assert len(ours.boxes[step]) == len(corners[step])
            for (x, y, length, width, yaw), theirs in zip(ours.boxes[step], corners[step], strict=True):
                np.testing.assert_allclose(twins.corners(x, y, length, width, yaw), theirs, atol=1e-9)
                boxes += 1
    assert boxes > 1000


def plans(future, seed):
    """The truth, too fast, drifting sideways, noisy: some of them strike something."""
    truth = np.where(np.isnan(future.path), 0.0, future.path)
    rng = np.random.default_rng(seed)
    drift = np.arange(1, 7)[:, None] * np.array([[0.8, 0.0]])
    return [truth, 2.5 * truth, truth + drift, truth - 1.5 * drift, truth + rng.normal(size=(6, 2)), np.zeros((6, 2))]


@pytest.mark.parametrize("heading", ["path", "fixed"])
def test_l2_and_collision_equal_the_slow_twin(mini, samples, heading):
    score, struck, cut = Score(heading=heading), 0, 0
    for seed, token in enumerate(samples):
        future, slow = future_of(mini, token), twins.future(mini, token)
        for plan in plans(future, seed):
            ours = waypoint_row(Waypoints(plan, 0.5), future, score)
            theirs = twins.row([tuple(point) for point in plan], *slow, turned=heading == "path")
            assert ours.keys() == theirs.keys()
            for name, value in theirs.items():
                assert ours[name] == (pytest.approx(value, abs=1e-9) if value is not None else None), (token, name)
            struck += theirs["collision_stp3_3s"] not in (0, None)
            cut += theirs["l2_uniad_3s"] is None
    assert struck >= 10 and cut == 5 * 6


def test_means_are_over_the_plans_that_have_the_figure(mini, samples):
    futures = [future_of(mini, token) for token in samples]
    answers = [Waypoints(plans(future, seed)[4], 0.5) for seed, future in enumerate(futures)]
    answers[0] = Invalid("I would slow down", "no pairs")
    answers[1] = Waypoints(answers[1].points[:4], 0.5)
    found = waypoint_measures(answers, futures, Score())
    assert (found["count"], found["invalid"], found["short"]) == (len(samples), 1, 1)
    assert found["l2_m"]["uniad"]["3s"]["count"] == sum(future.valid.all() for future in futures) - 2 == len(samples) - 5 - 2
    assert found["l2_m"]["uniad"]["2s"]["count"] == sum(future.valid[3] for future in futures) - 1
    rows = [waypoint_row(answer, future, Score()) for answer, future in zip(answers, futures, strict=True)]
    values = [row["l2_stp3_1s"] for row in rows if row["l2_stp3_1s"] is not None]
    assert found["l2_m"]["stp3"]["1s"] == {"value": pytest.approx(sum(values) / len(values)), "count": len(values)}
    assert found["l2_m"]["stp3"]["3s"]["value"] < found["l2_m"]["uniad"]["3s"]["value"] + 1


def test_the_two_conventions_by_hand():
    """A plan that falls back by 1 m each half second, and a box struck at 2.5 s alone."""
    path = np.stack([np.zeros(6), np.arange(1, 7) * 5.0], axis=-1)
    box = np.array([[0.0, 20.0, 2.0, 2.0, 0.0]])
    future = Future(path, np.ones(6, dtype=bool), [np.zeros((0, 5))] * 4 + [box] + [np.zeros((0, 5))])
    plan = path - np.stack([np.zeros(6), np.arange(1, 7)], axis=-1)  # 20 m ahead after 2.5 s
    row = waypoint_row(Waypoints(plan, 0.5), future, Score())
    assert row["l2_uniad_1s"] == 2 and row["l2_stp3_1s"] == 1.5 and row["l2_uniad_3s"] == 6 and row["l2_stp3_3s"] == 3.5
    assert row["collision_uniad_3s"] == 0 and row["collision_stp3_3s"] == pytest.approx(1 / 6) and row["collision_stp3_2s"] == 0


def test_a_box_that_only_touches_is_no_collision():
    boxes = [np.array([[0.0, 5.0 + 0.5 + 4.084 / 2 + 1.0, 2.0, 2.0, 0.0]])]
    assert not collisions(np.array([[0.0, 5.0]]), boxes)[0]
    assert collisions(np.array([[0.0, 5.001]]), boxes)[0]


def test_axes_and_steps_are_turned_into_the_true_paths():
    text = "Here: [[1.0, 0.5], [2.0, 1.0]]"
    ahead_left = parse(text, Parse(kind="waypoints", axes="forward-left", dt=0.5))
    assert ahead_left.right_forward().tolist() == [[-0.5, 1.0], [-1.0, 2.0]]
    assert parse(text, Parse(kind="waypoints", axes="forward-right")).right_forward().tolist() == [[0.5, 1.0], [1.0, 2.0]]
    fine = Waypoints(np.arange(24).reshape(12, 2) * 1.0, 0.25)
    assert at_steps(fine, 6).tolist() == fine.points[1::2].tolist()
    with pytest.raises(SennaPruneError, match=r"every 0\.4 s do not fall"):
        at_steps(Waypoints(np.zeros((3, 2)), 0.4), 6)
    with pytest.raises(ValidationError, match="whole half seconds"):
        Score(horizons_s=(0.7,))
    assert math.isclose(np.linalg.norm(ahead_left.right_forward()), np.linalg.norm(ahead_left.points))
