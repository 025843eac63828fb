"""VisionZip (arXiv 2412.04467): before the decoder, dominant tokens by CLS attention and contextual means of the rest."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import PromptContext, Revived
from senna_autoprune.pruning.parts.before import cls_attention, keep_before_decoder
from senna_autoprune.pruning.parts.selection import top_tokens
from senna_autoprune.pruning.parts.staged import with_cut
from senna_autoprune.pruning.parts.views import groups, split_by_weights
from senna_autoprune.pruning.policy import Policy


@dataclass(kw_only=True)
class VisionZip(Policy):
    """R V tokens, by default the same number in each view; the contextual ones stand behind the last token of their view.

    As released (fixture baselines), except that the CLS token itself, which LLaVA-like decoders do not see, is not one of the dominant.
    Keys are the vision tower's where the model offers them, else the embeddings themselves (a note says so). Positions are renumbered.
    contextual_share: of the tokens left; the released setting is 54 dominant and 10 contextual.

    Raises:
        SennaPruneError: on an impossible budget, or if there are no CLS scores.
    """

    scope: str = "view"
    contextual_share: float = 10 / 64
    positions = "compact"
    paper = "arXiv 2412.04467"
    cuts = "before the decoder"
    needs = frozenset({"cls_scores", "keys"})
    optional = frozenset({"keys"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.contextual_share < 1:
            raise SennaPruneError(f"VisionZip: contextual_share={self.contextual_share!r} must be in [0, 1)")

    def allocate(self, context: PromptContext) -> Allocation:
        """The same number in every layer, split over the groups."""
        allocation = keep_before_decoder(context)
        parts = groups(context, self.scope, allocation.entering[0])
        shares = [part.share if part.share < part.size else 0 for part in parts]  # a group that keeps everything merges nothing
        merged = int(sum(shares) * self.contextual_share + 0.5)
        context.scratch["groups"] = list(zip(parts, split_by_weights(merged, shares, [1] * len(parts)), strict=True))
        return with_cut(allocation, 0, allocation.entering[0] - merged, merged)

    def select(self, context: PromptContext, layer: int, count: int) -> Tensor:
        """The dominant tokens of each group."""
        scores = cls_attention(context, "VisionZip")
        parts = context.scratch["groups"]
        kept = [top_tokens(scores[part.start : part.stop], part.share - contextual) + part.start for part, contextual in parts]
        return torch.cat(kept)

    def revive(self, context: PromptContext, layer: int, dropped: Tensor, count: int) -> Revived:
        """The contextual tokens of each group."""
        if context.keys is None:
            context.note("VisionZip: these visual tokens have no keys in the vision tower, so their embeddings are compared instead (ours)")
        tokens, keys = context.visual_hidden, context.visual_hidden if context.keys is None else context.keys
        made, centres, behind, start = [], [], [], 0
        for part, contextual in context.scratch["groups"]:
            left = part.size - part.share + contextual
            rest, start = dropped[start : start + left], start + left
            if contextual:
                targets = contextual_targets(contextual, left, rest.device)
                made.append(contextual_tokens(tokens.index_select(0, rest), keys.index_select(0, rest), targets))
                centres.append(rest.index_select(0, targets))
                behind.append(torch.full_like(targets, part.stop - 1))
        return Revived(torch.cat(made), torch.cat(centres), torch.cat(behind))


def contextual_targets(count: int, total: int, device: torch.device | None = None) -> Tensor:
    """(count,) which of the ``total`` remaining tokens are merge targets: every (total // count)-th."""
    return torch.arange(0, total, max(1, total // count), device=device)[:count]


def contextual_tokens(tokens: Tensor, keys: Tensor, targets: Tensor) -> Tensor:
    """Each other token joins the target whose key is most similar; a contextual token is target + *mean* of those that joined.

    The sum is the released code's (a target that nobody joins stays as it is); the paper speaks of averages.

    Args:
        tokens: (M, d) not dominant. keys: (M, c). targets: (C,) ascending.

    Returns:
        (C, d).
    """
    unit = keys / keys.norm(dim=-1, keepdim=True)
    others = torch.zeros(len(tokens), dtype=torch.long, device=tokens.device).index_fill(0, targets, 1)
    others = torch.sort(others, stable=True).indices[: len(tokens) - len(targets)]
    nearest = (unit.index_select(0, others) @ unit.index_select(0, targets).T).argmax(-1)  # (M - C,)
    joined = torch.zeros(len(targets), len(others), dtype=tokens.dtype, device=tokens.device)
    joined = joined.scatter(0, nearest[None, :], 1.0)
    means = joined @ tokens.index_select(0, others) / joined.sum(-1, keepdim=True).clamp_min(1)
    return tokens.index_select(0, targets) + means
