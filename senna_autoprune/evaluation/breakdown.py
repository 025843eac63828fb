"""In which conditions does pruning cost answers? The same measures, by attributes of the scene and of the question.

Light and weather are read from nuScenes' scene description (the only place where it states them); speed and command
from the question's own words. What is not known is the group ``unknown``, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from senna_autoprune.evaluation.answers import Plan
from senna_autoprune.evaluation.metrics import agreement, share

UNKNOWN = "unknown"
ATTRIBUTES = ("light", "weather", "location", "speed_band", "command")
SPEED_BANDS: tuple[tuple[int, str], ...] = ((1, "standing (0 m/s)"), (5, "1-4 m/s"), (10, "5-9 m/s"))
_FAST = "10 m/s and more"

_SPEED = re.compile(r"Your current speed is (-?\d{1,4}) m/s", re.ASCII)
_COMMAND = re.compile(r"the navigation command is '([^'\n]{1,80})'")
_NIGHT = re.compile(r"\bnight\b", re.IGNORECASE)
_RAIN = re.compile(r"\brain", re.IGNORECASE)
_AFTER_RAIN = re.compile(r"\bafter rain", re.IGNORECASE)


def light_of(description: str | None) -> str:
    """ "night" where the description says so, else "day"; without a description "unknown"."""
    if not description:
        return UNKNOWN
    return "night" if _NIGHT.search(description) else "day"


def weather_of(description: str | None) -> str:
    """ "rain", "after rain" (wet road, none falling) or "dry"; without a description "unknown"."""
    if not description:
        return UNKNOWN
    if _AFTER_RAIN.search(description):
        return "after rain"
    return "rain" if _RAIN.search(description) else "dry"


def speed_of(question: str) -> int | None:
    """Ego speed in m/s as a planning question states it (whole, truncated); None where it states none."""
    match = _SPEED.search(question)
    return int(match[1]) if match else None


def speed_band(speed: int | None) -> str:
    if speed is None:
        return UNKNOWN
    return next((name for limit, name in SPEED_BANDS if speed < limit), _FAST)


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
    attributes: Sequence[Mapping[str, str]], labels: Sequence[Plan], unpruned: Sequence[Plan], pruned: Sequence[Plan]
) -> dict[str, list[dict[str, Any]]]:
    """For each attribute a list of groups, largest first: count, exact accuracy unpruned and pruned, their ratio (None
    where the unpruned accuracy is 0), agreement.
    """
    return {name: _groups(lambda i, name=name: attributes[i][name], labels, unpruned, pruned) for name in ATTRIBUTES}  # type: ignore[misc]


def _groups(
    group_of: Callable[[int], str], labels: Sequence[Plan], unpruned: Sequence[Plan], pruned: Sequence[Plan]
) -> list[dict[str, Any]]:
    members: dict[str, list[int]] = {}
    for i in range(len(labels)):
        members.setdefault(group_of(i), []).append(i)
    groups = []
    for value, indices in sorted(members.items(), key=lambda item: (-len(item[1]), item[0])):
        before = share(sum(unpruned[i] == labels[i] for i in indices), len(indices))
        after = share(sum(pruned[i] == labels[i] for i in indices), len(indices))
        groups.append(
            {
                "value": value,
                "count": len(indices),
                "unpruned_accuracy": before,
                "pruned_accuracy": after,
                "retention_accuracy": after / before if before and after is not None else None,
                "agreement": agreement([str(pruned[i]) for i in indices], [str(unpruned[i]) for i in indices]),
            }
        )
    return groups
