"""What the first half decides: the margin if none was stated, whether the questions can show harm, the method, the grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from senna_autoprune.evaluation.budget.answers import Pairs
from senna_autoprune.evaluation.budget.config import LARGEST_MARGIN, LARGEST_MARGIN_M
from senna_autoprune.evaluation.measures.verdict import METRES, POINTS


def default_margin(unpruned: float, controls: Mapping[str, float], unit: str = POINTS) -> float:
    """Half of (unpruned minus the best trivial control), at most two points, as a share; or 0.1 m. At most 0: the controls are as good."""
    largest = LARGEST_MARGIN_M if unit == METRES else LARGEST_MARGIN / 100
    return min(largest, (unpruned - max(controls.values())) / 2)


@dataclass(frozen=True)
class Tried:
    """A candidate at one budget on the choosing half. ``difference``: None where the method cannot reach the budget."""

    method: str
    budget: float
    difference: float | None
    dangerous: int | None
    scenes: int
    promising: bool

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def explore(method: str, grid: Sequence[float], answers: Callable[[float], Pairs | None], margin: float, safety: float) -> list[Tried]:
    """A method from the largest budget down, until it loses more than the margin on this half, or too many scenes turn
    dangerous. Point estimates: nothing is claimed of this half.
    """
    tried: list[Tried] = []
    for budget in sorted(grid, reverse=True):
        pairs = answers(budget)
        if pairs is None or not pairs.questions:
            tried.append(Tried(method, budget, None, 0, 0, False))
            break
        counted = pairs.counted
        if not counted.questions:
            tried.append(Tried(method, budget, None, pairs.scenes_hit, counted.scenes, False))
            break
        good = counted.difference > -margin and (pairs.scenes_hit or 0) <= safety * counted.scenes
        tried.append(Tried(method, budget, counted.difference, pairs.scenes_hit, counted.scenes, good))
        if not good:
            break
    return tried


def best(tried: Mapping[str, Sequence[Tried]]) -> str:
    """The method that promises the smallest budget; of equals the one that loses least there, then the first."""

    def rank(method: str) -> tuple[float, float]:
        good = [one for one in tried[method] if one.promising]
        if not good:
            worst = min((one.difference for one in tried[method] if one.difference is not None), default=-1.0)
            return 2.0, -worst
        return good[-1].budget, -(good[-1].difference or 0.0)

    return min(tried, key=rank)


def candidate_grid(tried: Sequence[Tried], grid: Sequence[float]) -> tuple[float, ...]:
    """Budgets to certify, from the largest down: those that promised, and the next below them."""
    ordered = sorted(grid, reverse=True)
    return tuple(ordered[: sum(one.promising for one in tried) + 1])
