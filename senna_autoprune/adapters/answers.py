"""What an answer says: ``parse(text, spec) -> Choice | MetaAction | Waypoints | FreeText | Invalid``. Never raises on text.

Strict on purpose, as the planning parser is: what a reader would have to guess is ``Invalid`` with the reason, and counts as
a wrong answer, never as a missing one.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from senna_autoprune.evaluation.measures.parsing import parse_plan

if TYPE_CHECKING:
    from senna_autoprune.adapters.schema import Parse

LONGEST = 100_000  # characters of an answer that are read at all
YES_NO = ("yes", "no")

# x right, y forward of each kind of axes: columns of (first, second)
TO_RIGHT_FORWARD: Mapping[str, NDArray[np.float64]] = {
    "right-forward": np.array([[1.0, 0.0], [0.0, 1.0]]),
    "forward-left": np.array([[0.0, 1.0], [-1.0, 0.0]]),
    "forward-right": np.array([[0.0, 1.0], [1.0, 0.0]]),
}


@dataclass(frozen=True)
class Choice:
    """One of a closed set: a letter, or a label as the set spells it."""

    label: str


@dataclass(frozen=True)
class MetaAction:
    """Senna's plan: one of 4 speeds and one of 5 paths."""

    speed: str
    path: str

    def __str__(self) -> str:
        return f"{self.speed}, {self.path}"


@dataclass(frozen=True, eq=False)
class Waypoints:
    """A trajectory: points (T, 2) in metres, ``dt`` seconds apart, the first ``dt`` ahead; ``axes`` as in the schema."""

    points: NDArray[np.float64]
    dt: float
    axes: str = "right-forward"

    def right_forward(self) -> NDArray[np.float64]:
        """(T, 2), x to the right and y ahead: nuScenes' LIDAR frame at the keyframe."""
        turned: NDArray[np.float64] = self.points @ TO_RIGHT_FORWARD[self.axes]
        return turned

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Waypoints):
            return NotImplemented
        return (self.dt, self.axes) == (other.dt, other.axes) and np.array_equal(self.points, other.points)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class FreeText:
    """Words that are compared as words."""

    text: str


@dataclass(frozen=True)
class Invalid:
    """Nothing that could be read; ``text`` is what was said."""

    text: str
    reason: str


Answer = Choice | MetaAction | Waypoints | FreeText | Invalid


def parse(text: str, spec: Parse, question_type: str = "other", question: str = "") -> Answer:
    """What an answer (or a label) says under an adapter's ``parse``.

    Args:
        question_type: chooses ``spec.by_type``, and the reading of kind ``auto``.
        question: the question's text; a choice's options are read from it.
    """
    spec = spec.of(question_type)
    if len(text) > LONGEST:
        return Invalid(text[:LONGEST], f"longer than {LONGEST} characters")
    kind: str = spec.kind
    if kind == "auto":
        kind = {"plan": "plan", "choice": "choice", "yes_no": "label"}.get(question_type, "text")
        return _READ[kind](text, spec, question) if kind != "label" else read_label(text, YES_NO)
    if kind == "json":
        return _read_json(text, spec, question)
    return _READ[kind](text, spec, question)


def read_plan(text: str) -> Answer:
    """``SPEED, PATH`` and nothing else (``parse_plan``)."""
    plan = parse_plan(text)
    return MetaAction(plan.speed, plan.path) if plan.valid else Invalid(text, "not SPEED, PATH alone")


# --- closed sets ------------------------------------------------------------------------------------------------------

_LETTER_FIRST = re.compile(r"\(?([A-Za-z])(?:[.):]|\s*\Z)(?:\s|\Z)*", re.ASCII)
_LETTER_SAID = re.compile(r"\b(?:[Aa]nswer|[Oo]ption|[Cc]hoice|ANSWER)\s*(?:is\s*:?|:)?\s*\(?([A-Z])\b(?!')", re.ASCII)
_OPTION = re.compile(r"(?:(?<=\s)|(?<=\A)|(?<=[.;,:?]))\(?([A-Z])[.):]\s+", re.ASCII)


def options_of(question: str) -> dict[str, str]:
    """The options a question lists, letter -> text: the longest run ``A. ... B. ... C. ...`` from A. ``{}`` if there is none."""
    found = list(_OPTION.finditer(question))
    places: dict[str, list[int]] = {}  # letter -> where in ``found``
    for place, match in enumerate(found):
        places.setdefault(match[1], []).append(place)
    best: list[int] = []
    for start in places.get("A", ()):
        run = [start]
        for letter in ascii_uppercase[1:]:
            later = places.get(letter, [])
            at = bisect(later, run[-1])
            if at == len(later):
                break
            run.append(later[at])
        if len(run) >= max(2, len(best)):
            best = run
    ends = [found[place].start() for place in best[1:]] + [len(question)]
    return {found[place][1]: question[found[place].end() : end].strip() for place, end in zip(best, ends, strict=False)}


def read_choice(text: str, question: str = "") -> Answer:
    """The letter of a multiple choice: ``B``, ``(B)``, ``B.``, ``B. Going ahead``, ``The answer is B``, or one option's own words.

    A letter the question does not offer, two different letters, or words of none of the options are invalid.
    """
    options = options_of(question)
    said = " ".join(text.replace("*", "").split()).strip("\"'`")  # without Markdown's stars and quotes around
    words = [letter for letter, option in options.items() if _plain(option) == _plain(said) and said]
    first = _LETTER_FIRST.match(said)
    letters = {match[1].upper() for match in _LETTER_SAID.finditer(said)}
    if first is not None:
        letters.add(first[1].upper())
        rest = said[first.end() :]
        if rest and options and _plain(rest) in {_plain(option) for key, option in options.items() if key != first[1].upper()}:
            return Invalid(text, f"letter {first[1].upper()} with the words of another option")
    if not letters and len(words) == 1:
        return Choice(words[0])
    if len(letters) != 1:
        return Invalid(text, "no letter" if not letters else f"several letters: {', '.join(sorted(letters))}")
    letter = letters.pop()
    if options and letter not in options:
        return Invalid(text, f"letter {letter}, the options are {', '.join(options)}")
    return Choice(letter)


def read_label(text: str, labels: Sequence[str]) -> Answer:
    """The first line that is not empty, as one of the labels: case, spaces and an end mark apart, the whole line.

    For yes and no the first word counts, as such answers go on with a reason.
    """
    line = next((line for line in text.splitlines() if line.strip()), "")
    if tuple(labels) == YES_NO:
        word = re.match(r"\W*(yes|no)\b", line, re.IGNORECASE | re.ASCII)
        return Choice(word[1].lower()) if word else Invalid(text, "begins with neither yes nor no")
    known = {_plain(label): label for label in labels}
    label = known.get(_plain(line))
    return Choice(label) if label is not None else Invalid(text, "the first line is none of the labels")


def _plain(text: str) -> str:
    """Without case, outer quotes, double spaces and an end mark."""
    return " ".join(text.split()).strip("\"'`*").rstrip(".!;,").strip().casefold()


# --- numbers ----------------------------------------------------------------------------------------------------------

_NUMBER = r"[-+]?(?>\d+\.?\d*|\.\d+)(?>[eE][-+]?\d{1,3})?+"  # taken whole: digits that could be parted anywhere are never tried so
_NUMBERS = re.compile(rf"[\s,;]*+(?:{_NUMBER}(?:\.(?!\d))?+[\s,;]*+)++", re.ASCII)  # and the full stop of a sentence
_PAIR = re.compile(rf"[\[(]\s*({_NUMBER})\s*,\s*({_NUMBER})\s*[\])]", re.ASCII)
_TWO = re.compile(r"[\[(]([^\[\](),]*),([^\[\](),]*)[\])]")  # two of anything
_NO_NUMBER = re.compile(r"[-+]?(nan|inf|infinity|none|null|\?|-)?", re.IGNORECASE)
_BARE = re.compile(_NUMBER, re.ASCII)
_NESTED_LIST = re.compile(r"\[[^\[\]]*\]", re.ASCII)
MOST_POINTS = 1000


def read_waypoints(text: str, dt: float, axes: str, count: int | None = None) -> Answer:
    """``[x, y]`` or ``(x, y)`` pairs in order; else one list of an even number of numbers, x and y in turn.

    A text that holds pairs is read by its pairs alone, so that "at 0.5 s: (1.2, 0.1)" gives one point.
    """
    pairs = [(float(x), float(y)) for x, y in _PAIR.findall(text)]
    for two in (
        [part.strip() for part in found] for found in _TWO.findall(text)
    ):  # a point that is left out would shift all later ones in time
        numbers = [re.fullmatch(_NUMBER, part, re.ASCII) is not None for part in two]
        if not all(numbers) and all(number or _NO_NUMBER.fullmatch(part) for number, part in zip(numbers, two, strict=True)):
            return Invalid(text, f"({two[0]}, {two[1]}) is no waypoint")
    if not pairs:
        lists = [[float(number) for number in _BARE.findall(one)] for one in _NESTED_LIST.findall(text)]
        if len(lists) == 1:
            flat = lists[0]
        elif not lists and _NUMBERS.fullmatch(text):
            flat = [float(number) for number in _BARE.findall(text)]
        else:
            return Invalid(text, "no [x, y] pairs and not one list of numbers")
        if not flat or len(flat) % 2:
            return Invalid(text, f"{len(flat)} numbers are no pairs")
        pairs = list(zip(flat[::2], flat[1::2], strict=True))
    return _trajectory(text, pairs, dt, axes, count)


def _trajectory(text: str, pairs: Sequence[Sequence[float]], dt: float, axes: str, count: int | None) -> Answer:
    if count is not None and len(pairs) != count:
        return Invalid(text, f"{len(pairs)} waypoints, not {count}")
    if len(pairs) > MOST_POINTS:
        return Invalid(text, f"more than {MOST_POINTS} waypoints")
    points = np.array(pairs, dtype=np.float64)  # (T, 2)
    if not np.isfinite(points).all():
        return Invalid(text, "a waypoint is not a finite number")
    return Waypoints(points, dt, axes)


# --- JSON -------------------------------------------------------------------------------------------------------------

_STEP = re.compile(r"\.?([A-Za-z_]\w*)|\[(-?\d+)\]")
_FENCE = re.compile(r"```(?:json)?\s*(.*?)```", re.DOTALL)


def json_in(text: str) -> Any:
    """The first JSON object or list in a text: all of it, or of a fenced block, or what begins at the first brace. ValueError: none."""
    fenced = _FENCE.search(text)
    for candidate in [fenced[1]] if fenced else [text]:
        starts = [place for place in (candidate.find("{"), candidate.find("[")) if place >= 0]
        if starts:
            try:
                return json.JSONDecoder().raw_decode(candidate, min(starts))[0]
            except RecursionError as error:
                raise ValueError("nested too deeply") from error
    raise ValueError("no JSON")


def at_path(value: Any, path: str) -> Any:
    """``$.plan.trajectory`` or ``$.steps[0].action`` of plain data. KeyError: nothing is there."""
    for name, index in _STEP.findall(path.removeprefix("$")):
        if name and isinstance(value, dict) and name in value:
            value = value[name]
        elif index and isinstance(value, list) and -len(value) <= int(index) < len(value):
            value = value[int(index)]
        else:
            raise KeyError(path)
    return value


def _read_json(text: str, spec: Parse, question: str) -> Answer:
    assert spec.path is not None
    try:
        value = at_path(json_in(text), spec.path)
    except ValueError as error:
        return Invalid(text, f"no JSON ({error})")
    except KeyError:
        return Invalid(text, f"nothing at {spec.path}")
    if spec.then == "waypoints":
        pairs = _pairs_of(value)
        if pairs is not None:
            return _trajectory(text, pairs, spec.dt, spec.axes, spec.count)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        if spec.then != "text":
            return Invalid(text, f"what is at {spec.path} is no {spec.then}")
        value = json.dumps(value)
    found = _READ[spec.then](str(value), spec, question)
    return Invalid(text, found.reason) if isinstance(found, Invalid) else found


def _pairs_of(value: Any) -> list[tuple[float, float]] | None:
    """A list of pairs, or of objects with x and y, as floats; None if it is neither."""

    def number(one: Any) -> bool:
        return isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one)

    if not isinstance(value, list) or not value:
        return None
    if all(number(one) for one in value):
        return list(zip(map(float, value[::2]), map(float, value[1::2]), strict=True)) if len(value) % 2 == 0 else None
    pairs: list[tuple[float, float]] = []
    for one in value:
        if isinstance(one, dict):
            one = [one.get("x"), one.get("y")]
        if not isinstance(one, list) or len(one) != 2 or not all(number(part) for part in one):
            return None
        pairs.append((float(one[0]), float(one[1])))
    return pairs


_READ: dict[str, Callable[[str, Parse, str], Answer]] = {
    "plan": lambda text, spec, question: read_plan(text),
    "label": lambda text, spec, question: read_label(text, spec.labels),
    "choice": lambda text, spec, question: read_choice(text, question),
    "waypoints": lambda text, spec, question: read_waypoints(text, spec.dt, spec.axes, spec.count),
    "text": lambda text, spec, question: FreeText(text.strip()) if text.strip() else Invalid(text, "empty"),
}
