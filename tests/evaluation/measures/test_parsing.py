"""Parsers: what is an answer, what is invalid."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from senna_autoprune.evaluation.measures.official import is_right
from senna_autoprune.evaluation.measures.parsing import (
    INVALID_PLAN,
    PATHS,
    SPEEDS,
    Plan,
    RoadUser,
    parse_light,
    parse_motion,
    parse_plan,
    parse_road_users,
    text_scores,
)
from tests.fixtures import shared


@pytest.mark.parametrize("text", ["KEEP, LEFT_CHANGE", "KEEP, LEFT_CHANGE\n", "  KEEP ,\tLEFT_CHANGE ", "KEEP,LEFT_CHANGE"])
def test_spaces_round_answer_and_comma_do_not_matter(text: str) -> None:
    assert parse_plan(text) == Plan("KEEP", "LEFT_CHANGE")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "keep, straight",
        "Keep, Straight",
        "KEEP, STRAIGHT.",
        "KEEP, STRAIGHT because the road is free",
        "I KEEP, STRAIGHT",
        "'KEEP, STRAIGHT'",
        "KEEP STRAIGHT",
        "KEEP, LEFT TURN",
        "STRAIGHT, KEEP",
        "KEEP, STRAIGHT, STRAIGHT",
        "KEEP, STRAIGHT\nKEEP, STRAIGHT",
        "KEEP,\nSTRAIGHT",
        "KEEP, STRAIGHTLEFT",
        "ＫＥＥＰ, STRAIGHT",
        "KEEP, STRAIGHT\x00",
    ],
)
def test_case_trailing_text_and_other_words_are_invalid(text: str) -> None:
    assert parse_plan(text) == INVALID_PLAN
    assert str(parse_plan(text)) == "invalid"


@settings(deadline=None)
@given(st.text(max_size=60) | st.sampled_from([f"{s}, {p}\n" for s in SPEEDS for p in PATHS]))
def test_exactly_right_is_right_for_the_original_too(text: str) -> None:
    plan = parse_plan(text)
    if plan.valid:
        assert is_right(f"{plan}\n", text)
        assert parse_plan(str(plan)) == plan


def test_recorded_road_user_labels_are_read() -> None:
    no = parse_road_users("No, I don't see any vulnerable road users ahead of me, such as bicycles, motorcycles, or pedestrians.")
    assert no.present is False
    assert no.users == ()
    yes = parse_road_users(
        "Yes, I see a pedestrian located 18 meters ahead of me and 3 meters to the right, and a bicycle located 15 "
        "meters ahead of me and 8 meters to the left, and a motorcycle located 2 meters ahead of me."
    )
    assert yes.present is True
    assert yes.users == (RoadUser("pedestrian", 18, -3), RoadUser("bicycle", 15, 8), RoadUser("motorcycle", 2, 0))


def test_every_recorded_label_parses() -> None:
    scenes = json.loads(shared("fixtures", "senna-qa", "qa_builders.json").read_text())
    plans = users = objects = 0
    for scene in scenes:
        if scene["plan"].get("out"):
            plans += 1
            assert parse_plan(scene["plan"]["out"][1]["value"]).valid
        if scene["vru"].get("out"):
            label = scene["vru"]["out"][1]["value"]
            parsed = parse_road_users(label)
            users += len(parsed.users)
            assert parsed.present is label.startswith("Yes")
            assert len(parsed.users) == label.count("located")
        for view in scene["mot"].values():
            if view.get("out"):
                label = view["out"][1]["value"]
                parsed_motion = parse_motion(label)
                objects += len(parsed_motion)
                assert list(parsed_motion) == list(range(1, label.count("Object") + 1))
    assert plans > 100
    assert users > 10
    assert objects > 200


@pytest.mark.parametrize("text", ["", "Maybe", "Yesterday", "I see a bicycle located 3 meters ahead of me.", "nothing"])
def test_neither_yes_nor_no_is_invalid(text: str) -> None:
    assert parse_road_users(text).present is None
    assert not parse_road_users(text).valid


def test_motion_lines_first_one_counts_and_others_are_skipped() -> None:
    lines = ["Sure!", "Object 2: KEEP, STRAIGHT", " Object 1 :STOP,LEFT_TURN ", "Object 2: STOP, LEFT_TURN", "Object 3"]
    assert parse_motion("\n".join(lines)) == {2: Plan("KEEP", "STRAIGHT"), 1: Plan("STOP", "LEFT_TURN")}


@pytest.mark.parametrize(
    ("text", "colour"),
    [
        ("Red", "red"),
        ("The traffic light is GREEN.", "green"),
        ("Amber", "yellow"),
        ("None", "none"),
        ("There is no traffic light.", "none"),
        ("Red or green", "invalid"),
        ("not red", "invalid"),
        ("redder", "invalid"),
        ("", "invalid"),
    ],
)
def test_light(text: str, colour: str) -> None:
    assert parse_light(text) == colour


@settings(deadline=None)
@given(st.text(max_size=300))
def test_parsers_never_raise(text: str) -> None:
    parse_plan(text), parse_road_users(text), parse_motion(text), parse_light(text)


def test_free_text_scores() -> None:
    label = "The car ahead is braking for a red light at the wide crossing."
    same = text_scores([(label, label)])
    assert same["rouge_l"] == pytest.approx(1.0)
    assert same["bleu"] == pytest.approx(100.0)
    assert text_scores([("cars drive", "car drives")])["rouge_l"] == 1.0  # words by their stems
    other = text_scores([(label, "A dog sleeps.")])
    assert (same["count"], text_scores([(label, label)] * 3)["count"]) == (1, 3)
    assert other["rouge_l"] is not None
    assert other["rouge_l"] < 0.3
    assert text_scores([]) == {"count": 0, "rouge_l": None, "bleu": None}


def test_texts_are_scored_by_their_first_thousand_words() -> None:
    """A pair of 100,000 words would take an hour and more memory than there is."""
    started = time.process_time()
    long = "the car waits " * 40_000
    found = text_scores([(long, long + "not"), ("a bus, waiting.", "a bus, going.")])
    assert time.process_time() - started < 5
    assert found["rouge_l"] == pytest.approx((1 + 2 / 3) / 2)
    exact = " ".join(["word"] * 1000)
    assert text_scores([(exact, exact + " and more")])["rouge_l"] == 1
    assert text_scores([(exact[5:], exact[5:] + " other")])["rouge_l"] == pytest.approx(2 * 999 / 1999)
