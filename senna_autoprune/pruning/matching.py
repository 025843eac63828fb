"""Bipartite soft matching of ToMe (arXiv 2210.09461, section 3): merge the most similar pairs of tokens into weighted means."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Matching:
    """What is left of V tokens. tokens: (n, d); places: (n,) the token each one stands at, ascending; sizes: (n,) how many it holds."""

    tokens: Tensor
    places: Tensor
    sizes: Tensor


def match_step(state: Matching, features: Tensor, merges: int) -> tuple[Matching, Tensor]:
    """One step: every second token (A) looks up its most similar token among the others (B); the best ``merges`` pairs become one.

    Args:
        features: (n, c) by whose cosine tokens are compared. merges: at most n // 2.

    Returns:
        what is left, in the order of ``places``, and its features (weighted means too).
    """
    unit = torch.nn.functional.normalize(features.float(), dim=-1)
    best, partner = (unit[::2] @ unit[1::2].T).max(-1)  # (A,)
    ranked = torch.sort(best, descending=True, stable=True).indices
    source, target = 2 * ranked[:merges], 2 * partner.index_select(0, ranked[:merges]) + 1
    sizes = state.sizes.index_add(0, target, state.sizes.index_select(0, source))

    def merged(values: Tensor) -> Tensor:
        weighted = values * state.sizes[:, None].to(values.dtype)
        return weighted.index_add(0, target, weighted.index_select(0, source)) / sizes[:, None].to(values.dtype)

    gone = torch.zeros(len(sizes), dtype=torch.long, device=sizes.device).index_fill(0, source, 1)
    stays = torch.sort(gone, stable=True).indices[: len(sizes) - merges]
    tokens, features = merged(state.tokens).index_select(0, stays), merged(features).index_select(0, stays)
    return Matching(tokens, state.places.index_select(0, stays), sizes.index_select(0, stays)), features


def match_until(tokens: Tensor, features: Tensor, count: int, steps: int) -> Matching:
    """Merge V tokens down to ``count``, the same number of pairs in each of ``steps`` steps (more steps if half of them is not enough).

    Args:
        tokens: (V, d). features: (V, c).
    """
    total, device = len(tokens), tokens.device
    state = Matching(tokens, torch.arange(total, device=device), torch.ones(total, device=device))
    while (left := len(state.tokens) - count) > 0:
        merges = min(-(-(total - count) // steps), left, len(state.tokens) // 2)
        state, features = match_step(state, features, merges)
    return state
