"""The revival that AutoPrune's release and SparseVLM share: merge the best 30 % of the dropped tokens into about a tenth of them."""

from __future__ import annotations

import torch
from torch import Tensor

from senna_autoprune.pruning.context import PromptContext, Revived
from senna_autoprune.pruning.parts.revival import density_peaks, pool_size


def merge_dropped(context: PromptContext, dropped: Tensor, count: int, noise: Tensor | None = None) -> Revived:
    """Cluster means of the best-scored dropped tokens (spec autoprune.md, mode "release"; fixture autoprune-release steps 6-7).

    Args:
        context: with ``scratch["scores"]`` (v,) of the cut under way.
        dropped: (D,) ascending indices into the current visual tokens. count: merged tokens to make.
        noise: (M,) uniform numbers that break density ties; None: drawn from the prompt's generator.
    """
    pool = max(pool_size(len(dropped)), count)
    scores = context.scratch["scores"].index_select(0, dropped)
    best = dropped.index_select(0, torch.sort(scores, descending=True, stable=True).indices[:pool])
    if noise is None:
        noise = torch.rand(1, len(best), generator=context.generator)[0]
    clusters = density_peaks(context.visual_hidden.index_select(0, best), count, noise.to(best.device))
    return Revived(clusters.merged, best.index_select(0, clusters.centres))
