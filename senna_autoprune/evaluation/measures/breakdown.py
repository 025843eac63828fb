"""In which conditions does pruning cost answers? The same measures, by attributes of the scene and of the question.

Light and weather are read from nuScenes' scene description (the only place where it states them); speed and command
from the question's own words. What is not known is the group ``unknown``, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from senna_autoprune.evaluation.measures.metrics import share

UNKNOWN = "unknown"
ATTRIBUTES = ("light", "weather", "location", "speed_band", "command")
SPEED_BANDS: tuple[tuple[int, str], ...] = ((1, "standing (0 m/s)"), (5, "1-4 m/s"), (10, "5-9 m/s"))
_FAST = "10 m/s and more"

_SPEED = re.compile(r"Your current speed is (-?\d{1,4}) m/s", re.ASCII)
_COMMAND = re.compile(r"the navigation command is '([^'\n]{1,80})'")
_NIGHT = re.compile(r"\bnight\b", re.IGNORECASE)
_RAIN = re.compile(r"\brain", re.IGNORECASE)
_AFTER_RAIN = re.compile(r"\bafter rain", re.IGNORECASE)
_of_few_texts = lru_cache(maxsize=512)  # descriptions of scenes and questions' words: few, each of many questions


@_of_few_texts
def light_of(description: str | None) -> str:
    """ "night" where the description says so, else "day"; without a description "unknown"."""
    if not description:
        return UNKNOWN
    return "night" if _NIGHT.search(description) else "day"


@_of_few_texts
def weather_of(description: str | None) -> str:
    """ "rain", "after rain" (wet road, none falling) or "dry"; without a description "unknown"."""
    if not description:
        return UNKNOWN
    if _AFTER_RAIN.search(description):
        return "after rain"
    return "rain" if _RAIN.search(description) else "dry"


@_of_few_texts
def speed_of(question: str) -> int | None:
    """Ego speed in m/s as a planning question states it (whole, truncated); None where it states none."""
    match = _SPEED.search(question)
    return int(match[1]) if match else None


def speed_band(speed: int | None) -> str:
    if speed is None:
        return UNKNOWN
    return next((name for limit, name in SPEED_BANDS if speed < limit), _FAST)


@_of_few_texts
def command_of(question: str) -> str:
    """The navigation command as a planning question states it, else "unknown"."""
    match = _COMMAND.search(question)
    return match[1] if match else UNKNOWN


def attributes_of(question: str, description: str | None, location: str | None) -> dict[str, str]:
    """The ``ATTRIBUTES`` of one question."""
    return {
        "light": light_of(description),
        "weather": weather_of(description),
        "location": location or UNKNOWN,
        "speed_band": speed_band(speed_of(question)),
        "command": command_of(question),
    }


def breakdown(
    attributes: Sequence[Mapping[str, str]],
    unpruned_right: Sequence[bool],
    pruned_right: Sequence[bool],
    agrees: Sequence[bool],
) -> dict[str, list[dict[str, Any]]]:
    """For each attribute a list of groups, largest first: count, exact accuracy unpruned and pruned, their ratio (None
    where the unpruned accuracy is 0), agreement. The sequences say for each question what is so.
    """
    result: dict[str, list[dict[str, Any]]] = {}
    for name in ATTRIBUTES:
        members: dict[str, list[int]] = {}
        for index, known in enumerate(attributes):
            members.setdefault(known.get(name, UNKNOWN), []).append(index)
        largest_first = sorted(members.items(), key=lambda item: (-len(item[1]), item[0]))
        result[name] = [_group(value, at, unpruned_right, pruned_right, agrees) for value, at in largest_first]
    return result


def _group(
    value: str, at: Sequence[int], unpruned_right: Sequence[bool], pruned_right: Sequence[bool], agrees: Sequence[bool]
) -> dict[str, Any]:
    before, after = sum(map(unpruned_right.__getitem__, at)), sum(map(pruned_right.__getitem__, at))
    return {
        "value": value,
        "count": len(at),
        "unpruned_accuracy": share(before, len(at)),
        "pruned_accuracy": share(after, len(at)),
        "retention_accuracy": share(after, before),
        "agreement": share(sum(map(agrees.__getitem__, at)), len(at)),
    }
