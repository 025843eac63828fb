"""What may be said of a setting, and what may not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from senna_autoprune.evaluation.measures.intervals import Paired, scenes_upper
from senna_autoprune.evaluation.measures.verdict import (
    BLIND,
    FEW,
    METRES,
    NOT_SHOWN,
    POINTS,
    SAFE,
    Evidence,
    amount,
    down,
    evidence,
    judge,
    passes,
    signed,
    up,
)


def _evidence(
    lower: float | None = -0.008, scenes: int = 75, dangerous: int = 0, upper: float = 0.0391, setting: str = "autoprune"
) -> Evidence:
    return Evidence(setting, 0.25, 300, scenes, 0.0, lower, dangerous, upper)


def test_a_safe_setting_in_one_sentence() -> None:
    found = judge(_evidence(), margin=0.01, safety=0.05)
    assert found.outcome == SAFE
    assert found.sentence == (
        "25 % of tokens with autoprune: not worse by more than 1.0 point (95 %, 75 scenes), "
        "no newly dangerous flip in 75 scenes (at most 4.0 % of scenes)"
    )


def test_without_a_margin_the_bound_is_said() -> None:
    found = judge(_evidence(lower=-0.0231, dangerous=3, upper=0.1))
    assert found.outcome is None
    assert found.sentence == (
        "25 % of tokens with autoprune: not worse by more than 2.4 points (95 %, 75 scenes), "
        "a newly dangerous flip in 3 of 75 scenes (at most 10.0 % of scenes)"
    )


def test_what_is_worse_for_certain_is_called_worse() -> None:
    """Without a margin: the bounds both ways, the smaller rounded down, the larger up; a loss that may be none keeps the other words."""
    found = judge(replace(_evidence(lower=-0.3211, dangerous=60, upper=0.9), upper=-0.2019))
    assert found.sentence.startswith(
        "25 % of tokens with autoprune: worse by at least 20.1 points, by at most 32.2 points (each 95 %, 75 scenes), a newly dangerous"
    )
    assert "not worse by more than 2.4 points" in judge(replace(_evidence(lower=-0.0231), upper=0.001)).sentence


def test_both_margins_must_be_met() -> None:
    assert judge(_evidence(lower=-0.02), margin=0.01).outcome == NOT_SHOWN
    found = judge(_evidence(), margin=0.01, safety=0.02)
    assert found.outcome == NOT_SHOWN
    assert "149 scenes without one would show 2.0 %" in found.sentence
    assert not passes(_evidence(lower=-0.01), 0.01)  # the bound must lie above


def test_each_sentence_to_the_letter() -> None:
    assert judge(replace(_evidence(lower=0.0), tokens=None)).sentence == (
        "with autoprune: no loss (95 %, 75 scenes), no newly dangerous flip in 75 scenes (at most 4.0 % of scenes)"
    )
    unread = replace(_evidence(), dangerous=None, dangerous_upper=None)
    assert judge(unread, margin=0.01, safety=0.05).sentence == (
        "25 % of tokens with autoprune: not worse by more than 1.0 point (95 %, 75 scenes), "
        "of these answers nobody says which flips are dangerous"
    )
    assert judge(replace(_evidence(), dangerous_upper=None)).sentence.endswith("(95 %, 75 scenes), no newly dangerous flip in 75 scenes")
    assert judge(_evidence(scenes=9)).sentence == "25 % of tokens with autoprune: no verdict, 9 scenes (at least 10 are needed)"
    assert judge(_evidence(scenes=1)).sentence == "25 % of tokens with autoprune: no verdict, 1 scene (at least 10 are needed)"
    assert judge(_evidence(lower=-0.0231), margin=0.01).sentence == (
        "25 % of tokens with autoprune: not shown to be safe, "
        "it may be worse by up to 2.4 points, the margin is 1.0 point (95 %, 75 scenes)"
    )
    flipped = judge(_evidence(dangerous=2, upper=0.0804), margin=0.01, safety=0.05).sentence
    assert flipped.endswith("a newly dangerous flip in 2 of 75 scenes (at most 8.1 % of scenes), but at most 5.0 % was to be shown")
    assert judge(_evidence(), margin=0.01, safety=0.02).sentence.endswith(
        "but at most 2.0 % was to be shown; 149 scenes without one would show 2.0 %"
    )


def test_distances_are_said_in_metres() -> None:
    metres = replace(_evidence(lower=-0.121), unit=METRES, dangerous=None, dangerous_upper=None)
    assert "not worse by more than 0.13 m (95 %" in judge(metres).sentence and "by more than 0.20 m (" in judge(metres, 0.2).sentence
    assert "worse by up to 0.13 m, the margin is 0.05 m" in judge(metres, 0.05).sentence
    assert judge(metres, 0.2, blind=[replace(metres, setting="no-image")]).sentence.endswith(
        "no-image too is not worse by more than 0.20 m"
    )
    assert "at least 0.04 m, by at most 0.13 m" in judge(replace(metres, upper=-0.049)).sentence
    assert (up(1.29, METRES), up(1.291, METRES), down(1.299, METRES), up(0.29), up(0.2901)) == (1.29, 1.3, 1.29, 0.29, 0.291)
    assert signed(-1.0) == "-100.0 points" and (signed(0.012), signed(-0.12, METRES), amount(0.01, f"{POINTS} of agreement")) == (
        "+1.2 points",
        "-0.12 m",
        "1.0 point of agreement",
    )


def test_questions_that_a_blind_model_passes_show_nothing() -> None:
    control = _evidence(setting="no-image", lower=-0.005)
    found = judge(_evidence(), margin=0.01, safety=0.05, blind=[_evidence(setting="majority", lower=-0.2), control])
    assert found.outcome == BLIND
    assert found.sentence == "these questions cannot show harm: no-image too is not worse by more than 1.0 point"


def test_few_scenes_are_said_and_very_few_get_no_verdict() -> None:
    assert "fewer than the intervals were checked for" in judge(_evidence(scenes=39)).sentence
    assert judge(_evidence(scenes=9), margin=0.5).outcome == FEW and judge(_evidence(scenes=10), margin=0.5).outcome == SAFE
    assert "fewer" not in judge(_evidence(scenes=40)).sentence
    assert "(95 %, 39 scenes, fewer than the intervals were checked for), no newly" in judge(_evidence(scenes=39)).sentence
    assert passes(_evidence(upper=0.05), 0.01, 0.05) and not passes(_evidence(upper=0.0501), 0.01, 0.05)
    assert judge(replace(_evidence(lower=-0.0231), upper=0.0)).sentence.startswith(
        "25 % of tokens with autoprune: not worse by more than 2.4"
    )
    assert judge(_evidence(lower=None, scenes=12), margin=0.5).outcome == FEW


def test_evidence_of_answers() -> None:
    scenes = [f"s{i // 3}" for i in range(180)]
    pairs = Paired.of([True] * 180, [i not in (0, 1, 90) for i in range(180)], scenes)
    found = evidence("fastv", 0.2, pairs, ["s0", "s0", "s30"])
    assert found is not None
    assert (found.questions, found.scenes, found.dangerous) == (180, 60, 2)
    assert found.difference == pytest.approx(-3 / 180)
    assert found.lower is not None and found.lower < -3 / 180 - 0.01
    assert found.upper is not None and -3 / 180 < found.upper < 0.02
    assert found.dangerous_upper == pytest.approx(scenes_upper(2, 60)) and found.tokens == 0.2
    two = evidence("fastv", None, Paired.of([True] * 4, [False, True] * 2, list("aabb")), ["a"])
    assert two is not None and two.lower is not None and two.upper is not None and two.lower < -0.5 < two.upper
    assert two.dangerous_upper == pytest.approx(scenes_upper(1, 2, 0.95))
    one = evidence("fastv", None, Paired.of([True] * 3, [True, False, True], ["a"] * 3), None)
    assert one == Evidence("fastv", None, 3, 1, -1 / 3, None, None, None)
    clear = evidence("fastv", 0.2, Paired.of([True] * 180, [i % 2 == 0 for i in range(180)], scenes), [])
    assert clear is not None and clear.upper is not None and -0.5 < clear.upper < -0.3
    assert evidence("fastv", 0.2, Paired.of([], [], []), []) is None
