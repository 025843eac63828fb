"""CDPruner (arXiv 2506.10967): before the decoder, a determinantal point process conditioned on the instruction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import PromptContext
from senna_autoprune.pruning.parts.before import keep_before_decoder
from senna_autoprune.pruning.parts.diversity import cosine_similarities, greedy_map, precise
from senna_autoprune.pruning.parts.views import groups
from senna_autoprune.pruning.policy import Policy


@dataclass(kw_only=True)
class CDPruner(Policy):
    """Greedy MAP of the kernel r_i cos(v_i, v_j) r_j with instruction relevance r, by default the same number in each view.

    The release takes r from CLIP's text tower, with inverted sign, because CLIP's patches point away from the text that names them. A
    decoder has no such tower: ours is the cosine of a visual embedding and the mean embedding of the question (a note says so), sign
    kept, scaled to [0, 1] over the scene as released. Positions are renumbered, as released.

    Raises:
        SennaPruneError: on an impossible budget.
    """

    scope: str = "view"
    positions = "compact"
    paper = "arXiv 2506.10967"
    cuts = "before the decoder"

    def allocate(self, context: PromptContext) -> Allocation:
        """The same number in every layer."""
        return keep_before_decoder(context)

    def select(self, context: PromptContext, layer: int, count: int) -> Tensor:
        """Greedy MAP in each group."""
        context.note("CDPruner: relevance is the cosine to the question's mean embedding, there being no CLIP text tower (ours)")
        tokens, kept = context.visual_hidden, []
        relevance = instruction_relevance(tokens, context.text_hidden[-context.layout.asking :])
        for part in groups(context, self.scope, count):
            quality = relevance[part.start : part.stop]
            kernel = quality[:, None] * cosine_similarities(tokens[part.start : part.stop]) * quality[None, :]
            kept.append(greedy_map(kernel, quality, part.share).sort().values + part.start)
        return torch.cat(kept)


def instruction_relevance(visual: Tensor, text: Tensor) -> Tensor:
    """(V,) in (0, 1]: min-max scaled cosine of each visual embedding (V, d) and the mean of the text embeddings (T, d)."""
    cosine = torch.cosine_similarity(precise(visual), precise(text).mean(0, keepdim=True), dim=-1)
    span = (cosine.max() - cosine.min()).clamp_min(1e-12)
    return ((cosine - cosine.min() + 1e-6) / (span + 1e-6)).clamp(max=1.0)
