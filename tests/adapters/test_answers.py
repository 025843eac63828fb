"""What answers say, and what is refused as a guess."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from senna_autoprune import SennaPruneError
from senna_autoprune.adapters import answers
from senna_autoprune.adapters.answers import Choice, FreeText, Invalid, MetaAction, Waypoints, options_of, parse
from senna_autoprune.adapters.schema import Parse, Score
from senna_autoprune.adapters.score import agreement, meaning, measure, same

MOVING = (
    "What is the moving status of object <c1,CAM_FRONT,714.3,503.6>? Please select the correct answer from the following options: "
    "A. Stopped. B. Back up. C. Turn left. D. Going ahead."
)
AUTO = Parse()
PATH = Parse(kind="waypoints", count=2)
TURNS = Parse(kind="label", labels=("go straight", "turn left", "turn right"))


def test_options_are_read_from_the_question():
    assert options_of(MOVING) == {"A": "Stopped.", "B": "Back up.", "C": "Turn left.", "D": "Going ahead."}
    sentences = "Which? A. The ego vehicle is steering. It is slow. B. The ego vehicle goes A to B. C. Neither."
    assert options_of(sentences)["A"] == "The ego vehicle is steering. It is slow."
    assert options_of("Is this a plan?") == {} and options_of("See A. There.") == {}


@pytest.mark.parametrize(
    "text",
    [
        "D",
        "d",
        "D.",
        "(D)",
        "D)",
        " D \n",
        "D. Going ahead.",
        "D: Going ahead",
        "Going ahead",
        "The answer is D.",
        "Answer: D",
        "**D**",
        "**D.** Going ahead",
        '"D"',
    ],
)
def test_a_choice_is_its_letter_or_its_words(text):
    assert parse(text, AUTO, "choice", MOVING) == Choice("D")


@pytest.mark.parametrize("text", ["", "E", "A or D", "A. Going ahead.", "Going", "The answer is A or answer D", "Driving", "Do it"])
def test_a_choice_that_is_none(text):
    assert isinstance(parse(text, AUTO, "choice", MOVING), Invalid)


def test_plans_labels_and_yes_or_no():
    assert parse("KEEP, STRAIGHT\n", AUTO, "plan") == MetaAction("KEEP", "STRAIGHT")
    assert isinstance(parse("keep, straight", AUTO, "plan"), Invalid)
    assert parse("\n Turn Left.\nbecause the road bends", TURNS) == Choice("turn left")
    assert isinstance(parse("turn left now", TURNS), Invalid)
    assert parse("Yes, a car.", AUTO, "yes_no") == Choice("yes") and parse("No.", AUTO, "yes_no") == Choice("no")
    assert isinstance(parse("Nothing", AUTO, "yes_no"), Invalid)
    assert parse(" two cars ", AUTO) == FreeText("two cars") and isinstance(parse(" ", AUTO), Invalid)


POINTS = np.array([[1.5, 0.0], [3.0, -0.25]])


@pytest.mark.parametrize(
    "text",
    [
        "[[1.5, 0.0], [3.0, -0.25]]",
        "Trajectory: [(1.5, 0), (3.0,-2.5e-1)] over 1 s",
        "at 0.5 s: (1.5, 0.0); at 1.0 s: (3.0, -0.25)",
        "[1.5, 0.0, 3.0, -0.25]",
        "1.5 0.0\n3.0 -0.25",
    ],
)
def test_waypoints_in_pairs_or_in_one_list(text):
    assert parse(text, PATH) == Waypoints(POINTS, 0.5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "slow down",
        "[1.5, 0.0, 3.0]",
        "[1, 2] and [3, 4] and [5, 6]",
        "[1.5, 0.0]",
        "I go 1.5 then 0 3 4",
        "[1e999, 0], [1, 1]",
        "[1, 2], [nan, 2]",
    ],
)
def test_waypoints_that_are_none(text):
    assert isinstance(parse(text, PATH), Invalid)


@pytest.mark.parametrize(
    "text", ["[1, 2], [nan, 4], [5, 6]", "(1, 2), (None, 4), (5, 6)", "[1, 2], [3, ], [5, 6]", "[1, 2], [inf, inf], [5, 6]"]
)
def test_a_waypoint_that_is_none_is_not_left_out(text):
    """All later ones would come half a second early."""
    assert isinstance(parse(text, Parse(kind="waypoints")), Invalid)


def test_words_in_brackets_are_no_waypoints():
    assert parse("(slowly, surely) [1.5, 0.0], (right, ahead) [3.0, -0.25]", PATH) == Waypoints(POINTS, 0.5)
    assert isinstance(parse("[" + " " * 99_000, PATH), Invalid)


def test_a_json_path():
    spec = Parse(kind="json", path="$.plan.trajectory", then="waypoints", count=2)
    objects = '[{"x": 1.5, "y": 0}, {"x": 3.0, "y": -0.25}]'
    for body in ("[[1.5, 0], [3.0, -0.25]]", objects, '"[1.5, 0.0], [3.0, -0.25]"', "[1.5, 0, 3, -0.25]"):
        text = f'Sure:\n```json\n{{"plan": {{"trajectory": {body}}}}}\n```'
        assert parse(text, spec) == Waypoints(POINTS, 0.5), body
    action = Parse(kind="json", path="$.steps[-1].action", then="label", labels=("stop", "go"))
    assert parse('{"steps": [{"action": "go"}, {"action": "Stop"}]}', action) == Choice("stop")
    for text in ("", "{", '{"plan": 3}', '{"plan": {"trajectory": [1]}}', '{"plan": {"trajectory": [[1, true], [1, 2]]}}', "[" * 100_000):
        assert isinstance(parse(text, spec), Invalid), text[:40]


@given(st.text(max_size=60) | st.from_regex(r"[\[({]{0,4}[-0-9., eE\])}A-D:]{0,40}", fullmatch=True))
def test_no_text_raises(text):
    for spec in (AUTO, PATH, TURNS, Parse(kind="json", path="$.a", then="waypoints"), Parse(kind="choice"), Parse(kind="plan")):
        parse(text, spec, "choice", MOVING)


PARTED = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?"  # a number whose digits may be parted anywhere: what text is one list of them


@given(st.text("1.e-, ", max_size=9))
def test_numbers_taken_whole_are_those_that_could_be_parted(text):
    assert answers._BARE.findall(text) == re.findall(PARTED, text, re.ASCII)
    if re.fullmatch(rf"[\s,;]*(?:{PARTED}[\s,;]*)+", text, re.ASCII):
        assert answers._NUMBERS.fullmatch(text)
    if answers._NUMBERS.fullmatch(text):  # more are read than before: a full stop behind a number
        assert set(re.sub(PARTED, "", text)) <= set("., ")


@given(st.lists(st.sampled_from(["A. go", "B. stop", "C. turn", "D.", "and"]), max_size=12).map(" ".join))
def test_options_equal_the_slow_twin(question):
    """Each A tried as the beginning of a run, all letters behind it looked at."""
    found = [(match[1], match.start(), match.end()) for match in answers._OPTION.finditer(question)]
    runs = []
    for start, (letter, *_) in enumerate(found):
        run = []
        for one in found[start:] if letter == "A" else ():
            if one[0] == "ABCDEFG"[len(run)]:
                run.append(one)
        runs.append(run)
    best = max((run for run in reversed(runs) if len(run) > 1), key=len, default=[])
    ends = [*(start for _, start, _ in best[1:]), len(question)]
    assert options_of(question) == {letter: question[stop:end].strip() for (letter, _, stop), end in zip(best, ends, strict=False)}


LONG = 99_000
ENDLESS = (
    "1" * 40 + "x",
    "[" + "1" * LONG,
    "1" * LONG + "x",
    "1.5." * (LONG // 4) + "x",
    "A. " * (LONG // 3),
    "A. B. " * (LONG // 6),
    " " * LONG + "x",
)


@pytest.mark.parametrize("text", ENDLESS, ids=lambda text: f"{text[:8]!r} of {len(text)}")
def test_no_text_takes_long_to_read(text):
    """27 digits and a letter were tried in 2**26 ways."""
    started = time.process_time()
    for spec in (PATH, AUTO, TURNS, Parse(kind="choice")):
        parse(text, spec, "choice", text)
    assert time.process_time() - started < 1


def test_measures_of_each_kind():
    plans = [MetaAction("KEEP", "STRAIGHT"), MetaAction("STOP", "STRAIGHT")]
    said = [plans[0], Invalid("keep", "")]
    assert measure(plans, said)["exact_accuracy"] == 0.5 and measure(plans, said)["invalid"] == 1
    letters = [Choice("A"), Choice("B"), Choice("B"), Choice("A")]
    answered = [Choice("A"), Choice("A"), Choice("B"), Invalid("?", "")]
    found = measure(letters, answered)
    # A: 1 of 2 labels and 2 answers, B: 1 of 2 labels and 1 answer
    assert found["accuracy"] == 0.5 and found["invalid"] == 1 and found["macro_f1"] == pytest.approx((2 / 4 + 2 / 3) / 2)
    closed = measure(letters, answered, Parse(kind="label", labels=("A", "B", "C")))
    assert closed["confusion"]["rows"] == ["A", "B", "C"] and closed["macro_f1"] == found["macro_f1"]
    words = measure([FreeText("a red car and a bus"), FreeText("a bus")], [FreeText("a red car and a bus"), Invalid("", "empty")])
    assert words["equal"] == 0.5 and words["invalid"] == 1 and words["rouge_l"] == pytest.approx(0.5) and words["bleu"] > 0
    paths = measure([Waypoints(np.ones((6, 2)), 0.5)], [Waypoints(np.zeros((6, 2)), 0.5)])
    assert paths["l2_m"]["uniad"]["3s"] == {"value": pytest.approx(2**0.5), "count": 1} and "collision_rate" not in paths
    assert measure([], [])["count"] == 0


def test_labels_that_cannot_be_measured_are_refused():
    with pytest.raises(SennaPruneError, match="label 1 cannot be read"):
        measure([Choice("A"), Invalid("x", "no letter")], [Choice("A")] * 2)
    with pytest.raises(SennaPruneError, match="several kinds"):
        measure([Choice("A"), FreeText("x")], [Choice("A")] * 2)


def test_agreement_needs_no_labels():
    near, far = Waypoints(POINTS + 0.2, 0.5), Waypoints(POINTS + np.array([[0, 0], [0, 0.6]]), 0.5)
    reference = [Waypoints(POINTS, 0.5), Waypoints(POINTS, 0.5), Choice("A"), Invalid("? ?", "")]
    found = agreement([near, far, Choice("A"), Invalid("?  ?", "other reason")], reference)
    assert found["agreement"] == 0.75 and found["shift_m"] == pytest.approx((0.2 * 2**0.5 + 0.3) / 2)
    assert agreement([far], reference[:1], Score(agreement_m=1.0))["agreement"] == 1
    assert not same(FreeText("a"), Invalid("a", "")) and same(FreeText("a  b"), FreeText("a b"))
    assert meaning(near) == "1.70, 0.20; 3.20, -0.05"
    assert agreement([], [])["agreement"] is None
