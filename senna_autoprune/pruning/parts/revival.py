"""What becomes of dropped tokens: nothing, or a few merged ones (density peaks over the most relevant of them)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def pool_size(dropped: int) -> int:
    """How many of the dropped tokens are merged: int(0.3 dropped) + 1, none of none (fixture autoprune-release, step 6)."""
    return int(0.3 * dropped) + 1 if dropped > 0 else 0


def cluster_count(dropped: int) -> int:
    """How many merged tokens come of them: about a tenth of the pool (fixture autoprune-release, steps 5-6)."""
    pool = pool_size(dropped)
    return min(pool // 10 + 1, pool)


def split_for_merge(current: int, target: int) -> tuple[int, int]:
    """How many tokens to keep so that kept + merged = target, when ``current`` tokens are there.

    Returns:
        (kept, merged), kept as large as possible; merged is 0 only when nothing is dropped.
    """
    if target >= current:
        return current, 0
    for kept in range(target, -1, -1):
        merged = cluster_count(current - kept)
        if kept + merged == target:
            return kept, merged
        if kept + merged < target:  # jumps over the target where the cluster count steps: fill up with one token fewer merged
            break
    return target, 0


@dataclass(frozen=True)
class Clusters:
    """merged: (C, d) new tokens; assignment: (M,) cluster of each pooled token; centres: (C,) pool index of each centre."""

    merged: Tensor
    assignment: Tensor
    centres: Tensor


def density_peaks(tokens: Tensor, clusters: int, noise: Tensor) -> Clusters:
    """Cluster by density peaks and average each cluster (fixture autoprune-release, step 7).

    density = exp(-mean of the squared ``clusters`` smallest distances, itself included) + 1e-6 noise; centres are the tokens with the
    largest density x distance to the nearest denser token; the mean's weights are 1 / (count + 1e-6).

    Args:
        tokens: (M, d); noise: (M,) uniform in [0, 1), breaks ties.

    Returns:
        Clusters, in the order of the centres' rank.
    """
    count, width = tokens.shape
    # Exact differences: by matrix products, equal tokens would get tiny distances of rounding noise, and so an arbitrary order
    distance = torch.cdist(tokens.float(), tokens.float(), compute_mode="donot_use_mm_for_euclid_dist") / width**0.5  # (M, M)
    nearest = distance.topk(clusters, dim=-1, largest=False).values  # (M, clusters)
    density = (-(nearest**2).mean(-1)).exp() + noise.to(distance) * 1e-6
    denser = density[None, :] > density[:, None]
    parent = torch.where(denser, distance, distance.max()).min(-1).values  # the densest token gets the global maximum
    centres = (parent * density).topk(clusters).indices  # (C,)
    assignment = distance[centres].argmin(0)  # (M,)
    assignment = assignment.scatter(0, centres, torch.arange(clusters, device=tokens.device))
    weights = torch.zeros(clusters, count, device=tokens.device)
    weights[assignment, torch.arange(count, device=tokens.device)] = 1.0
    weights = weights / (weights.sum(-1, keepdim=True) + 1e-6)
    return Clusters((weights @ tokens.float()).to(tokens.dtype), assignment, centres)
