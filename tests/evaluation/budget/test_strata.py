"""A certified setting in each condition, by hand."""

from __future__ import annotations

import pytest

from senna_autoprune.evaluation.budget.answers import Pairs
from senna_autoprune.evaluation.budget.strata import strata
from senna_autoprune.evaluation.measures.intervals import scenes_upper
from senna_autoprune.evaluation.runs.rows import QuestionRow
from tests.evaluation.budget.fake import KEEP, STOP

SCENES = 36


def asked(number: int) -> QuestionRow:
    attributes = {"light": "night" if number % 12 == 0 else "day", "weather": "unknown", "speed_band": "5-9 m/s"}
    return QuestionRow(number, f"t{number}", "plan", "?", STOP if number % 3 == 0 else KEEP, (), f"s{number}", True, attributes)


def test_groups_worst_first_with_holm_over_those_that_are_large_enough() -> None:
    """One question a scene. The 12 of the least mutual information, which are the most complex, lose ten answers."""
    questions = tuple(map(asked, range(SCENES)))
    after = tuple(float(not 0 <= number < 10) for number in range(SCENES))
    pairs = Pairs(questions, (1.0,) * SCENES, after, ("s0", "s3"))
    found = {one["stratum"]: one for one in strata(pairs, {n: float(n) for n in range(SCENES)}, {"t0", "t20", "t35"})}
    assert set(found) == {
        "light: day", "light: night", "speed band: 5-9 m/s", "label: STOP", "vulnerable road user: yes",
        *(f"complexity: {name}" for name in ("high", "middle", "low")),
    }  # fmt: skip
    high, low, night, stop = (found[name] for name in ("complexity: high", "complexity: low", "light: night", "label: STOP"))
    assert (high["questions"], high["difference"], low["difference"]) == (12, pytest.approx(-10 / 12), 0.0)
    assert (high["outcome"], low["outcome"], night["outcome"], night["p_value"]) == ("worse", "no loss shown", "too few scenes", None)
    assert high["p_value"] == 2 / 2**10 and high["p_holm"] == pytest.approx(6 * 2 / 2**10) and "p_holm" in low and night["p_holm"] is None
    assert (stop["questions"], stop["scenes"], stop["difference"], stop["dangerous"]) == (12, 12, pytest.approx(-4 / 12), 2)
    assert stop["dangerous_upper"] == scenes_upper(2, 12) and found["vulnerable road user: yes"]["questions"] == 3
    order = list(found)
    assert order[0] == "complexity: high" and set(order[-2:]) == {"light: night", "vulnerable road user: yes"}


def test_without_information_there_are_no_bands() -> None:
    questions = tuple(map(asked, range(12)))
    pairs = Pairs(questions, (1.0,) * 12, (1.0,) * 12, None)
    for information in ({}, {0: 1.0, 1: 2.0}):
        found = strata(pairs, information, set())
        assert not any(one["stratum"].startswith("complexity") for one in found)
        assert all(one["dangerous"] is one["dangerous_upper"] is None and one["outcome"] != "worse" for one in found)
