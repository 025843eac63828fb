"""Retention by complexity, the interaction, rank correlation and oracle: by hand, and against slow twins."""

import numpy as np
import pytest

from senna_autoprune.evaluation.measures.complexity import (
    BANDS,
    bands_of,
    complexity_of,
    interaction,
    is_right,
    oracle,
    retention_by_band,
    spearman,
)


def test_right_and_wrong_of_closed_types():
    assert is_right("plan", "KEEP, STRAIGHT\n", "KEEP,STRAIGHT") and not is_right("plan", "KEEP, STRAIGHT", "STOP, STRAIGHT")
    assert is_right("vru", "No, I don't see any.", "no") and not is_right("vru", "Yes, I see a pedestrian", "No")
    two = "Object 1: KEEP, STRAIGHT\nObject 2: STOP, STRAIGHT\n"
    assert is_right("motion", two, two) and not is_right("motion", two, "Object 1: KEEP, STRAIGHT\n")
    assert is_right("light", "None", "There is no traffic light.") and not is_right("light", "Red", "Green")
    assert is_right("description", "a", "a") is None and is_right("explanation", "a", "b") is None


def test_bands_are_terciles_and_equal_values_stay_together():
    assert bands_of([1, 2, 3, 4, 5, 6]) == ["simple", "simple", "medium", "medium", "complex", "complex"]
    assert set(bands_of([2, 2, 2])) == {"simple"} and bands_of([]) == []
    assert bands_of([1, 1, 1, 1, 9, 9]).count("complex") == 2 or bands_of([1, 1, 1, 1, 9, 9]).count("medium") == 2
    assert bands_of([1, 2, 3, 4]) == ["simple", "simple", "medium", "complex"]  # 2 and 3 are the cuts themselves
    assert [bands_of(range(1, 13)).count(band) for band in BANDS] == [4, 4, 4]


def twin_of_interaction(before, adaptive, static, bands):
    def gain(band):
        at = [i for i, one in enumerate(bands) if one == band]
        right = sum(before[i] for i in at)
        return (sum(adaptive[i] for i in at) - sum(static[i] for i in at)) / right

    return gain("complex") - gain("simple")


def test_interaction_equals_the_twin_and_finds_what_was_put_in():
    rng = np.random.default_rng(0)
    bands = [BANDS[i % 3] for i in range(600)]
    scenes = [f"s{i // 6}" for i in range(600)]
    before = (rng.random(600) < 0.9).tolist()
    static = [bool(b and rng.random() < (0.6 if band == "complex" else 0.95)) for b, band in zip(before, bands, strict=True)]
    adaptive = [bool(b and rng.random() < 0.95) for b in before]
    found = interaction(before, adaptive, static, bands, scenes, resamples=400)
    assert found.value == pytest.approx(twin_of_interaction(before, adaptive, static, bands))
    assert found.low > 0.1 and found.low < found.value < found.high
    assert found == interaction(before, adaptive, static, bands, scenes, resamples=400, seed=0)
    assert found.low != interaction(before, adaptive, static, bands, scenes, resamples=400, seed=1).low
    nothing = interaction(before, static, static, bands, scenes, resamples=50)
    assert nothing.value == 0


def test_interaction_is_undefined_without_right_answers():
    assert interaction([False] * 6, [True] * 6, [False] * 6, ["simple", "complex"] * 3, ["a"] * 6, 20).value is None


def test_one_right_answer_in_a_band_defines_it() -> None:
    """One question a band, right before; adapting loses the simple one."""
    found = interaction([True, True], [False, True], [True, True], ["simple", "complex"], ["a", "a"], 20)
    assert found.value == 1.0
    assert interaction([True, False], [True, True], [False, True], ["complex", "simple"], ["a", "a"], 20).value is None


def test_complexity_of_a_question_where_its_file_states_it():
    assert complexity_of({"complexity": "2.5"}) == 2.5
    assert complexity_of({}) is None and complexity_of({"complexity": "high"}) is None


def test_retention_by_band():
    found = retention_by_band([True, True, True], [True, False, True], ["simple", "simple", "complex"], ["a", "b", "c"])
    assert set(found) == {"simple", "complex"} and found["simple"]["value"] == 0.5 and found["simple"]["questions"] == 2
    assert found["complex"]["value"] == 1


def test_spearman_equals_scipy_and_covers_it():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(3)
    x = rng.random(90)
    y = x + rng.random(90)
    found = spearman(x, y, [f"s{i // 3}" for i in range(90)], resamples=200)
    assert found["value"] == pytest.approx(spearmanr(x, y).statistic) and found["low"] < found["value"] < found["high"]
    assert found["count"] == 90 and found["scenes"] == 30
    assert spearman([1.0, 2.0, 4.0], [0.1, 0.3, 0.2], ["a", "a", "a"]) == {
        "value": pytest.approx(0.5), "low": None, "high": None, "count": 3, "scenes": 1,
    }  # fmt: skip
    assert (
        spearman([1.0, 2.0], [1.0, 2.0], ["a", "b"])["value"] is None and spearman([1, 2, 3], [1, 1, 1], ["a", "b", "c"])["value"] is None
    )
    assert spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0], ["a", "b", "c"])["value"] is None


def test_oracle():
    assert oracle({"a": [True, False, False], "b": [False, False, True]}) == [True, False, True]
