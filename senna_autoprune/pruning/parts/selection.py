"""Which visual tokens survive: scores -> indices in original order. No host synchronisation: the counts are known integers.

On a CPU the tokens that are no worse than the ``count``-th best are found by sorting scores alone; where more are as good as that one, a
stable sort of their places decides, as everywhere else.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def top_tokens(scores: Tensor, count: int) -> Tensor:
    """Indices of the ``count`` highest scores, ties to the lower index, in ascending order (spec autoprune.md step 5).

    Args:
        scores: (V,).

    Returns:
        (count,) int64, ascending.
    """
    kept = _no_worse(scores, count)
    if kept is not None:
        return kept
    ranked = torch.sort(scores, descending=True, stable=True).indices  # topk leaves the order of ties open
    return ranked[:count].sort().values


def _no_worse(scores: Tensor, count: int) -> Tensor | None:
    """(count,) of (V,) that are no worse than the count-th best. None: there are not as many, or NaN, or no float32 on a CPU."""
    if scores.device.type != "cpu" or scores.dtype != torch.float32 or not 0 < count <= len(scores):
        return None
    values = scores.detach().numpy()
    ascending = np.sort(values)  # without their places: vectorised
    if np.isnan(ascending[-1]):  # it comes last
        return None
    kept = np.flatnonzero(values >= ascending[-count])
    return torch.from_numpy(kept) if len(kept) == count else None


def top_tokens_per_view(scores: Tensor, count: int, groups: Sequence[Tensor]) -> Tensor:
    """The ``count`` split evenly over views, the best of each view; what a view cannot fill goes to the others.

    Args:
        scores: (V,).
        groups: per view the indices (v,) of its tokens that are still there.

    Returns:
        (count,) int64, ascending.
    """
    quota = split_evenly(count, [len(group) for group in groups])
    kept = [group[top_tokens(scores[group], share)] for group, share in zip(groups, quota, strict=True)]
    return torch.cat(kept).sort().values


def split_evenly(count: int, sizes: Sequence[int]) -> list[int]:
    """Integers as equal as possible that sum to ``count``, none above its size; earlier views get the odd token.

    Raises:
        ValueError: if ``count`` is more than there is.
    """
    if count > sum(sizes):
        raise ValueError(f"cannot take {count} tokens of {sum(sizes)}")
    quota = [0] * len(sizes)
    while (left := count - sum(quota)) > 0:
        open_views = [view for view, size in enumerate(sizes) if quota[view] < size]
        share = left // len(open_views)
        for view in open_views[:left] if share == 0 else open_views:  # the odd tokens go out last, to the views still open
            quota[view] = min(quota[view] + max(share, 1), sizes[view])
    return quota


def every_nth(count: int, size: int) -> list[int]:
    """``count`` indices spread evenly over 0..size-1 (the uniform control): floor((j + 1/2) size / count)."""
    return [int((index + 0.5) * size / count) for index in range(count)]
