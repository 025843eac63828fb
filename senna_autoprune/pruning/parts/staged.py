"""Allocation of methods that cut at a few layers: one free parameter, solved so that the average over layers is the budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import PromptContext
from senna_autoprune.pruning.parts.revival import split_for_merge


def scaled_cuts(layers: int, cuts: Sequence[float]) -> list[int]:
    """Depths given as shares of L -> distinct layers 1..L-1 at whose input to cut."""
    return sorted({layer for cut in cuts if 1 <= (layer := max(1, int(cut * layers + 0.5))) < layers})


def entering(layers: int, visual: int, cuts: Sequence[int], counts: Sequence[int]) -> list[int]:
    """Tokens entering each layer when ``counts[s]`` are left from layer ``cuts[s]`` on."""
    per_layer = [visual] * layers
    for cut, count in zip(cuts, counts, strict=True):
        per_layer[cut:] = [count] * (layers - cut)
    return per_layer


def solve_stages(context: PromptContext, cuts: Sequence[int], shares: Callable[[float], Sequence[float]]) -> list[int]:
    """Tokens entering each layer for the context's budget.

    Args:
        cuts: layers at whose input tokens are dropped.
        shares: free parameter in [0, 1] -> share of V left after each cut, none falling as the parameter grows, all 1 at 1.

    Returns:
        L counts whose average is within half a token of the budget; for a FLOPs budget the largest that stay within it.

    Raises:
        SennaPruneError: if the budget is below what the layers above the first cut take; the message holds the nearest possible one.
    """
    layers, visual, text, flops = context.layers, context.visual, context.text, context.budget.flops

    def counts(parameter: float) -> list[int]:
        return entering(layers, visual, cuts, [max(1, int(share * visual + 0.5)) for share in shares(parameter)])

    def spent(per_layer: Sequence[int]) -> float:
        return context.cost.prefill(count + text for count in per_layer) if flops is not None else sum(per_layer)

    full = spent([visual] * layers)
    budget = flops * full * (1 + 1e-12) if flops is not None else context.average_tokens() * layers
    least = spent(counts(0.0))
    if least - budget > (0 if flops is not None else layers / 2):
        name, asked = ("flops", flops) if flops is not None else ("retention", budget / full)
        raise SennaPruneError(
            f"budget: {name} {asked:.4f} is impossible when the first cut is at layer {cuts[0] if cuts else layers} of {layers}; "
            f"the nearest possible is {math.ceil(least / full * 1e4) / 1e4:.4f}"
        )
    low, high = 0.0, 1.0
    if spent(counts(high)) <= budget:
        return counts(high)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(counts(middle)) <= budget else (low, middle)
    nearer = flops is None and spent(counts(high)) - budget < budget - spent(counts(low))
    return counts(high if nearer else low)


def with_cut(allocation: Allocation, cut: int, kept: int, merged: int) -> Allocation:
    """The allocation, changed so that ``kept`` chosen and ``merged`` new tokens are left from layer ``cut`` on."""
    total, rest = kept + merged, len(allocation.entering) - cut - 1
    chosen = allocation.selected or allocation.entering
    return Allocation((*allocation.entering[:cut], *[total] * (rest + 1)), (*chosen[:cut], kept, *[total] * rest))


def merging(per_layer: Sequence[int]) -> Allocation:
    """The same counts, where each cut chooses fewer and fills up with merged tokens (revival.py's 30 % into a tenth)."""
    chosen = [split_for_merge(before, now)[0] for before, now in pairwise(per_layer)]
    return Allocation(tuple(per_layer), (per_layer[0], *chosen))
