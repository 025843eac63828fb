"""VisPruner (arXiv 2412.01818, ICCV 2025): before the decoder, the tokens of the highest CLS attention, and of the rest the least alike."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import PromptContext
from senna_autoprune.pruning.parts.before import cls_attention, keep_before_decoder
from senna_autoprune.pruning.parts.views import groups
from senna_autoprune.pruning.policy import Policy

REMOVED = 8  # duplicates at most that a round removes, as released


@dataclass(kw_only=True)
class VisPruner(Policy):
    """R V tokens, by default the same number in each view: a share by CLS attention; the rest thinned in rounds of at most 8, each of
    which halves what is left by turns of rank and removes of the first half what is most like some token of the second.

    As released, but for what is compared: the embeddings that the decoder is given, where the release has the tower's own features.
    Positions are renumbered. important_share: of the tokens left (released: a half, rounded down).

    Raises:
        SennaPruneError: on an impossible budget or share, or if there are no CLS scores.
    """

    scope: str = "view"
    important_share: float = 0.5
    positions = "compact"
    paper = "arXiv 2412.01818"
    cuts = "before the decoder"
    needs = frozenset({"cls_scores"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.important_share < 1:
            raise SennaPruneError(f"VisPruner: important_share={self.important_share!r} must be in [0, 1)")

    def allocate(self, context: PromptContext) -> Allocation:
        """The same number in every layer."""
        return keep_before_decoder(context)

    def select(self, context: PromptContext, layer: int, count: int) -> Tensor:
        """Important and diverse tokens of each group."""
        scores, tokens = cls_attention(context, "VisPruner"), context.visual_hidden.float()
        kept = []
        for part in groups(context, self.scope, count):
            ranked = torch.sort(scores[part.start : part.stop], descending=True, stable=True).indices
            important = int(part.share * self.important_share)
            diverse = least_alike(tokens[part.start : part.stop], ranked[important:], part.share - important)
            kept.append(part.start + torch.cat([ranked[:important], diverse]).sort().values)
        return torch.cat(kept)


def least_alike(tokens: Tensor, left: Tensor, count: int) -> Tensor:
    """(count,) of the indices ``left``: duplicates go in rounds. Args: tokens (v, d); left: (n,), most important first."""
    unit = torch.nn.functional.normalize(tokens, dim=-1)
    while (surplus := len(left) - count) > 0:
        first, second = left[::2], left[1::2]
        if not len(second):
            return left[:count]
        alike = (unit[first] @ unit[second].T).max(dim=-1).values
        order = torch.sort(alike, descending=True, stable=True).indices
        left = torch.cat([first[order[min(REMOVED, surplus, len(first)) :]], second])
    return left
