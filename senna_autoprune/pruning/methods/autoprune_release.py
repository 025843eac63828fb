"""AutoPrune's mode="release": what the released code does, step by step (fixture autoprune-release, steps 2-6).

First what the method asks of this mode, then the schedule: pure numbers, no model. Counts there are of what *leaves* a layer, as the
release counts: keep_l tokens chosen by score plus clusters_l merged ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import PromptContext
from senna_autoprune.pruning.parts.curves import CurveParameters
from senna_autoprune.pruning.parts.indicators import finite
from senna_autoprune.pruning.parts.revival import cluster_count

PROBES = (0, 1)
AMPLITUDE = 0.75  # the release's factor in place of the paper's N_init
FIRST_CUT = 2.5  # layer 0 keeps 2.5 x target
TEXT_WEIGHT = 0.3  # weight of MI x text attention beside the CLS attention in layer 0's score
DEPTH = 32  # eq. 8's constants are those of 32 layers, whatever the depth


def measure(context: PromptContext, layer: int) -> Tensor | None:
    """The release's mutual information, for the host; layer 0's only orders layer 0's tokens, so it stays on the device."""
    assert context.attention is not None
    information = mutual_information_release(context.attention.to_visual()).sum()
    if layer == 0:
        context.scratch["mi0"] = information / context.layout.asking
        return None
    return information[None]


def allocate(context: PromptContext, k0: float | None, gamma: float | None, x0: float | None) -> Allocation:
    """The cut of layer 0, asked before MI is known; then the released schedule."""
    layers, visual = context.layers, context.visual
    target = int(context.average_tokens() + 0.5)
    if context.boundary == 1:
        first = first_cut(target, visual)
        return Allocation((visual,) + (first,) * layers)
    eq8 = CurveParameters.for_depth(DEPTH, k0, gamma, x0)
    information = finite(context.measured[0])
    k = eq8.steepness(information)
    context.scratch["curve"] = {"mutual_information": information, "k": k, "x0": eq8.x0 + k}

    def missed(spent: int, budget: int) -> None:
        average = spent / layers
        context.note(f"release: the curve cannot spend {budget} token-layers, it spends {spent} (an average of {average:.1f} tokens)")

    leaving = release_schedule(layers, visual, target, k, eq8.x0, missed)
    entering = (visual, *(kept + merged for kept, merged in leaving))
    return Allocation(entering, (visual, *(kept for kept, _ in leaving)))


def score(context: PromptContext, layer: int, attention: Tensor) -> Tensor:
    """Mean text-to-vision ``attention`` (v,) in the layer below; the first cut adds the CLS attention."""
    if layer != 1:
        return attention
    text_term = TEXT_WEIGHT * context.scratch["mi0"] * attention
    if context.cls_scores is None:
        context.note("release: no CLS scores for these visual tokens, so layer 0's cut uses the text attention alone")
        return text_term
    return context.cls_scores.float() + text_term


def mutual_information_release(attention: Tensor, eps: float = 1e-6) -> Tensor:
    """Mutual information as the released code computes it, one value per head (fixture autoprune-release, step 3).

    Base 2, attention not renormalised, eps inside the ratio. The release *sums* the heads.

    Args:
        attention: (H, T, V).

    Returns:
        (H,) in bits of a not-quite distribution; may be negative.
    """
    rows = attention.shape[1]
    joint = attention / rows  # p_xy, (H, T, V)
    marginal = joint.sum(dim=1, keepdim=True)  # p_y, (H, 1, V)
    ratio = joint / (marginal / rows + eps)
    return (joint * torch.log2(ratio.clamp_min(eps))).sum(dim=(1, 2))


# --- the schedule --------------------------------------------------------------------------------------------------------------------


def first_cut(target: int, visual: int) -> int:
    """Tokens kept after layer 0: min(int(2.5 target), V)."""
    return min(int(FIRST_CUT * target), visual)


def raw_shares(layers: int, k: float, x0: float) -> list[float]:
    """0.75 / (1 + exp(k (l - (x0 + k)))) for l = 1..L-1; the inflexion moves with k."""
    return [AMPLITUDE / (1 + math.exp(min(k * (layer - (x0 + k)), 700.0))) for layer in range(1, layers)]


def predicted_total(shares: Sequence[float], first: int, cap: int) -> int:
    """Token-layers that the schedule will spend, merged tokens included, by the release's own prediction (float64).

    Args:
        shares: share of ``first - 1`` to keep at layers 1..L-1; more than 1 counts as 1.
        first: V0, tokens left by layer 0.
        cap: min(int(2.5 L target), V); it never binds for monotone schedules.
    """
    total = current = first
    for share in shares:
        keep = min(math.ceil((first - 1) * min(share, 1.0)), cap)
        current = keep + _predicted_clusters(current - keep)
        total += current
    return total


def solve_shares(raw: Sequence[float], first: int, budget: int, cap: int) -> list[float]:
    """Shares whose predicted total meets ``budget`` token-layers: one scale by bisection in [0, 20], the best one seen.

    A budget that the curve cannot reach gives the nearest schedule, silently, as released (the caller compares and says so).
    """

    def total(shares: Sequence[float]) -> int:
        return predicted_total(shares, first, cap)

    if abs(sum(raw) - budget) <= 1:  # the release compares the sum of *shares* with token-layers: true only of budgets near 0
        return list(raw)
    low, high = 0.0, 20.0
    best, best_error = list(raw), float("inf")
    for _ in range(200):
        scale = (low + high) / 2
        shares = [scale * share for share in raw]
        error = total(shares) - budget
        if abs(error) < best_error:
            best, best_error = shares, abs(error)
        if abs(error) < 0.01:
            break
        if error < 0:
            low = scale
        else:
            high = scale
    return best


def leaving_counts(shares: Sequence[float], first: int) -> list[tuple[int, int]]:
    """(kept, merged) after layers 1..L-1, with the release's float32 product before the ceiling."""
    counts, current = [], first
    for share in shares:
        keep = min(math.ceil(np.float32(first - 1) * np.float32(share)), current)  # shares above 1 are not cut here
        merged = cluster_count(current - keep)
        counts.append((keep, merged))
        current = keep + merged
    return counts


def release_schedule(
    layers: int, visual: int, target: int, k: float, x0: float, on_miss: Callable[[int, int], None] | None = None
) -> list[tuple[int, int]]:
    """(kept, merged) leaving every layer 0..L-1 for an average of ``target`` tokens.

    Args:
        on_miss: called with (spent, budget) token-layers when the curve cannot reach the budget within a token a layer.
    """
    first = first_cut(target, visual)
    budget = layers * target
    cap = min(int(FIRST_CUT * budget), visual)
    shares = solve_shares(raw_shares(layers, k, x0), first, budget, cap)
    counts = [(first, 0), *leaving_counts(shares, first)]
    spent = sum(kept + merged for kept, merged in counts)
    if on_miss is not None and abs(spent - budget) > layers / 2:
        on_miss(spent, budget)
    return counts


def _predicted_clusters(dropped: int) -> int:
    """As the release predicts: unlike the real merge it does not stop at 0 when a schedule asks for more than there is."""
    pool = int(0.3 * dropped) + 1
    return min(pool // 10 + 1, pool) if dropped else 0
