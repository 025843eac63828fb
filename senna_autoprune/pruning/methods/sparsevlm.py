"""SparseVLM (arXiv 2410.04417): text raters judge the visual tokens at three depths, and some of the dropped are recycled.

The method first, then what its three released versions do otherwise (Gumpest/SparseVLMs at 91fb6d9 and 26a5f48; fixture baselines), then
the raters, and SparseVLM+'s corrections of the attention that they cast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import PromptContext, Revived
from senna_autoprune.pruning.parts.merging import merge_dropped
from senna_autoprune.pruning.parts.revival import cluster_count
from senna_autoprune.pruning.parts.staged import merging, scaled_cuts, solve_stages, with_cut
from senna_autoprune.pruning.policy import Policy

PROPORTIONS = (300, 200, 110)
LISTS = {
    "v1.5": {192: (300, 200, 110), 128: (303, 110, 36), 96: (238, 48, 26), 64: (66, 30, 17)},
    "v2.0": {192: (300, 200, 118), 128: (238, 108, 60), 96: (246, 54, 28), 64: (66, 34, 20)},
}
CUTS = {"v1.0": (3, 7, 16, 20), "v1.5": (3, 7, 16), "v2.0": (3, 7, 16)}  # the outputs of layers 2, 6, 15, 19, whatever the depth
HEADS = 14  # v2.0's priority heads


@dataclass(kw_only=True)
class SparseVLM(Policy):
    """Cuts after layers 2, 6, 15 of 32 by the mean attention of the raters (text close to the image) in the layer below.

    mode="paper" (default): the released proportions 300 : 200 : 110 scaled for the budget, depths by L / 32; 30 % of the dropped are
    recycled into a tenth by density peaks, and count. R cannot be below the share of the layers above the first cut.
    Released versions, whose constants are their budget, so give none: "v1.5", "v2.0" with the list named ``retain`` (192, 128, 96, 64);
    "v1.0" adapts to the text: rank x ``scale`` + ``bias`` tokens. v1.x renumbers positions; v2.0 and paper keep the original ones.
    noise: per layer the uniform numbers that break density ties, instead of drawing them from the seed.

    Raises:
        SennaPruneError: on a bad option, or an impossible budget (with the nearest possible one).
    """

    mode: str = "paper"
    retain: int = 192
    scale: float = 13.5
    bias: float = 0.0
    noise: Mapping[int, Tensor] | None = None

    paper = "arXiv 2410.04417"

    def __post_init__(self) -> None:
        self.check_choice("mode", ("paper", *CUTS))
        if self.retain not in LISTS["v1.5"]:
            raise SennaPruneError(f"SparseVLM: there is no released list retain={self.retain!r}; choose 192, 128, 96 or 64")
        self.own_budget = self.mode != "paper"  # type: ignore[misc]
        self.positions = "compact" if self.mode in ("v1.0", "v1.5") else "original"  # type: ignore[misc]
        super().__post_init__()

    def probes(self, layers: int) -> tuple[int, ...]:
        """The decoder's input shows the raters; v1.0 looks at the rank before each cut."""
        return (-1, *(cut - 1 for cut in CUTS["v1.0"] if cut < layers and self.mode == "v1.0"))

    def measure(self, context: PromptContext, layer: int) -> Tensor | None:
        """At the input the raters, which stay on the device; then, for v1.0, the rank of what they attend to."""
        if layer == -1:
            context.scratch["raters"] = text_raters(context.visual_hidden, context.text_hidden[-context.layout.asking :])
            return None
        assert context.attention is not None
        return rank_of(context.attention.to_visual(), context.scratch["raters"])[None]

    def allocate(self, context: PromptContext) -> Allocation:
        """Three stages, recycled tokens included."""
        if self.mode != "paper":
            return by_rank(context, self.scale, self.bias) if self.mode == "v1.0" else listed(context, self.mode, self.retain)
        cuts = scaled_cuts(context.layers, [cut / 32 for cut in CUTS["v1.5"]])
        shares = [share / PROPORTIONS[-1] for share in PROPORTIONS[len(PROPORTIONS) - len(cuts) :]]
        return merging(solve_stages(context, cuts, lambda scale: [min(1.0, scale * share) for share in shares]))

    def score(self, context: PromptContext, layer: int) -> Tensor:
        """Mean over heads and raters; v2.0 corrects it."""
        assert context.attention is not None
        raters = context.scratch["raters"]
        return corrected_score(context, raters) if self.mode == "v2.0" else rated(context.attention.to_visual(), raters)

    def revive(self, context: PromptContext, layer: int, dropped: Tensor, count: int) -> Revived:
        """Cluster means of the best of the dropped."""
        return merge_dropped(context, dropped, count, (self.noise or {}).get(layer - 1))


# --- released versions ---------------------------------------------------------------------------------------------------------------


def listed(context: PromptContext, version: str, retain: int) -> Allocation:
    """v1.5 and v2.0: the absolute list named ``retain``; v1.5 recycles, so more than the list is left."""
    allocation = Allocation((context.visual,) * context.layers)
    for cut, asked in zip(CUTS[version], LISTS[version][retain], strict=True):
        if cut < context.layers:
            allocation = _cut(allocation, cut, allocation.entering[cut], asked, version)
    return allocation


def by_rank(context: PromptContext, scale: float, bias: float) -> Allocation:
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


def corrected_score(context: PromptContext, raters: Tensor) -> Tensor:
    """v2.0: attention divided by what rotary embedding alone would give, mean over the priority heads and the raters. (v,)"""
    assert context.attention is not None and context.rotary_below is not None
    layout = context.layout
    cos, sin = (rows.index_select(0, layout.origin) for rows in context.rotary_below)  # (M, h)
    weights = context.attention.to_visual() / rotary_term(cos, sin, layout.text_rows, layout.visual)  # (H, T, v)
    if len(weights) < HEADS:
        context.note(f"v2.0 asks for the {HEADS} best heads; this decoder has {len(weights)}, so all of them are used")
    return rated(priority_heads(weights, raters, min(HEADS, len(weights))), raters)


# --- raters --------------------------------------------------------------------------------------------------------------------------


def text_raters(visual: Tensor, text: Tensor) -> Tensor:
    """Which text tokens may judge: those above the mean of mean_i softmax_j(v_i . t_j), embeddings as they are, unscaled.

    Args:
        visual: (V, d) and text: (T, d), the text after the last visual token, at the decoder's input.

    Returns:
        (T,) bool; all of them if none is above the mean.
    """
    relevance = (visual @ text.T).softmax(-1).mean(0)  # (T,)
    above = relevance > relevance.mean()
    return above | ~above.any()


def rated(weights: Tensor, raters: Tensor) -> Tensor:
    """Mean attention over heads and raters: weights (H, T, v), raters (T,) bool -> (v,)."""
    chosen = raters.to(weights.dtype)
    return (weights.mean(0) * chosen[:, None]).sum(0) / chosen.sum()


def rank_of(weights: Tensor, raters: Tensor) -> Tensor:
    """Rank of the head-averaged raters x visual matrix, 0-d (first commit of the release). Indexing waits for the device."""
    return torch.linalg.matrix_rank(weights.mean(0)[raters].float())


def rotary_term(cos: Tensor, sin: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """What rotary embedding alone gives each pair of positions: all-one query and key, rotated, scaled by 1 / sqrt(h).

    Args:
        cos, sin: (M, h) of every token's position. rows: (T,) and columns: (v,), indices into M.

    Returns:
        (T, v). It may be close to zero, or negative.
    """
    half = cos.shape[-1] // 2
    ones = torch.cat([cos[:, :half] - sin[:, :half], cos[:, half:] + sin[:, half:]], dim=-1)  # (M, h)
    return ones.index_select(0, rows) @ ones.index_select(0, columns).T / cos.shape[-1] ** 0.5


def priority_heads(weights: Tensor, raters: Tensor, count: int) -> Tensor:
    """The ``count`` heads whose raters give most to the visual tokens: weights (H, T, v) -> (count, T, v)."""
    sums = (weights * raters[None, :, None].to(weights.dtype)).sum((1, 2))
    return weights.index_select(0, sums.topk(count).indices)
