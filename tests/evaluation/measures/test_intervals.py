"""Score intervals against likelihoods maximised numerically, and their coverage over scenes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm, t

from senna_autoprune.evaluation.measures.clusters import by_cluster, clusters_of, scene_warning
from senna_autoprune.evaluation.measures.intervals import (
    CAUTIOUS,
    USUAL,
    Bounds,
    Paired,
    design_effect,
    difference_effect,
    difference_interval,
    difference_score,
    mean_interval,
    ratio_interval,
    ratio_score,
    scenes_upper,
    share_interval,
)
from tests.evaluation.measures.twins import design_effect_by_questions, restricted_score
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


def by_scene(values: list[float], scenes: list[str]) -> dict[str, list[float]]:
    return {scene: [v for v, s in zip(values, scenes, strict=True) if s == scene] for scene in dict.fromkeys(scenes)}


def test_intervals_are_inverted_scores_at_the_twins_design_effect() -> None:
    """150 questions of 40 scenes that err together: at its ends each interval's score is +-z, with counts divided by the twin's effect."""
    rng, z = np.random.default_rng(5), norm.ppf(0.975)
    scenes = [f"s{number}" for number in rng.integers(40, size=150)]
    bad = {scene: rng.random() < 0.3 for scene in scenes}
    before = [bool(rng.random() < 0.7) for _ in scenes]
    after = [bool((b and rng.random() < (0.4 if bad[s] else 0.97)) or rng.random() < 0.25) for b, s in zip(before, scenes, strict=True)]
    pairs, count = Paired.of(before, after, scenes), by_cluster(np.ones(150), scenes)

    share = share_interval(by_cluster(np.array(after, dtype=float), scenes), count)
    mean = sum(after) / 150
    mixed = {s: len(set(found)) > 1 for s, found in by_scene([float(a) for a in after], scenes).items()}
    centred = by_scene([a - mean for a in after], scenes)
    touched = {s: found if mixed[s] else [] for s, found in centred.items()}  # a scene all right or all wrong holds no event
    weight = sum(map(bool, touched.values()))
    assert 0 < weight < len(centred)
    effect = design_effect(np.array([sum(f) for f in centred.values()]), 150 * mean * (1 - mean), weight, count, 0.975)
    assert share.design_effect == pytest.approx(effect) and effect > 1.3
    for end in (share.low, share.high):
        assert abs(mean - end) / np.sqrt(end * (1 - end) * effect / 150) == pytest.approx(z)
    assert share.low < share.value < share.high and share.scenes == len(centred)

    assert sum(pairs.gained > 0) > 5 < sum(pairs.lost > 0) and any((pairs.gained > 0) & (pairs.gained >= pairs.lost))
    lost, gained = (
        sum(b and not a for b, a in zip(before, after, strict=True)),
        sum(a and not b for b, a in zip(before, after, strict=True)),
    )
    both, gap = sum(b and a for b, a in zip(before, after, strict=True)), (sum(after) - sum(before)) / 150
    for found, value, score, null in (
        (difference_interval(pairs), gap, lambda d, e: difference_score(lost / e, gained / e, 150 / e, d), gap),
        (ratio_interval(pairs), sum(after) / sum(before), lambda r, e: ratio_score(both / e, lost / e, gained / e, 150 / e, r), None),
    ):
        residuals = [float(a) - (b + null if null is not None else value * b) for b, a in zip(before, after, strict=True)]
        flipped = by_scene([float(a) - b for b, a in zip(before, after, strict=True)], scenes)
        by = by_scene(residuals, scenes)
        seen = sum(any(f) for f in flipped.values())
        effect = design_effect(np.array([sum(f) for f in by.values()]), float(np.square(residuals).sum()), seen, count, 0.975)
        assert found.value == pytest.approx(value) and found.design_effect == pytest.approx(effect) and effect > 1.3
        assert found.low < value < found.high and found.scenes == len(by)
        assert (score(found.low, effect), score(found.high, effect)) == (pytest.approx(z, abs=1e-5), pytest.approx(-z, abs=1e-5))


def test_a_claim_of_safety_is_tangos_score_at_the_cautious_effect() -> None:
    """40 scenes of 5: the counts divided by the design effect, and the bound where the score passes z at the look's level."""
    rng = np.random.default_rng(8)
    lost, gained, count = rng.integers(0, 3, 40).astype(float), rng.integers(0, 2, 40).astype(float), np.full(40, 5.0)
    pairs = Paired(count - lost - gained - 1, lost, gained, count)
    effect = difference_effect(pairs, 0.95, CAUTIOUS)
    assert effect > 1.05 < effect / difference_effect(pairs, 0.95)

    def score(difference: float) -> float:
        return difference_score(lost.sum() / effect, gained.sum() / effect, 200 / effect, difference)

    for level in (0.05, 0.001):
        z, bound = pairs.test(0.2, 0.05, level)
        assert z == pytest.approx(score(-0.2)) and score(bound) == pytest.approx(norm.ppf(1 - level), abs=1e-5)
        assert bound < pairs.difference


def test_two_scenes_have_intervals() -> None:
    one_each = Paired.of([True, True], [True, False], "ab")
    for found in (share_interval(np.array([1.0, 0.0]), np.ones(2)), difference_interval(one_each), ratio_interval(one_each)):
        assert found.low is not None and found.high is not None and found.low < found.value < found.high
    assert share_interval(np.full(5, 2.0), np.full(5, 2.0)).high == 1.0 and share_interval(np.zeros(5), np.full(5, 2.0)).low == 0.0
    twice = mean_interval(np.array([1.0, 3.0]), np.ones(2))
    assert (twice.value, twice.high) == (2.0, pytest.approx(2 + t.ppf(0.975, 1)))
    everything = Paired.of([True] * 5, [False] * 5, "abcde")
    assert difference_interval(everything).low == -1.0 and difference_interval(everything.reversed).high == 1.0


def test_design_effect_equals_the_twin_that_counts_questions() -> None:
    rng = np.random.default_rng(6)
    for scenes in (2, 5, 30):
        found = {f"s{i}": rng.normal(rng.normal(0, 1), 1, size=rng.integers(1, 6)).tolist() for i in range(scenes)}
        sums, count = np.array([sum(f) for f in found.values()]), np.array([float(len(f)) for f in found.values()])
        squares = sum(r * r for f in found.values() for r in f)
        for prior in (USUAL, CAUTIOUS):
            expected = design_effect_by_questions(found, 0.975, *prior)
            assert design_effect(sums, squares, scenes, count, 0.975, prior) == pytest.approx(expected)
    assert design_effect(np.zeros(1), 1.0, 1, np.ones(1), 0.975) == 1 == design_effect(np.zeros(3), 1.0, 1, np.zeros(3), 0.975)


def test_what_is_undefined_still_says_its_value_and_its_scenes() -> None:
    """Without a question nothing is known; one scene has no interval; two of one question each have one."""
    none, one = np.zeros(3), np.ones(1)
    for found in (share_interval(none, none), mean_interval(none, none), difference_interval(Paired(none, none, none, none))):
        assert found == Bounds(None, None, None, 3)
    assert share_interval(one, one) == mean_interval(one, one) == Bounds(1.0, None, None, 1)
    assert difference_interval(Paired.of([True], [False], "a")) == Bounds(-1.0, None, None, 1)
    assert ratio_interval(Paired.of([False], [True], "a")) == Bounds(None, None, None, 1)
    assert ratio_interval(Paired.of([True, True], [False, True], "aa")) == Bounds(0.5, None, None, 1)
    two = ratio_interval(Paired.of([True, True], [False, True], "ab"))
    assert two.low is not None and two.low < 0.5 < two.high
    assert difference_score(0, 0, 10, 0) == 0 == ratio_score(10, 0, 0, 10, 1)
    assert two.to_dict() == {"value": two.value, "low": two.low, "high": two.high, "scenes": 2, "design_effect": two.design_effect}
    with pytest.raises(ValueError, match="1 answers before, 2 after, 2 clusters"):
        Paired.of([True], [True, False], "ab")


def test_some_scenes_of_pairs() -> None:
    pairs = Paired.of([True, True, False, True], [True, False, True, True], ["a", "a", "b", "c"])
    assert pairs.take(np.array([2, 0])) == Paired(*map(pytest.approx, ([1, 1], [0, 1], [0, 0], [1, 2])))
    assert (pairs.difference, pairs.changed, pairs.reversed.difference) == (0, 0.5, 0) and pairs.gap.tolist() == [-1, 1, 0]


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


def test_mean_interval_weighs_scenes_by_their_questions() -> None:
    """The ratio estimator's standard error, scene by scene."""
    sums, count = np.array([4.0, 9.0, 1.0, 6.0]), np.array([2.0, 3.0, 1.0, 4.0])
    found, mean = mean_interval(sums, count), 2.0
    error = np.sqrt(4 / 3 * sum((s - mean * n) ** 2 for s, n in zip(sums, count, strict=True))) / 10
    assert (found.value, found.scenes) == (mean, 4) and found.high - mean == pytest.approx(t.ppf(0.975, 3) * error) == mean - found.low


def test_mean_interval_is_students_for_single_questions() -> None:
    from scipy.stats import sem

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
    assert "too few for a verdict" in (scene_warning(9) or "") and "too few" not in (scene_warning(10) or "")
