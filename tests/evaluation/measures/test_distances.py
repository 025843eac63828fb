"""Paired distances over scenes: by hand, and against scipy's t test where no scene is thought in."""

from __future__ import annotations

from math import inf, nan, sqrt

import numpy as np
import pytest
from scipy.stats import norm, t, ttest_1samp

from senna_autoprune.evaluation.measures.distances import LOST, MOVED, Gains


def test_sums_of_scenes_by_hand() -> None:
    """Scene a gains 2 and loses 1, b has one distance of two, c none: it still is a scene."""
    found = Gains.of([3.0, 1.0, 5.0, nan, 4.0], [1.0, 2.0, 5.5, 1.0, inf], ["a", "a", "b", "b", "c"], 0.5)
    assert found.gain.tolist() == [1.0, -0.5, 0.0] and found.moved.tolist() == [3.0, 0.5, 0.0] and found.count.tolist() == [2, 1, 0]
    assert (found.scenes, found.questions, found.event) == (3, 3.0, 0.5) and found.gap is found.gain
    assert found.difference == pytest.approx(0.5 / 3) and found.changed == pytest.approx(3.5 / 3)
    assert found.typical == pytest.approx(sqrt((0.5**2 + 0.5**2) / 2))
    assert found.reversed.difference == -found.difference and found.reversed.changed == found.changed
    some = found.take(np.array([1, 0]))
    assert (some.gain.tolist(), some.moved.tolist(), some.count.tolist(), some.event) == ([-0.5, 1.0], [0.5, 3.0], [1, 2], 0.5)
    back = found.reversed.take(np.array([0]))
    assert (back.gain.tolist(), back.moved.tolist(), back.count.tolist(), back.event) == ([-1.0], [3.0], [2], 0.5)
    with pytest.raises(ValueError, match="1 distances before, 2 after, 1 clusters"):
        Gains.of([1.0], [1.0, 2.0], ["a"])


def test_without_an_event_it_is_students_test() -> None:
    loss = np.random.default_rng(2).normal(0.05, 0.4, 30)
    found = Gains.of(np.zeros(30), loss, range(30))
    score, bound = found.test(0.2, 0.05, 0.05)
    assert found.spread() == pytest.approx(loss.std(ddof=1))
    assert 1 - norm.cdf(score) == pytest.approx(ttest_1samp(-loss, -0.2, alternative="greater").pvalue)
    assert bound == pytest.approx(-loss.mean() - t.ppf(0.95, 29) * loss.std(ddof=1) / sqrt(30))
    assert found.test(0.2, 0.05, 0.01)[1] < bound


def test_scenes_weigh_by_their_questions() -> None:
    """The mean is over questions; its error from the scenes' sums of residuals."""
    found = Gains.of(np.zeros(6), [1.0, 2.0, 0.0, 0.5, 0.0, 1.0], ["a", "a", "a", "b", "c", "c"])
    residuals = [-3.0 + 0.75 * 3, -0.5 + 0.75, -1.0 + 0.75 * 2]
    assert found.difference == -0.75 and found.spread() == pytest.approx(sqrt(sum(r * r for r in residuals) / 2) / 2)


def test_events_thought_in_lower_the_mean_and_widen_the_bound() -> None:
    """40 scenes without a change and events of 2 m."""
    found = Gains.of(np.zeros(40), np.zeros(40), range(40), 2.0)
    spread = sqrt(MOVED * 2.0**2 / 39)
    middle = -LOST * 2.0 / 40
    score, bound = found.test(0.3, 0.05, 0.05)
    assert found.spread() == pytest.approx(spread) and bound == pytest.approx(middle - t.ppf(0.95, 39) * spread / sqrt(40))
    assert norm.cdf(score) == pytest.approx(t.cdf((middle + 0.3) / (spread / sqrt(40)), 39))
    twice = Gains.of(np.zeros(80), np.zeros(80), [i // 2 for i in range(80)], 2.0)  # two questions a scene: as sure of the mean
    assert twice.spread() == pytest.approx(spread)


def test_certain_and_single_scenes() -> None:
    same = Gains.of(np.ones(5), np.ones(5), range(5))
    assert (
        same.test(0.1, 0.05, 0.05) == (12.0, 0.0) and same.test(-0.1, 0.05, 0.05)[0] == -12.0 and same.test(0.0, 0.05, 0.05) == (0.0, 0.0)
    )
    one = Gains.of([1.0, 1.0], [1.5, 1.5], ["a", "a"])
    assert one.spread() == 0.0 and one.test(0.1, 0.05, 0.05) == (-12.0, -0.5)
    sure = Gains.of(np.zeros(200), np.linspace(0.999, 1.001, 200), range(200))
    assert sure.test(5.0, 0.05, 0.05)[0] == 12.0 and sure.test(0.5, 0.05, 0.05)[0] == -12.0
    assert Gains.of([], [], []).typical == 0.0


def test_scenes_needed_show_it_with_the_power_asked_for() -> None:
    """With as many scenes the test succeeds that often; where nothing is seen, the events thought in decide."""
    loss = np.random.default_rng(3).normal(0.1, 0.5, 400)
    found = Gains.of(np.zeros(400), loss, range(400))
    needed = found.scenes_needed(0.3, 0.05, 0.8)
    room = 0.3 - loss.mean()
    assert needed == pytest.approx(((norm.ppf(0.8) + norm.ppf(0.95)) * loss.std(ddof=1) / room) ** 2)
    assert norm.cdf(room * sqrt(needed) / loss.std(ddof=1) - norm.ppf(0.95)) == pytest.approx(0.8)
    assert found.scenes_needed(0.05, 0.05, 0.8) == inf == found.scenes_needed(loss.mean(), 0.05, 0.8)
    better = Gains.of(loss, np.zeros(400), range(400))  # a gain makes no more room than none
    assert better.scenes_needed(0.3, 0.05, 0.8) == pytest.approx(((norm.ppf(0.8) + norm.ppf(0.95)) * loss.std(ddof=1) / 0.3) ** 2)
    nothing = Gains.of(np.zeros(4000), np.zeros(4000), range(4000), 2.0)
    assert nothing.scenes_needed(0.5, 0.05, 0.8) == pytest.approx((LOST + sqrt(MOVED) * norm.ppf(0.95)) * 2.0 / 0.5)
