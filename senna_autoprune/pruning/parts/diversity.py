"""Subsets whose tokens differ from each other: greedy max-min distance, and greedy MAP of a determinantal point process."""

from __future__ import annotations

import torch
from torch import Tensor


def precise(values: Tensor) -> Tensor:
    """In float64 where the device has it, so that rounding does not decide between near-equal tokens."""
    return values.float() if values.device.type == "mps" else values.double()


def cosine_similarities(features: Tensor) -> Tensor:
    """(V, d) -> (V, V)."""
    unit = torch.nn.functional.normalize(precise(features), dim=-1)
    return unit @ unit.T


def farthest_points(distance: Tensor, count: int) -> Tensor:
    """Greedy max-min: first the token whose nearest neighbour is farthest, then always the one farthest from those chosen.

    DivPrune (arXiv 2503.02175, algorithm 1) and Prune2Drive's T-FPS (arXiv 2508.13305, as released) are this same rule.

    Args:
        distance: (V, V), symmetric.

    Returns:
        (count,) int64 in the order of choice; ties go to the lower index.
    """
    # by matrix products, tokens that are equal (newlines) would differ by the order of summation, and so be chosen by chance
    distance = distance.round(decimals=6 if distance.dtype == torch.float32 else 12)
    nearest = distance.clone().fill_diagonal_(float("inf")).min(-1).values  # (V,)
    chosen = torch.empty(count, dtype=torch.long, device=distance.device)
    taken = torch.zeros(len(distance), dtype=torch.bool, device=distance.device)
    for step in range(count):
        pick = nearest.masked_fill(taken, float("-inf")).argmax().view(1)
        chosen[step : step + 1] = pick
        taken = taken.index_fill(0, pick, True)
        row = distance.index_select(0, pick)[0]
        nearest = row if step == 0 else torch.minimum(nearest, row)
    return chosen


def greedy_map(kernel: Tensor, quality: Tensor, count: int) -> Tensor:
    """Greedy maximum-a-posteriori subset of a DPP, with the incremental Cholesky update of Chen et al. (arXiv 1709.05135).

    Each step takes the token that multiplies det(kernel of the subset) most. When no token adds volume any more (more tokens are asked
    than the kernel has rank), the rest is filled by ``quality``.

    Args:
        kernel: (V, V) positive semi-definite. quality: (V,) in [0, 1].

    Returns:
        (count,) int64 in the order of choice; ties go to the lower index.
    """
    exhausted = torch.finfo(kernel.dtype).eps ** 0.6  # less is rounding noise: the kernel's rank is used up
    gains = kernel.diagonal().clone()  # (V,) det ratio of adding each token
    factors = kernel.new_zeros(count, len(kernel))
    chosen = torch.empty(count, dtype=torch.long, device=kernel.device)
    taken = torch.zeros(len(kernel), dtype=torch.bool, device=kernel.device)
    for step in range(count):
        ranked = torch.where(gains > exhausted, gains, quality.to(gains) - 2)
        pick = ranked.masked_fill(taken, float("-inf")).argmax().view(1)
        chosen[step : step + 1] = pick
        taken = taken.index_fill(0, pick, True)
        gain = gains.index_select(0, pick)
        projected = factors[:step].index_select(1, pick).T @ factors[:step]  # (1, V)
        row = (kernel.index_select(0, pick) - projected)[0] / gain.clamp_min(exhausted).sqrt()
        factors[step] = torch.where(gain > exhausted, row, torch.zeros_like(row))
        gains = gains - factors[step] ** 2
    return chosen
