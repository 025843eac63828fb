"""Statistics -> the one sentence that may be said of a pruned setting. Terminal, report and ``budget`` all say it with this.

A sentence claims no more than a one-sided 95 % bound holds: "not worse by more than X". Without a margin stated beforehand it
reports the bound; with one it says whether the margin was met. Zero flips are "at most so many per cent of scenes".
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Protocol

from senna_autoprune.evaluation.measures.clusters import FEW_SCENES, NO_VERDICT
from senna_autoprune.evaluation.measures.intervals import scenes_upper
from senna_autoprune.evaluation.measures.paired_tests import ALPHA

SAFE, NOT_SHOWN, FEW, BLIND = "safe", "not shown", "too few scenes", "cannot show harm"
CONFIDENCE = f"{100 * (1 - ALPHA):.0f} %"
POINTS, METRES = "points", "m"  # units of a difference: hundredths of a share, and metres


class Compared(Protocol):
    """Paired outcomes by scene: ``intervals.Paired`` of rights and wrongs, ``distances.Gains`` of metres."""

    @property
    def scenes(self) -> int: ...

    @property
    def questions(self) -> float: ...

    @property
    def difference(self) -> float:
        """Negative: worse."""
        ...

    @property
    def reversed(self) -> Compared:
        """Before and after exchanged."""
        ...

    def test(self, margin: float, alpha: float, level: float) -> tuple[float, float]: ...


@dataclass(frozen=True)
class Evidence:
    """What is known of one setting against unpruned, on the same questions. Shares, not per cent.

    tokens: share of visual tokens kept, averaged over the layers; None for a control that prunes nothing.
    difference, lower: accuracy after - before, and its one-sided 95 % bound (None without two scenes); or in the ``unit`` "m"
    the metres by which a plan is nearer to the truth. Negative is worse.
    dangerous: scenes with a newly dangerous flip; dangerous_upper: exact one-sided 95 % bound of their share. None where nobody
    says which flips are dangerous. upper: the one-sided 95 % bound the other way: below 0 it is worse for certain.
    """

    setting: str
    tokens: float | None
    questions: int
    scenes: int
    difference: float
    lower: float | None
    dangerous: int | None
    dangerous_upper: float | None
    unit: str = POINTS
    upper: float | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def evidence(setting: str, tokens: float | None, pairs: Compared, dangerous: Iterable[str] | None, unit: str = POINTS) -> Evidence | None:
    """``Evidence`` of paired answers; None of no questions. dangerous: the scenes of newly dangerous flips; None: not defined."""
    if pairs.questions == 0:
        return None
    hit = None if dangerous is None else len(set(dangerous))
    lower = upper = None
    if pairs.scenes > 1:  # the bounds do not depend on the margin
        lower, upper = pairs.test(0.5, ALPHA, ALPHA)[1], -pairs.reversed.test(0.5, ALPHA, ALPHA)[1]
    most = None if hit is None else scenes_upper(hit, pairs.scenes, 1 - ALPHA)
    return Evidence(setting, tokens, int(pairs.questions), pairs.scenes, pairs.difference, lower, hit, most, unit, upper)


@dataclass(frozen=True)
class Verdict:
    """``outcome``: one of safe, not shown, too few scenes, cannot show harm; or None where no margin was stated."""

    outcome: str | None
    sentence: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def points(share: float) -> str:
    """0.0123 -> "1.2 points"; exactly one is "1.0 point"."""
    text = f"{100 * share:.1f}"
    return f"{text} {'point' if text == '1.0' else 'points'}"


def amount(value: float, unit: str = POINTS) -> str:
    """A difference in its unit: "1.2 points", "1.0 point of agreement", "0.12 m"."""
    if unit == METRES:
        return f"{value:.2f} m"
    return points(value) + unit.removeprefix(POINTS)


def signed(value: float, unit: str = POINTS) -> str:
    """ "+1.2 points", "-0.12 m": negative is worse."""
    return f"{value:+.2f} m" if unit == METRES else f"{100 * value:+.1f} points"


def passes(found: Evidence, margin: float, safety: float | None = None) -> bool:
    """Whether both bounds keep within what was stated beforehand."""
    accurate = found.lower is not None and found.lower > -margin
    unsafe = safety is not None and found.dangerous is not None and (found.dangerous_upper is None or found.dangerous_upper > safety)
    return accurate and not unsafe


def judge(found: Evidence, margin: float | None = None, safety: float | None = None, blind: Iterable[Evidence] = ()) -> Verdict:
    """The verdict on one setting.

    Args:
        margin, safety: stated before the answers were computed: the greatest loss, the greatest share of scenes with a newly
            dangerous flip. Without a margin the bound itself is reported.
        blind: controls that see nothing (no-image, majority): if one meets the margin, these questions cannot show harm.
    """
    who = f"{_tokens(found.tokens)}with {found.setting}"
    if found.scenes < NO_VERDICT or found.lower is None:
        return Verdict(FEW, f"{who}: no verdict, {_scenes(found.scenes)} (at least {NO_VERDICT} are needed)")
    if margin is not None:
        sees_nothing = [control.setting for control in blind if passes(control, margin)]
        if sees_nothing:
            return Verdict(
                BLIND, f"these questions cannot show harm: {sees_nothing[0]} too is not worse by more than {amount(margin, found.unit)}"
            )
    said = f"{CONFIDENCE}, {_scenes(found.scenes)}" + (", fewer than the intervals were checked for" if found.scenes < FEW_SCENES else "")
    flips = _flips(found)
    if margin is None:
        if found.lower >= 0:
            return Verdict(None, f"{who}: no loss ({said}), {flips}")
        if found.upper is not None and found.upper < 0:
            least, most = amount(down(-found.upper, found.unit), found.unit), amount(up(-found.lower, found.unit), found.unit)
            return Verdict(None, f"{who}: worse by at least {least}, by at most {most} (each {said}), {flips}")
        return Verdict(None, f"{who}: not worse by more than {amount(up(-found.lower, found.unit), found.unit)} ({said}), {flips}")
    if not passes(found, margin):
        shown = f"it may be worse by up to {amount(up(-found.lower, found.unit), found.unit)}, the margin is {amount(margin, found.unit)}"
        return Verdict(NOT_SHOWN, f"{who}: not shown to be safe, {shown} ({said})")
    good = f"not worse by more than {amount(margin, found.unit)} ({said}), {flips}"
    if not passes(found, margin, safety):
        assert safety is not None
        enough = "" if found.dangerous else f"; {_needed(safety)} scenes without one would show {100 * safety:.1f} %"
        return Verdict(NOT_SHOWN, f"{who}: {good}, but at most {100 * safety:.1f} % was to be shown{enough}")
    return Verdict(SAFE, f"{who}: {good}")


def _needed(safety: float) -> int:
    from senna_autoprune.evaluation.measures.paired_tests import scenes_for_safety

    return scenes_for_safety(safety)


def _tokens(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.3g} % of tokens "


def _scenes(count: int) -> str:
    return f"{count} scene" if count == 1 else f"{count} scenes"


def _flips(found: Evidence) -> str:
    if found.dangerous is None:
        return "of these answers nobody says which flips are dangerous"
    most = "" if found.dangerous_upper is None else f" (at most {100 * up(found.dangerous_upper):.1f} % of scenes)"
    return f"{'no' if not found.dangerous else 'a'} newly dangerous flip in {found.dangerous or found.scenes}" + (
        f" of {_scenes(found.scenes)}{most}" if found.dangerous else f" scenes{most}"
    )


def up(value: float, unit: str = POINTS) -> float:
    """Rounded up to a tenth of a point or a centimetre: a bound is never printed smaller than it is (a lower one: ``-up(-bound)``)."""
    steps = 100 if unit == METRES else 1000
    return ceil(value * steps - 1e-9) / steps


def down(value: float, unit: str = POINTS) -> float:
    """Rounded down, as ``up`` rounds up."""
    return -up(-value, unit)
