"""Sign flips against all sign patterns, Holm against its steps, non-inferiority and sample size against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from senna_autoprune.evaluation.measures.intervals import CAUTIOUS, Paired, difference_effect
from senna_autoprune.evaluation.measures.paired_tests import holm, non_inferiority, sample_size, scene_test, scenes_for_safety, sign_flip
from senna_autoprune.evaluation.measures.retention import mcnemar
from tests.evaluation.measures.twins import holm_by_steps, sign_flip_by_listing
from tools.maintain import simulate as simulated


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9))
def test_sign_flip_equals_all_patterns(differences: list[int]) -> None:
    assert sign_flip(np.array(differences)) == pytest.approx(sign_flip_by_listing(differences))


def test_sign_flip_of_distances_draws_patterns() -> None:
    values = [0.31, -0.2, 0.44, 0.9, -0.1, 0.27, 0.5, 0.12]
    assert sign_flip(np.array(values)) == pytest.approx(sign_flip_by_listing(values), abs=0.01)


def test_the_data_count_among_the_draws() -> None:
    """No draw of 40 signs reaches them: p is one of 20,001. The seed decides the draws."""
    assert sign_flip(np.full(40, 0.37)) == pytest.approx(1 / 20_001)
    values = np.random.default_rng(4).normal(0.1, 1, 25)
    assert sign_flip(values) == sign_flip(values, 0) == sign_flip(-values) != sign_flip(values, 1)
    assert sign_flip(np.zeros(3)) == 1.0 == sign_flip(np.array([]))


def test_scene_test_by_hand() -> None:
    """Scene a loses two and gains one, b loses two, c gains one, d is as before."""
    before = [True, True, False, True, True, False, True]
    after = [False, False, True, False, False, True, True]
    found = scene_test(Paired.of(before, after, list("aaabbcd")))
    assert found.to_dict() == {"lost": 4, "gained": 2, "scenes_worse": 2, "scenes_better": 1, "p_value": pytest.approx(6 / 8)}


def test_scene_test_holds_its_level_where_mcnemar_does_not() -> None:
    """150 scenes x 34 questions, correlation 0.1, nothing true: rejections at 5 %."""
    rng = np.random.default_rng(3)
    ours = theirs = 0
    for _ in range(150):
        pairs = simulated.scenes(rng, 150, 34, 0.02, 0.02, 0.1)
        found = scene_test(pairs)
        ours += found.p_value < 0.05
        theirs += mcnemar([True] * found.lost + [False] * found.gained, [False] * found.lost + [True] * found.gained).p_value < 0.05
    assert ours / 150 <= 0.1
    assert theirs / 150 >= 0.15


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_rejects_what_its_steps_reject(p_values: list[float]) -> None:
    adjusted = holm({str(i): p for i, p in enumerate(p_values)})
    assert [adjusted[str(i)] <= 0.05 for i in range(len(p_values))] == holm_by_steps(p_values, 0.05)
    assert all(adjusted[str(i)] >= p for i, p in enumerate(p_values))


def test_holm_by_hand() -> None:
    assert holm({"c": 0.03, "a": 0.01, "b": 0.04}) == {"c": pytest.approx(0.06), "a": pytest.approx(0.03), "b": pytest.approx(0.06)}
    assert holm({"a": 0.7, "b": 0.9}) == {"a": 1.0, "b": 1.0} and holm({}) == {}


def test_non_inferiority_says_what_it_rests_on() -> None:
    pairs = simulated.scenes(np.random.default_rng(9), 40, 5, 0.06, 0.02, 0.2)
    found = non_inferiority(pairs, 0.05)
    assert found.design_effect == pytest.approx(difference_effect(pairs, 0.95, CAUTIOUS)) and found.margin == 0.05
    assert found.design_effect != pytest.approx(difference_effect(pairs, 0.95))
    assert (found.scenes, found.questions, found.difference) == (40, pairs.questions, pytest.approx(pairs.difference))
    assert found.p_value == pytest.approx(norm.sf(found.z)) and found.to_dict()["lower"] == found.lower
    assert non_inferiority(pairs, 0.05, 0.2).lower > found.lower


def test_non_inferiority_passes_just_where_its_bound_does() -> None:
    rng = np.random.default_rng(5)
    passed = 0
    for _ in range(60):
        found = non_inferiority(simulated.scenes(rng, 75, 5, 0.02, 0.02, 0.05), 0.02)
        assert (found.lower > -0.02) == (found.p_value < 0.05)
        passed += found.p_value < 0.05
    assert 0 < passed < 60


def test_non_inferiority_is_rarely_false_at_the_margin() -> None:
    """True loss = margin: at most 5 % (+ what 500 runs leave open) are called safe."""
    rng = np.random.default_rng(6)
    runs = [non_inferiority(simulated.scenes(rng, 75, 5, 0.03, 0.01, 0.1), 0.02).p_value < 0.05 for _ in range(500)]
    assert np.mean(runs) <= 0.065


def test_sample_size_gives_its_power() -> None:
    """As many independent questions as the formula says (one a scene) are shown safe in 80 % of simulated runs."""
    n = sample_size(0.04, 0.02)
    assert n == 619  # (1.645 + 0.842)^2 0.04 / 0.02^2
    rng = np.random.default_rng(8)
    passed = 0
    for _ in range(300):
        drawn = rng.multinomial(n, [0.02, 0.02, 0.96])
        lost, gained = np.zeros(n), np.zeros(n)
        lost[: drawn[0]], gained[drawn[0] : drawn[0] + drawn[1]] = 1, 1
        passed += non_inferiority(Paired(1 - lost - gained, lost, gained, np.ones(n)), 0.02).p_value < 0.05
    assert passed / 300 == pytest.approx(0.8, abs=0.07)
    assert sample_size(0.04, 0.02, truth=-0.02) == float("inf")
    assert sample_size(0.04, 0.02, effect=2) == 1237
    z = norm.ppf(0.95) + norm.ppf(0.8)
    assert sample_size(0.04, 0.02, truth=0.01) == np.ceil(z**2 * (0.04 - 0.01**2) / 0.03**2)  # a gain asks for fewer, a loss for more
    assert sample_size(0.04, 0.02, truth=-0.01) == np.ceil(z**2 * (0.04 - 0.01**2) / 0.01**2)


def test_scenes_for_safety_are_the_rule_of_three() -> None:
    assert scenes_for_safety(0.02) == 149 and scenes_for_safety(0.5, 0.25) == 2  # just two of two
    assert 0.98**149 <= 0.05 < 0.98**148


def test_bad_margins_are_refused() -> None:
    pairs = Paired.of([True], [True], ["a"])
    for margin in (0.0, 1.0):
        with pytest.raises(ValueError, match="margin"):
            non_inferiority(pairs, margin)
    with pytest.raises(ValueError, match="0 questions"):
        non_inferiority(Paired.of([], [], []), 0.1)
    assert non_inferiority(Paired.of([True, True], [True, False], "ab"), 0.999).questions == 2
