"""SparseVLM's text raters, and SparseVLM+'s corrections of the attention they cast (arXiv 2410.04417; fixture baselines)."""

from __future__ import annotations

import torch
from torch import Tensor


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
