"""Score intervals against likelihoods maximised numerically, and their coverage over scenes."""

from __future__ import annotations

import numpy as np
import pytest

from senna_autoprune.evaluation.measures.clusters import by_cluster, clusters_of, scene_warning
from senna_autoprune.evaluation.measures.intervals import (
    Paired,
    design_effect,
    difference_interval,
    difference_score,
    mean_interval,
    ratio_interval,
    ratio_score,
    scenes_upper,
    share_interval,
)
from tests.evaluation.measures.twins import restricted_score
from tools.maintain import simulate as simulated


@pytest.mark.parametrize("cells", [(60, 8, 4, 100), (40, 3, 9, 60), (150, 5, 1, 206)])
def test_scores_equal_the_maximised_likelihood(cells: tuple[float, float, float, float]) -> None:
    for null in (-0.08, 0.03):
        assert difference_score(cells[1], cells[2], cells[3], null) == pytest.approx(restricted_score(*cells, null, "difference"), abs=1e-4)
    for null in (0.9, 1.1):
        assert ratio_score(*cells, null) == pytest.approx(restricted_score(*cells, null, "ratio"), abs=1e-4)


def test_no_flip_still_leaves_a_bound() -> None:
    """206 questions of 67 scenes without one flip: Tango's bound of independent ones is 1.8 points, ours is no narrower."""
    count, none = np.array([3.0] * 62 + [4.0] * 5), np.zeros(67)
    same = Paired(count, none, none, count)
    gap, kept = difference_interval(same), ratio_interval(same)
    assert gap.value == 0 and kept.value == 1
    assert gap.low is not None and -0.03 < gap.low < -0.018
    assert kept.low is not None and kept.high is not None and 0.97 < kept.low < 0.982 and kept.high > 1.018


def test_whole_scenes_that_flip_widen_the_interval() -> None:
    clusters = [f"s{i // 5}" for i in range(100)]
    before = [True] * 100
    spread = [i % 5 != 0 or i >= 50 for i in range(100)]  # one answer lost in each of ten scenes
    together = [i >= 10 for i in range(100)]  # two scenes lost as wholes
    narrow, wide = (difference_interval(Paired.of(before, after, clusters)) for after in (spread, together))
    assert narrow.value == wide.value == -0.1
    assert narrow.low is not None and wide.low is not None and wide.low < narrow.low - 0.05
    assert wide.design_effect is not None and narrow.design_effect is not None and wide.design_effect > 3 > narrow.design_effect


def test_retention_interval_holds_its_value_and_undefined_is_none() -> None:
    pairs = Paired.of([True, True, False, False], [True, False, False, True], ["a", "a", "b", "c"])
    found = ratio_interval(pairs)
    assert found.value == 1.0 and found.low is not None and found.high is not None and found.low < 1 < found.high
    nothing = ratio_interval(Paired.of([False, False], [True, False], ["a", "b"]))
    assert (nothing.value, nothing.low, nothing.high) == (None, None, None)
    one_scene = ratio_interval(Paired.of([True, True], [True, False], ["a", "a"]))
    assert (one_scene.value, one_scene.low) == (0.5, None)


def test_share_interval_of_independent_questions_is_wilsons() -> None:
    """One question a scene: Wilson's interval, but for t in place of z."""
    hits = np.array([1.0] * 81 + [0.0] * 182)
    found = share_interval(hits, np.ones(263))
    assert (found.low, found.high) == (pytest.approx(0.2553, abs=2e-3), pytest.approx(0.3662, abs=2e-3))  # Newcombe (1998)


def test_design_effect_of_copies_is_their_number() -> None:
    """Five copies of each answer in a scene say as much as one."""
    rng = np.random.default_rng(0)
    once = (rng.random(400) < 0.5).astype(float)
    p = once.mean()
    found = design_effect(5 * (once - p), 2000 * p * (1 - p), 400, np.full(400, 5.0), 0.975)
    assert found == pytest.approx(5, rel=0.02)


def test_bounds_of_scenes_are_exact() -> None:
    """P(no more than k events | bound) is just 5 %."""
    from scipy.stats import binom

    assert scenes_upper(0, 67) == pytest.approx(1 - 0.05 ** (1 / 67))
    assert binom.cdf(3, 67, scenes_upper(3, 67)) == pytest.approx(0.05)
    assert (scenes_upper(5, 5), scenes_upper(0, 0)) == (1.0, None)


def test_mean_interval_is_students_for_single_questions() -> None:
    from scipy.stats import sem, t

    values = np.random.default_rng(1).normal(2, 1, size=30)
    found = mean_interval(values, np.ones(30))
    half = t.ppf(0.975, 29) * sem(values)
    assert (found.low, found.high) == (pytest.approx(values.mean() - half), pytest.approx(values.mean() + half))


@pytest.mark.parametrize(("scenes", "lost", "gained"), [(67, 0.03, 0.01), (40, 0.05, 0.03)])
def test_coverage_over_correlated_scenes(scenes: int, lost: float, gained: float) -> None:
    """A small part of docs/results/statistics.md: 400 simulated runs, three questions a scene, correlation 0.1."""
    rng = np.random.default_rng(7)
    inside = 0
    for _ in range(400):
        found = difference_interval(simulated.scenes(rng, scenes, 3, lost, gained, 0.1))
        assert found.low is not None and found.high is not None
        inside += found.low <= gained - lost <= found.high
    assert 0.925 <= inside / 400 <= 0.99


def test_one_partition_for_all() -> None:
    class Asked:
        def __init__(self, scene: str) -> None:
            self.scene = scene

    assert clusters_of([Asked("b"), Asked("a"), Asked("b")]) == ["b", "a", "b"]
    assert by_cluster(np.array([1.0, 2.0, 4.0]), ["b", "a", "b"]).tolist() == [5.0, 2.0]
    with pytest.raises(ValueError, match="3 rows, 2 clusters"):
        by_cluster(np.zeros(3), ["a", "b"])


def test_few_scenes_are_said() -> None:
    assert scene_warning(40) is None
    assert "fewer than 40" in (scene_warning(39) or "")
    assert "too few for a verdict" in (scene_warning(9) or "")
