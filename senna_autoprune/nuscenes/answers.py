"""What an answer says: strict parsers of the closed question types. Text that does not parse is the class ``invalid``.

The rules for a planning answer (``parse_plan``), each of them on purpose:

- case: upper case only, as the question asks for and as the original metric counts it (``keep, straight`` is invalid);
- spaces: white space round the answer and round its one comma is ignored, none is required (``KEEP,STRAIGHT`` is
  valid);
- trailing text: nothing may follow, not even a full stop. A consumer of the plan would otherwise have to guess.

So whatever is exactly right here is also right for the original substring metric; the reverse does not hold.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

SPEEDS: tuple[str, ...] = ("KEEP", "ACCELERATE", "DECELERATE", "STOP")
PATHS: tuple[str, ...] = ("STRAIGHT", "RIGHT_CHANGE", "LEFT_CHANGE", "RIGHT_TURN", "LEFT_TURN")
INVALID = "invalid"

_PAIR = rf"({'|'.join(SPEEDS)})[ \t]*,[ \t]*({'|'.join(PATHS)})"
_PLAN = re.compile(rf"\s*{_PAIR}\s*", re.ASCII)
_OBJECT_LINE = re.compile(rf"\s*Object\s+(\d{{1,4}})\s*:\s*{_PAIR}\s*", re.ASCII)
_YES_NO = re.compile(r"\s*(yes|no)\b", re.IGNORECASE | re.ASCII)
_ROAD_USER = re.compile(
    r"\b(bicycle|motorcycle|pedestrian)s?\s+located\s+(\d{1,4})\s+meters?\s+ahead\s+of\s+me"
    r"(?:\s+and\s+(\d{1,4})\s+meters?\s+to\s+the\s+(left|right))?",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True)
class Plan:
    """A meta-action: one of 4 speeds and one of 5 paths, or both ``invalid``."""

    speed: str
    path: str

    @property
    def valid(self) -> bool:
        return self.speed != INVALID

    def __str__(self) -> str:
        return f"{self.speed}, {self.path}" if self.valid else INVALID


INVALID_PLAN = Plan(INVALID, INVALID)


@lru_cache(maxsize=4096)  # few answers, each of many questions, read by many measures
def parse_plan(text: str) -> Plan:
    """``SPEED, PATH`` and nothing else; anything else is ``INVALID_PLAN``. Never raises on a string."""
    match = _PLAN.fullmatch(text)
    return Plan(match[1], match[2]) if match else INVALID_PLAN


def plan_meaning(text: str) -> str:
    """What makes two planning answers agree: the same plan; for answers that do not parse, the same words."""
    plan = parse_plan(text)
    return str(plan) if plan.valid else f"{INVALID}: {text.strip()}"


@dataclass(frozen=True)
class RoadUser:
    """A vulnerable road user as an answer names it; ``left_m`` is negative to the right, 0 when no side is given."""

    kind: str
    ahead_m: int
    left_m: int


@dataclass(frozen=True)
class RoadUsers:
    """Answer to the VRU question: ``present`` is None where the answer opens with neither yes nor no (invalid)."""

    present: bool | None
    users: tuple[RoadUser, ...] = ()

    @property
    def valid(self) -> bool:
        return self.present is not None


def parse_road_users(text: str) -> RoadUsers:
    """Yes or no is the first word (any case); after a yes, every ``<kind> located N meters ahead of me [and M meters to
    the left|right]`` is read, in order. What follows a no is not read: the label's own "no" names all three kinds.
    """
    match = _YES_NO.match(text)
    if match is None:
        return RoadUsers(None)
    if match[1].lower() == "no":
        return RoadUsers(False)
    users = []
    for kind, ahead, side, direction in _ROAD_USER.findall(text):
        left = int(side or 0) * (1 if direction.lower() == "left" else -1)
        users.append(RoadUser(kind.lower(), int(ahead), left))
    return RoadUsers(True, tuple(users))


def parse_motion(text: str) -> dict[int, Plan]:
    """``Object i: SPEED, PATH`` lines -> {i: Plan}. Other lines are skipped; of two lines on one object the first
    counts.

    An object of the label without a line of its own is the caller's ``invalid``.
    """
    plans: dict[int, Plan] = {}
    for line in text.splitlines():
        match = _OBJECT_LINE.fullmatch(line)
        if match:
            plans.setdefault(int(match[1]), Plan(match[2], match[3]))
    return plans


LIGHTS: tuple[str, ...] = ("red", "yellow", "green", "none")
_LIGHT_WORD = re.compile(r"\b(red|yellow|amber|green)\b", re.IGNORECASE | re.ASCII)
_NO_LIGHT = re.compile(r"\b(none|no|not|cannot|can't|don't|doesn't|isn't|aren't|without)\b", re.IGNORECASE | re.ASCII)


def parse_light(text: str) -> str:
    """Colour of the traffic light an answer states: red, yellow (or amber), green, ``none``, else ``invalid``.

    One colour named without a negation is that colour; no colour and a negation ("none", "there is no traffic light")
    is ``none``;
    two colours, or a colour together with a negation, are not one statement: invalid.
    """
    colours = {word.lower().replace("amber", "yellow") for word in _LIGHT_WORD.findall(text)}
    negated = _NO_LIGHT.search(text) is not None
    if not colours:
        return "none" if negated else INVALID
    return colours.pop() if len(colours) == 1 and not negated else INVALID
