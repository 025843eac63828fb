"""Conditions read from the scene description and from the question's own words."""

from __future__ import annotations

import pytest

from senna_autoprune.evaluation.measures.breakdown import attributes_of, breakdown, light_of, speed_band, weather_of

QUESTION = "Your current speed is 6 m/s, the navigation command is 'turn left', based on the understanding of ..."


@pytest.mark.parametrize(
    ("description", "light", "weather"),
    [
        ("Night, after rain, many peds, PMD", "night", "after rain"),
        ("Rain, cross intersection", "day", "rain"),
        ("Night, big street, bus stop", "night", "dry"),
        ("Parking lot, overnight train depot", "day", "dry"),
        ("", "unknown", "unknown"),
        (None, "unknown", "unknown"),
    ],
)
def test_description(description: str | None, light: str, weather: str) -> None:
    assert (light_of(description), weather_of(description)) == (light, weather)


@pytest.mark.parametrize(
    ("speed", "band"),
    [(0, "standing (0 m/s)"), (1, "1-4 m/s"), (4, "1-4 m/s"), (5, "5-9 m/s"), (9, "5-9 m/s"), (10, "10 m/s and more")],
)
def test_speed_bands_have_no_gaps(speed: int, band: str) -> None:
    assert speed_band(speed) == band


def test_attributes_of_a_question() -> None:
    known = attributes_of(QUESTION, "Rain", "boston-seaport")
    assert known == {
        "light": "day",
        "weather": "rain",
        "location": "boston-seaport",
        "speed_band": "5-9 m/s",
        "command": "turn left",
    }
    assert set(attributes_of("What do you see?", None, None).values()) == {"unknown"}


def test_groups_add_up_and_an_undefined_retention_is_none() -> None:
    day, night = attributes_of(QUESTION, "Sunny", None), attributes_of(QUESTION, "Night", None)
    groups = breakdown([day, day, night], [True, True, False], [True, False, True], [True, False, False])
    assert [(g["value"], g["count"]) for g in groups["light"]] == [("day", 2), ("night", 1)]
    for attributes, order in (([day, night, night], ["night", "day"]), ([night, day], ["day", "night"])):  # then by name
        found = breakdown(attributes, *[[True] * len(attributes)] * 3)
        assert [g["value"] for g in found["light"]] == order
    first, second = groups["light"]
    assert (first["unpruned_accuracy"], first["pruned_accuracy"], first["retention_accuracy"]) == (1.0, 0.5, 0.5)
    assert first["agreement"] == 0.5
    assert (second["unpruned_accuracy"], second["pruned_accuracy"], second["retention_accuracy"]) == (0.0, 1.0, None)
    assert all(sum(g["count"] for g in found) == 3 for found in groups.values())
