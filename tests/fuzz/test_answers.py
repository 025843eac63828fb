"""The answer parsers never raise, and what they accept is exactly what they say."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st

from senna_autoprune.evaluation.measures.breakdown import attributes_of
from senna_autoprune.evaluation.measures.parsing import (
    INVALID,
    INVALID_PLAN,
    LIGHTS,
    PATHS,
    SPEEDS,
    Plan,
    parse_light,
    parse_motion,
    parse_plan,
    parse_road_users,
    plan_meaning,
)

FUZZ = settings(settings.get_profile("fuzz"), max_examples=300)
WORDS = (
    *SPEEDS,
    *PATHS,
    "Object 1:",
    "Object 99999: ",
    ",",
    ", ",
    "\n",
    "yes",
    "No",
    "pedestrian located 5 meters ahead of me",
    " and 3 meters to the left",
)
WORDS += (
    "bicycles",
    "red",
    "amber",
    "not",
    "can't",
    "\u212aEEP",
    "\ud800",
    "\x00",
    "\u2028",
    "9" * 50,
    "Yes, I see",
    "keep",
    "\u0661 meters",
)
TEXT = st.one_of(
    st.text(),
    st.lists(st.sampled_from(WORDS), max_size=12).map("".join),
    st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=3))).map(" ".join),
)
SPACE = st.text(" \t", max_size=3)


@FUZZ
@given(TEXT)
@example("KEEP, STRAIGHT" + " " * 100_000 + "x")
@example("Object 1: " * 50_000)
@example("yes " + "pedestrian located " * 30_000)
def test_no_text_makes_a_parser_raise(text: str) -> None:
    plan = parse_plan(text)
    assert plan == INVALID_PLAN or (plan.speed in SPEEDS and plan.path in PATHS and plan.speed in text and plan.path in text)
    assert plan_meaning(text) == (str(plan) if plan.valid else f"{INVALID}: {text.strip()}")
    for number, found in parse_motion(text).items():
        assert 0 <= number <= 9999
        assert found.valid
    users = parse_road_users(text)
    assert users.valid or not users.users
    assert all(user.kind in ("bicycle", "motorcycle", "pedestrian") and 0 <= user.ahead_m <= 9999 for user in users.users)
    assert parse_light(text) in (*LIGHTS, INVALID)
    assert all(isinstance(value, str) for value in attributes_of(text, text, text).values())


@FUZZ
@given(st.sampled_from(SPEEDS), st.sampled_from(PATHS), SPACE, SPACE, st.text(" \n\t", max_size=3), TEXT)
def test_a_plan_is_read_with_any_spaces_and_nothing_after_it(speed: str, path: str, before: str, after: str, end: str, more: str) -> None:
    assert parse_plan(f"{end}{speed}{before},{after}{path}{end}") == Plan(speed, path)
    if more.strip(" \t\n\r\f\v"):
        assert not parse_plan(f"{speed}, {path}{more.strip()}x").valid


@FUZZ
@given(st.dictionaries(st.integers(0, 9999), st.tuples(st.sampled_from(SPEEDS), st.sampled_from(PATHS)), max_size=8), TEXT)
def test_motion_lines_are_found_among_any_others(plans: dict[int, tuple[str, str]], noise: str) -> None:
    lines = [f"Object {number}: {speed}, {path}" for number, (speed, path) in plans.items()]
    found = parse_motion("\n".join([*lines, noise]))
    assert {number: found[number] for number in plans} == {number: Plan(*plan) for number, plan in plans.items()}
