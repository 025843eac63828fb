"""Half seconds ahead: against slow twins, and on every recorded path of nuScenes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from senna_autoprune.nuscenes.timeline import LONGEST_GAP_S, resampled, steps_ahead
from tests.fixtures import shared


def slow_steps(times: list[float], i: int, most: int) -> int:
    count = 0
    for k in range(1, most + 1):
        if i + k >= len(times):
            break
        step, due = times[i + k] - times[i + k - 1], abs(times[i + k] - times[i] - 0.5 * k)
        if not (0.25 <= step <= 0.8 and due <= 0.5):
            break
        count = k
    return count


def slow_resampled(times: list[float], positions: np.ndarray, start: float, most: int) -> list[np.ndarray]:
    found: list[np.ndarray] = []
    gaps = [(a, b) for a, b in zip(times, times[1:], strict=False) if b - a > LONGEST_GAP_S]
    for k in range(most + 1):
        t = start + 0.5 * k
        pairs = [(a, b) for a, b in zip(range(len(times) - 1), range(1, len(times)), strict=True) if times[a] <= t <= times[b]]
        exact = [a for a in range(len(times)) if times[a] == t]
        if not pairs and not exact:
            break
        crossed = any(a >= start and t > a for a, _ in gaps)
        inside = exact or any(times[b] - times[a] <= LONGEST_GAP_S for a, b in pairs)
        if crossed or not inside:
            break
        if exact:
            found.append(positions[exact[0]])
        else:
            a, b = pairs[0]
            share = (t - times[a]) / (times[b] - times[a])
            found.append(positions[a] + share * (positions[b] - positions[a]))
    return found


STEPS = st.lists(st.sampled_from([0.1, 0.24, 0.25, 0.4, 0.5, 0.6, 0.75, 0.8, 0.9, 1.0, 1.5, 1.6, 20.0]), min_size=0, max_size=30)


@settings(deadline=None, max_examples=300)
@given(STEPS, st.integers(0, 30), st.sampled_from([6, 12]))
def test_steps_equal_the_slow_twin(steps, i, most):
    times = np.concatenate([[0.0], np.cumsum(steps)])
    i = min(i, len(times) - 1)
    assert steps_ahead(times, i, most) == slow_steps(times.tolist(), i, most)


@settings(deadline=None, max_examples=300)
@given(STEPS, st.floats(-1, 12))
def test_positions_equal_the_slow_twin(steps, start):
    times = np.concatenate([[0.0], np.cumsum(steps)])
    positions = np.random.default_rng(len(steps)).normal(size=(len(times), 3))
    fast, slow = resampled(times, positions, start, 12), slow_resampled(times.tolist(), positions, start, 12)
    assert len(fast) == len(slow)
    if slow:
        np.testing.assert_allclose(fast, np.array(slow), atol=1e-9)


def test_no_horizon_of_nuscenes_is_lost():
    """Every keyframe of all 850 scenes that has six, or twelve, ahead still has them."""
    for part in ("train", "val"):
        data = json.loads(shared("nuscenes", "ego_trajectories", f"ego_trajectories_{part}.json").read_text())
        for scene in (scene for group in data["scenes"].values() for scene in group):
            times = np.array(scene["timestamps"]) / 1e6
            for i in range(len(times)):
                assert steps_ahead(times, i, 12) == min(12, len(times) - 1 - i)


@pytest.mark.parametrize(("step", "plan"), [(0.5, True), (0.42, True), (0.41, False), (0.58, True), (0.59, False), (1.0, False)])
def test_a_plans_horizon_is_three_seconds_give_or_take_half_a_second(step, plan):
    assert (steps_ahead(np.arange(20) * step, 3, 12) >= 6) is plan
