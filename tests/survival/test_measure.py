"""Survival on hand-made traces, against a twin; chance is what a random choice keeps."""

from dataclasses import replace

import numpy as np
import pytest

from senna_autoprune.survival.measure import ObjectSurvival, measures, summary, survival_of
from tests.survival.twins import survival_twin


def row(setting="autoprune", scene="a", name="pedestrian", survival=(1.0, 0.5), chance=(1.0, 0.25), flipped=None, band="0-10 m"):
    return ObjectSurvival(setting, 0, scene, name, band, "front", np.array(survival), np.array(chance), flipped)


def test_exact_by_hand():
    weights = np.array([[0.5, 0.5, 0, 0, 1.0], [0, 0, 0, 0, 0]])
    survival, chance = survival_of(weights, [np.arange(5), np.array([0, 4]), np.array([2])])
    assert survival[0].tolist() == [1, 0.75, 0] and np.isnan(survival[1]).all() and chance.tolist() == [1, 0.4, 0.2]


def test_equals_the_twin():
    rng = np.random.default_rng(0)
    weights = rng.random((7, 40)) * (rng.random((7, 40)) < 0.3)
    kept = [np.sort(rng.choice(40, n, replace=False)) for n in (40, 40, 17, 9, 1, 0)]
    for ours, theirs in zip(survival_of(weights, kept), survival_twin(weights, kept), strict=True):
        assert ours == pytest.approx(theirs, nan_ok=True)


def test_a_random_choice_keeps_chance():
    rng = np.random.default_rng(2)
    rows = []
    for scene in range(60):
        weights = rng.random((4, 96)) ** 3 * (rng.random((4, 96)) < 0.2)
        kept = [np.arange(96), *[rng.choice(96, n, replace=False) for n in (48, 24, 12)]]
        survival, chance = survival_of(weights, kept)
        rows += [row(scene=str(scene), survival=one, chance=chance) for one in survival]
    found = summary(rows)
    assert found["gain"]["low"] < 0 < found["gain"]["high"] and found["gain"]["high"] - found["gain"]["low"] < 0.1


def test_summary_and_groups():
    rows = [row(), row(scene="b", name="vehicle", survival=(1.0, 0.0), flipped=True), row("random", survival=(1.0, 0.25))]
    found = measures(rows)
    both = found["autoprune"]["all"]
    assert both["objects"] == 2 and both["scenes"] == 2 and both["mean"] == 0.625 and both["chance"] == 0.625
    assert both["by_layer"] == {"survival": [1.0, 0.25], "chance": [1.0, 0.25]} and both["lost"] == 0.5
    assert both["gain"]["value"] == 0 and both["gain"]["low"] <= 0 <= both["gain"]["high"]
    assert set(found["autoprune"]["class"]) == {"pedestrian", "vehicle"} and set(found["autoprune"]["flipped"]) == {"flipped"}
    assert found["autoprune"]["class"]["pedestrian"]["gain"] == {"value": 0.125, "low": None, "high": None}
    assert found["autoprune"]["role"] == {}
    decisive = replace(rows[0], decides_plan=True), replace(rows[1], decides_plan=False)
    role = measures(decisive)["autoprune"]["role"]
    assert {name: one["objects"] for name, one in role.items()} == {"decides the plan": 1, "does not": 1}
    assert role["decides the plan"]["by_layer"]["survival"] == [1.0, 0.5]
    assert found["random"]["flipped"] == {} and list(found["random"]["distance"]) == ["0-10 m"]
