"""DivPrune (arXiv 2503.02175): before the decoder, the subset of visual tokens whose closest pair is farthest apart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import PromptContext
from senna_autoprune.pruning.parts.before import keep_before_decoder
from senna_autoprune.pruning.parts.diversity import cosine_similarities, farthest_points
from senna_autoprune.pruning.parts.views import groups
from senna_autoprune.pruning.policy import Policy


@dataclass(kw_only=True)
class DivPrune(Policy):
    """R V tokens by greedy max-min cosine distance of their embeddings, over the whole scene. Knows nothing of the question.

    The decoder sees a shorter prompt: positions are renumbered, as released.

    Raises:
        SennaPruneError: on an impossible budget.
    """

    positions = "compact"
    paper = "arXiv 2503.02175"
    cuts = "before the decoder"

    def allocate(self, context: PromptContext) -> Allocation:
        """The same number in every layer."""
        return keep_before_decoder(context)

    def select(self, context: PromptContext, layer: int, count: int) -> Tensor:
        """Greedy max-min in each group."""
        tokens, kept = context.visual_hidden, []
        for part in groups(context, self.scope, count):
            distance = 1 - cosine_similarities(tokens[part.start : part.stop])
            kept.append(farthest_points(distance, part.share).sort().values + part.start)
        return torch.cat(kept)
