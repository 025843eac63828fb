"""What these scenes could show at best: not one answer changes, no scene turns dangerous. Known before anything is asked.

A margin below that can only end in "not shown", at the price of every answer; it is refused with what would do.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.budget.config import SAFETY
from senna_autoprune.evaluation.budget.sequence import Rules
from senna_autoprune.evaluation.measures.distances import Gains
from senna_autoprune.evaluation.measures.intervals import CAUTIOUS, Paired, difference_effect, difference_score, lower_end, scenes_upper
from senna_autoprune.evaluation.measures.paired_tests import scenes_for_safety
from senna_autoprune.evaluation.measures.verdict import points, up

Array = NDArray[Any]
MOST_SCENES = 100_000


def last_level(stops: tuple[int, ...]) -> float:
    """One-sided level of the last of these looks."""
    return float(ndtr(-Rules(0.5, 0.5, stops).bounds[-1]))


def least_safety(stops: tuple[int, ...]) -> float:
    """The share of scenes that is shown if not one of them has a newly dangerous flip."""
    return scenes_upper(0, stops[-1], 1 - last_level(stops)) or 1.0


def least_margin(count: Array, level: float, alpha: float = 0.05) -> float:
    """The loss that is excluded if no answer changes. Args: (S,) questions of each scene."""
    none, total = np.zeros(len(count)), float(count.sum())
    effect = difference_effect(Paired(count, none, none, count), 1 - alpha, CAUTIOUS)
    return -lower_end(lambda d: difference_score(0.0, 0.0, total / effect, d), 0.0, -1.0, 1 - level)


def safety_of(stated: float | None, stops: tuple[int, ...]) -> tuple[float, str]:
    """(share, where it comes from) of the safety margin; stated: per cent, or None.

    Raises:
        SennaPruneError: these scenes cannot show what was stated.
    """
    best = least_safety(stops)
    shown = up(best)
    if stated is None:
        share = SAFETY / 100
        return (
            (share, "default") if best <= share else (shown, f"the least that {stops[-1]} scenes can show; {SAFETY:g} % was out of reach")
        )
    if best > stated / 100:
        raise SennaPruneError(
            f"{stops[-1]} scenes to certify on cannot show --safety {stated:g}: if not one has a newly dangerous flip, {100 * shown:.1f} % "
            f"of scenes may still; state --safety {100 * shown:.1f}, or bring {scenes_for_safety(stated / 100, last_level(stops))} scenes"
        )
    return stated / 100, "stated"


def refuse_margin(margin: float, count: Array, stops: tuple[int, ...]) -> None:
    """SennaPruneError: this margin (a share) cannot be shown by as many questions in so many scenes."""
    level = last_level(stops)
    best = least_margin(count, level)
    if margin < best:
        raise SennaPruneError(
            f"{count.sum():.0f} questions of {len(count)} scenes to certify on cannot show a margin of {points(margin)}: if not one answer "
            f"changes, a loss of {points(up(best))} is still possible; state --margin {100 * up(best):.1f} or more, or bring about "
            f"{scenes_for_margin(margin, count, level)} scenes"
        )


def refuse_metres(margin: float, count: Array, stops: tuple[int, ...], event: float) -> None:
    """SennaPruneError: this margin (metres) cannot be shown by so many scenes, if one event is so many metres (``distances``)."""
    level = last_level(stops)
    none = Gains(np.zeros(len(count)), np.zeros(len(count)), count, event)
    best = -none.test(margin, 0.05, level)[1]
    if margin < best:
        shown, scenes = f"{ceil(100 * best) / 100:.2f}", ceil(none.scenes_needed(margin, level, 0.5))
        raise SennaPruneError(
            f"{len(count)} scenes to certify on cannot show a margin of {margin:.2f} m: if not one path changes, {shown} m are still "
            f"possible, as a blind model's paths change by {event:.2f} m; state --margin {shown} or more, or bring about {scenes} scenes"
        )


def scenes_for_margin(margin: float, count: Array, level: float) -> int:
    """About how many such scenes exclude a loss of ``margin`` if no answer changes."""
    scenes, each = len(count), np.array([count.sum() / len(count)])
    while scenes < MOST_SCENES:
        best = least_margin(np.repeat(each, scenes), level)
        if best <= margin:
            break
        scenes = max(scenes + 1, ceil(scenes * best / margin))
    return scenes
