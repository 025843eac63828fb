"""Which visual tokens a method looks at together at the decoder's input: each view by itself, or all of them as one group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.context import PromptContext
from senna_autoprune.pruning.parts.selection import split_evenly


@dataclass(frozen=True)
class Group:
    """Visual tokens start..stop-1, of which ``share`` are left."""

    start: int
    stop: int
    share: int

    @property
    def size(self) -> int:
        return self.stop - self.start


def groups(context: PromptContext, scope: str, count: int, weights: Sequence[float] | None = None) -> list[Group]:
    """The views (scope "view"), or one group of all (scope "scene"), and how ``count`` tokens are split over them.

    Args:
        weights: of the views' retention ratios; None: equal.

    Raises:
        SennaPruneError: if there are not as many weights as views.
    """
    sizes = list(context.view_sizes) if scope == "view" else [context.visual]
    if weights is not None and len(weights) != len(sizes):
        raise SennaPruneError(f"{len(weights)} view ratios are given, but the prompt has {len(sizes)} views; give one per view")
    shares = split_evenly(count, sizes) if weights is None else split_by_weights(count, sizes, weights)
    starts = [sum(sizes[:view]) for view in range(len(sizes))]
    return [Group(start, start + size, share) for start, size, share in zip(starts, sizes, shares, strict=True)]


def split_by_weights(count: int, sizes: Sequence[int], weights: Sequence[float]) -> list[int]:
    """Integers that sum to ``count`` in proportion to weight x size, none above its size (what it cannot take goes to the others).

    Raises:
        ValueError: if ``count`` is more than there is.
    """
    if count > sum(sizes):
        raise ValueError(f"cannot take {count} tokens of {sum(sizes)}")
    wanted = [max(weight, 1e-12) * size for weight, size in zip(weights, sizes, strict=True)]
    full: set[int] = set()
    while True:
        scale = (count - sum(sizes[view] for view in full)) / (sum(want for view, want in enumerate(wanted) if view not in full) or 1)
        over = {view for view, want in enumerate(wanted) if view not in full and want * scale > sizes[view]}
        if not over:
            break
        full |= over
    exact = [float(sizes[view]) if view in full else want * scale for view, want in enumerate(wanted)]
    shares = [int(value + 1e-9) for value in exact]
    order = sorted(range(len(sizes)), key=lambda view: (shares[view] - exact[view], view))
    for view in [view for view in order if shares[view] < sizes[view]][: count - sum(shares)]:
        shares[view] += 1
    return shares
