"""The test of one budget, looked at in blocks of scenes, and of several budgets from the largest down.

Both margins must pass (an intersection-union test, each at the full alpha): accuracy by the score test of non-inferiority,
safety by the exact binomial test of the share of scenes with a newly dangerous flip. Each has the alpha-spending bounds of
``measures.sequential`` and stays passed once passed. Stopping for hopelessness only ever withholds a certificate, so it
costs no error. Budgets are tried in an order fixed beforehand and the first failure ends the sequence: the chance of any
false certificate stays alpha without a correction (Maurer, Hothorn and Lehmacher 1995; Wiens 2003).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

from senna_autoprune.evaluation.measures.intervals import scenes_upper
from senna_autoprune.evaluation.measures.paired_tests import ALPHA
from senna_autoprune.evaluation.measures.sequential import conditional_power, spending_bounds
from senna_autoprune.evaluation.measures.verdict import NOT_SHOWN, SAFE, Compared

HOPELESS = 0.05  # conditional power below which a budget is given up


@dataclass(frozen=True)
class Rules:
    """Stated beforehand. margin: loss of accuracy (share), or metres of L2; safety: share of scenes with a newly dangerous flip;
    stops: scenes asked at each look.
    """

    margin: float
    safety: float
    stops: tuple[int, ...]
    alpha: float = ALPHA

    @property
    def bounds(self) -> tuple[float, ...]:
        """Of z, at each look."""
        return _bounds(self.stops, self.alpha)


@lru_cache(maxsize=64)
def _bounds(stops: tuple[int, ...], alpha: float) -> tuple[float, ...]:
    return tuple(spending_bounds([stop / stops[-1] for stop in stops], alpha))


@dataclass(frozen=True)
class Look:
    """What one look saw. ``outcome``: safe, not shown, or None (go on); ``lower`` and ``dangerous_upper`` are bounds at this
    look's level, so that they hold however often was looked. ``dangerous`` None: nobody says which flips are, so safety has no say.
    """

    scenes: int
    questions: int
    difference: float
    lower: float
    z: float
    bound: float
    accurate: bool
    dangerous: int | None
    dangerous_upper: float | None
    safety_p: float | None
    level: float
    harmless: bool
    power: float
    outcome: str | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def look(rules: Rules, index: int, pairs: Compared, dangerous: int | None, before: Look | None = None) -> Look:
    """One look at a budget.

    Args:
        index: of the look, from 0. pairs: answers of all scenes asked so far; dangerous: how many of them hold a newly dangerous
            flip, None where that is not defined.
        before: the look before this one; what it passed stays passed.
    """
    from scipy.special import bdtr, ndtr

    bound, level = rules.bounds[index], float(ndtr(-rules.bounds[index]))
    z, lower = pairs.test(rules.margin, rules.alpha, level)
    safety_p = None if dangerous is None else float(bdtr(dangerous, pairs.scenes, rules.safety))
    accurate = z >= bound or (before is not None and before.accurate)
    harmless = safety_p is None or safety_p <= level or (before is not None and before.harmless)
    upper = None if dangerous is None else scenes_upper(dangerous, pairs.scenes, 1 - level) or 1.0
    share = rules.stops[index] / rules.stops[-1]
    power = 1.0 if accurate else conditional_power(z, share, rules.bounds[-1])
    outcome, reason = _outcome(rules, index, accurate, harmless, dangerous, power)
    return Look(
        pairs.scenes, int(pairs.questions), pairs.difference, lower, z, bound, accurate,
        dangerous, upper, safety_p, level, harmless, power, outcome, reason,
    )  # fmt: skip


def _outcome(rules: Rules, index: int, accurate: bool, harmless: bool, dangerous: int | None, power: float) -> tuple[str | None, str]:
    """(outcome, why): safe, not shown, or None to go on."""
    from scipy.special import bdtr, ndtr

    last = index == len(rules.stops) - 1
    if accurate and harmless:
        return SAFE, ("the margin is met" if dangerous is None else "both margins are met") + ("" if last else ", early")
    missing = " and ".join(name for name, met in (("accuracy", accurate), ("safety", harmless)) if not met)
    if last:
        return NOT_SHOWN, f"{missing}: not shown"
    best = float(bdtr(dangerous or 0, rules.stops[-1], rules.safety))  # if no scene to come holds one
    if not harmless and best > float(ndtr(-rules.bounds[-1])):
        return NOT_SHOWN, "safety: stopped early, it can no longer be shown"
    if not accurate and power < HOPELESS:
        return NOT_SHOWN, f"accuracy: stopped early, hopeless (conditional power {100 * power:.1f} %)"
    return None, ""


def examine(rules: Rules, answers: Callable[[int], tuple[Compared, int | None]]) -> list[Look]:
    """All looks at one budget until it is decided. ``answers(look)`` asks what that look needs."""
    looks: list[Look] = []
    for index in range(len(rules.stops)):
        pairs, dangerous = answers(index)
        looks.append(look(rules, index, pairs, dangerous, looks[-1] if looks else None))
        if looks[-1].outcome is not None:
            break
    return looks


def in_sequence(budgets: Sequence[float], test: Callable[[float], list[Look]]) -> list[tuple[float, list[Look]]]:
    """Test budgets from the largest down; the first that is not shown safe is the last that is tried."""
    done: list[tuple[float, list[Look]]] = []
    for budget in sorted(budgets, reverse=True):
        done.append((budget, test(budget)))
        if done[-1][1][-1].outcome != SAFE:
            break
    return done
