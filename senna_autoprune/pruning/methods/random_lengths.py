"""The fairer control: tokens kept at random, on the lengths that AutoPrune gives this very prompt.

``random`` keeps the same number in every layer and so runs at fewer FLOPs than AutoPrune of the same average; here number,
layer and cost are AutoPrune's, and only the choice is luck.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from senna_autoprune.pruning.context import PromptContext
from senna_autoprune.pruning.methods.autoprune import AutoPrune


@dataclass(kw_only=True)
class RandomLengths(AutoPrune):
    """AutoPrune's schedule, with a random choice at every cut (seeded). Options: AutoPrune's.

    Raises:
        SennaPruneError: on an unknown option or an impossible budget.
    """

    paper = "control"

    def scores_from_attention(self, layer: int) -> bool:
        """No: only the schedule looks at attention."""
        return False

    def score(self, context: PromptContext, layer: int) -> Tensor:
        """Uniform random numbers."""
        return torch.rand(len(context.layout.visual), generator=context.generator).to(context.layout.visual.device)
