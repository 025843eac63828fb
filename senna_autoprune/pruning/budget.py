"""A budget and a shape over depth -> integer visual tokens entering each layer.

One meaning of budget for every method (spec methods.md): the average over the L decoder layers of visual tokens *entering* the layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.cost import LayerCost

BUDGET_FIELDS = ("retention", "tokens", "tokens_per_view", "flops")
_SIXTEENTHS = np.arange(1, 16) / 16


@dataclass(frozen=True)
class Budget:
    """Exactly one of: share of V, tokens averaged over layers, tokens per view, share of the full prefill's FLOPs.

    own: none of them, the method's released constants decide (its trace says what came of it).

    Raises:
        SennaPruneError: if none or several are given, or one is out of range.
    """

    retention: float | None = None
    tokens: float | None = None
    tokens_per_view: float | None = None
    flops: float | None = None
    own: bool = False

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in BUDGET_FIELDS if getattr(self, name) is not None}
        if self.own:
            if given:
                raise SennaPruneError(f"budget: this mode's released constants are its budget; drop {', '.join(given)}")
            return
        if len(given) != 1:
            raise SennaPruneError(f"budget: give exactly one of {', '.join(BUDGET_FIELDS)}; got {', '.join(given) if given else 'none'}")
        ((name, value),) = given.items()
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value <= 0:
            raise SennaPruneError(f"budget: {name} must be a positive number, got {value!r}")
        if name in ("retention", "flops") and value > 1:
            raise SennaPruneError(f"budget: {name} is a share and must be <= 1, got {value}")

    def average_tokens(self, visual: int, views: int | None) -> float:
        """The budget as visual tokens per layer, averaged over layers. Not defined for a FLOPs budget.

        Raises:
            SennaPruneError: if tokens_per_view is given and the number of views is unknown, or more is asked than there is.
        """
        if self.retention is not None:
            return self.retention * visual
        if self.tokens_per_view is not None:
            if not views:
                raise SennaPruneError("budget: tokens_per_view needs views, and this prompt's visual tokens have none; use tokens")
            average = self.tokens_per_view * views
        elif self.tokens is not None:
            average = self.tokens
        else:
            raise ValueError("a FLOPs budget has no token average before it is solved")
        if average > visual:
            raise SennaPruneError(
                f"budget: {average:g} visual tokens a layer asked of a prompt that has {visual}; the nearest possible is {visual}"
            )
        return average


@dataclass(frozen=True)
class Allocation:
    """How many visual tokens enter each layer.

    entering: n_0..n_{L-1}, and optionally n_L, what leaves the last layer.
    selected: of those, how many are *chosen* by score at that layer's input (the rest are revived); None means all.
    """

    entering: tuple[int, ...]
    selected: tuple[int, ...] | None = None

    def chosen(self, layer: int) -> int:
        """Tokens picked by score at the input of ``layer``."""
        return (self.selected or self.entering)[layer]


def solve_tokens(
    shape: Sequence[float], visual: int, total: int, *, min_keep: int = 1, fixed: int | None = None, bucket: int = 1
) -> list[int]:
    """Integer schedule whose sum, with the ``fixed`` tokens of layers already run, is ``total`` (paper eq. 7, spec step 3).

    One global scale s by bisection: n_l = clamp(floor(s f(l)), min_keep, n_{l-1}); what remains is handed out where the
    fractional part is largest, without breaking monotony.

    Args:
        shape: f(l) > 0 of the layers to schedule, in order (usually 1..L-1).
        visual: V, upper bound of every entry.
        total: token-layers to spend, ``fixed`` included.
        min_keep: lower bound of every entry.
        fixed: token-layers spent before the first scheduled one (default V: layer 0 runs on all tokens).
        bucket: every entry is a multiple of it, so that shapes repeat; less than one bucket of ``total`` may stay unspent.

    Returns:
        one integer per entry of ``shape``, non-increasing, in [min_keep, V].

    Raises:
        SennaPruneError: if the budget is impossible; the message holds the nearest possible one.
    """
    fixed = visual if fixed is None else fixed
    layers, min_keep, visual = len(shape) + 1, -(-min_keep // bucket) * bucket, visual // bucket * bucket
    low, high = fixed + min_keep * len(shape), fixed + visual * len(shape)
    if not low <= total <= high and (bucket == 1 or total < low):
        nearest = min(max(total, low), high)
        raise SennaPruneError(
            f"budget: an average of {total / layers:.2f} visual tokens over {layers} layers is impossible with {visual} visual tokens "
            f"(layer 0 runs on all of them); the nearest possible average is {nearest / layers:.2f} "
            f"(retention {nearest / layers / visual:.4f})"
        )
    return _solve(shape, visual, min_keep, lambda counts: fixed + counts.sum(-1), total, bucket)


def solve_flops(
    shape: Sequence[float], visual: int, text: int, share: float, cost: LayerCost, *, min_keep: int = 1, bucket: int = 1
) -> list[int]:
    """Like ``solve_tokens`` for a share of the unpruned prefill's FLOPs, text tokens counted; never above the budget.

    Raises:
        SennaPruneError: if not even ``min_keep`` tokens a layer fit; the message holds the nearest possible share.
    """
    layers = len(shape) + 1
    full = layers * cost(visual + text)

    def spent(counts: np.ndarray) -> Any:
        tokens = counts.astype(float) + text
        return cost(visual + text) + np.asarray(cost(tokens)).sum(-1)  # type: ignore[arg-type]

    min_keep = -(-min_keep // bucket) * bucket
    least = spent(np.full(len(shape), min_keep))
    if share * full < least * (1 - 1e-12):
        raise SennaPruneError(
            f"budget: {share:g} of the full prefill's FLOPs is impossible with {visual} visual and {text} text tokens; "
            f"the nearest possible is {math.ceil(least / full * 1e4) / 1e4:.4f}"
        )
    return _solve(shape, visual // bucket * bucket, min_keep, spent, share * full * (1 + 1e-12), bucket)


def _solve(shape: Sequence[float], visual: int, min_keep: int, spent: Callable[[np.ndarray], Any], budget: float, bucket: int) -> list[int]:
    """Largest schedule with ``spent(schedule) <= budget``: one scale, of 15 candidates a round, then the remainder.

    spent: of schedules along the last axis.
    """
    values = np.maximum(np.asarray(shape, dtype=float), 1e-12 * max(shape))
    falling = bool((values[1:] <= values[:-1]).all())

    def counts(scale: Any) -> np.ndarray:
        clipped = np.maximum(np.minimum(np.floor(scale * values / bucket) * bucket, visual), min_keep)
        return clipped if falling else np.minimum.accumulate(clipped, axis=-1)  # n_l <= n_{l-1}

    low, high = 0.0, (visual + 1) / values.min()
    for _ in range(50):
        between = low + (high - low) * _SIXTEENTHS
        spends = spent(counts(between[:, None]))
        fits = int((spends <= budget).sum())  # what fits is below what does not
        low, high = between[fits - 1] if fits else low, between[fits] if fits < len(between) else high
        if fits and spends[fits - 1] == budget:  # nothing remains, and another scale that spends as much has the same counts
            return [int(count) for count in counts(low)]
        if high - low <= 1e-15 * high:
            break
    schedule = counts(low).astype(int)
    fraction = low * values / bucket - np.floor(low * values / bucket)
    order = sorted(range(len(values)), key=lambda layer: (-fraction[layer], layer))
    handed_out = True
    while handed_out:  # each round may unblock deeper layers; ends when a bucket more would break the budget
        handed_out = False
        for layer in order:
            above = visual if layer == 0 else schedule[layer - 1]
            if schedule[layer] + bucket > above:
                continue
            schedule[layer] += bucket
            if spent(schedule) > budget:
                schedule[layer] -= bucket
                continue
            handed_out = True
    return [int(count) for count in schedule]
