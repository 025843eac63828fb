"""What the three released versions of SparseVLM do otherwise (Gumpest/SparseVLMs at 91fb6d9 and 26a5f48; fixture baselines)."""

from __future__ import annotations

from torch import Tensor

from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import SampleContext
from senna_autoprune.pruning.methods.staged import with_cut
from senna_autoprune.pruning.raters import priority_heads, rated, rotary_term
from senna_autoprune.pruning.revival import cluster_count

LISTS = {
    "v1.5": {192: (300, 200, 110), 128: (303, 110, 36), 96: (238, 48, 26), 64: (66, 30, 17)},
    "v2.0": {192: (300, 200, 118), 128: (238, 108, 60), 96: (246, 54, 28), 64: (66, 34, 20)},
}
CUTS = {"v1.0": (3, 7, 16, 20), "v1.5": (3, 7, 16), "v2.0": (3, 7, 16)}  # the outputs of layers 2, 6, 15, 19, whatever the depth
HEADS = 14  # v2.0's priority heads


def listed(context: SampleContext, version: str, retain: int) -> Allocation:
    """v1.5 and v2.0: the absolute list named ``retain``; v1.5 recycles, so more than the list is left."""
    allocation = Allocation((context.visual,) * context.layers)
    for cut, asked in zip(CUTS[version], LISTS[version][retain], strict=True):
        if cut < context.layers:
            allocation = _cut(allocation, cut, allocation.entering[cut], asked, version)
    return allocation


def by_rank(context: SampleContext, scale: float, bias: float) -> Allocation:
    """v1.0, asked again at each cut: rank of the rated attention x scale + bias; nothing is cut if the rank is the number of tokens."""
    if context.allocation is None:
        return Allocation((context.visual,) * context.layers)
    rank, current = int(context.measured[0]), len(context.layout.visual)
    if rank == current:
        return context.allocation
    return _cut(context.allocation, context.boundary, current, int(rank * scale + bias), "v1.0")


def _cut(allocation: Allocation, cut: int, current: int, asked: int, version: str) -> Allocation:
    kept = min(asked, current - 1)  # at least one goes
    return with_cut(allocation, cut, kept, 0 if version == "v2.0" else cluster_count(current - kept))


def corrected_score(context: SampleContext, raters: Tensor) -> Tensor:
    """v2.0: attention divided by what rotary embedding alone would give, mean over the priority heads and the raters. (v,)"""
    assert context.attention is not None and context.rotary is not None
    layout = context.layout
    cos, sin = (rows.index_select(0, layout.origin) for rows in context.rotary)  # (M, h)
    weights = context.attention.to_visual() / rotary_term(cos, sin, layout.text_rows, layout.visual)  # (H, T, v)
    if len(weights) < HEADS:
        context.note(f"v2.0 asks for the {HEADS} best heads; this decoder has {len(weights)}, so all of them are used")
    return rated(priority_heads(weights, raters, min(HEADS, len(weights))), raters)
