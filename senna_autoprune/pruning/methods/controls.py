"""The two controls that every table needs: tokens kept at random, and every n-th token of each view. Both act before the decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import PromptContext
from senna_autoprune.pruning.parts.before import keep_before_decoder
from senna_autoprune.pruning.parts.selection import every_nth, split_evenly
from senna_autoprune.pruning.policy import Policy


@dataclass(kw_only=True)
class RandomPruning(Policy):
    """Keep R V visual tokens drawn at random (seeded; the draw depends on the seed and on V, not on the scene)."""

    paper = "control"
    cuts = "before the decoder"

    def allocate(self, context: PromptContext) -> Allocation:
        """The same number in every layer."""
        return keep_before_decoder(context)

    def score(self, context: PromptContext, layer: int) -> Tensor:
        """Uniform random numbers."""
        return torch.rand(len(context.layout.visual), generator=context.generator).to(context.layout.visual.device)


@dataclass(kw_only=True)
class UniformPruning(Policy):
    """Keep every n-th visual token of each view, the same number in each view up to one."""

    paper = "control"
    cuts = "before the decoder"

    def allocate(self, context: PromptContext) -> Allocation:
        """The same number in every layer."""
        return keep_before_decoder(context)

    def select(self, context: PromptContext, layer: int, count: int) -> Tensor:
        """Evenly spread indices within each view."""
        kept, start = [], 0
        for size, share in zip(context.view_sizes, split_evenly(count, context.view_sizes), strict=True):
            kept += [start + index for index in every_nth(share, size)]
            start += size
        return torch.tensor(kept, device=context.layout.visual.device)
