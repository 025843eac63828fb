"""DeepStack (Qwen3-VL): features of the vision tower's middle layers, added to the visual tokens between the decoder's first layers.

The stock decoder adds them through a mask of the whole prompt, after each of its first layers. While tokens are dropped the hooks add
them in its place, to the tokens that are left: after the layer, before the next cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from senna_autoprune.pruning.context import PromptLayout

MASK, FEATURES = "visual_pos_masks", "deepstack_visual_embeds"  # the decoder's keywords
MERGED = "DeepStack: a merged token takes the later features of the token whose position it has (ours)"


@dataclass
class DeepStack:
    """rows: (B, N) the row of the features that each token of the prompt gets, -1: none. features: per layer (V of all samples, d)."""

    rows: Tensor
    features: Sequence[Tensor]

    @classmethod
    def taken(cls, kwargs: dict[str, Any]) -> tuple[DeepStack | None, dict[str, Any]]:
        """Of a decoder's keywords, with the keywords that are left; None: there are none."""
        if kwargs.get(FEATURES) is None:
            return None, kwargs
        mask = kwargs[MASK]
        rows = (mask.flatten().long().cumsum(0) - 1).view_as(mask).masked_fill(~mask, -1)
        return cls(rows, kwargs[FEATURES]), {**kwargs, MASK: None, FEATURES: None}

    def add(self, boundary: int, hidden: Tensor, layouts: Sequence[PromptLayout]) -> Tensor:
        """hidden (B, M, d) of the layouts' tokens, at the input of layer ``boundary``, with the features of the layer below."""
        if not 0 < boundary <= len(self.features):
            return hidden
        origin = torch.stack([layout.origin for layout in layouts])  # (B, M)
        rows = self.rows.to(hidden.device).gather(1, origin)[..., None]  # (B, M, 1)
        features = self.features[boundary - 1].to(hidden.device, hidden.dtype)
        return torch.where(rows < 0, hidden, hidden + features[rows[..., 0].clamp_min(0)])
