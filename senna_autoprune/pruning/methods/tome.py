"""ToMe (arXiv 2210.09461): merge the most similar visual tokens into weighted means, here at the decoder's input."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import PromptContext, Revived
from senna_autoprune.pruning.parts.before import keep_before_decoder
from senna_autoprune.pruning.parts.staged import with_cut
from senna_autoprune.pruning.parts.views import groups
from senna_autoprune.pruning.policy import Policy


@dataclass(kw_only=True)
class ToMe(Policy):
    """Bipartite soft matching until R V tokens are left, by default the same number in each view.

    The paper merges inside the vision tower; an adapter that wants all its patches (Senna's) forbids that, so every model gets the same
    treatment: decoder input, keys of the tower where the model offers them, else embeddings. A merged token stands where the token that
    absorbed the others stood; positions are renumbered. Attention is not weighted by size: the decoder is stock.
    steps: matching steps of (1 - R) V / steps merges each (a step can merge half of the tokens at most, so there may be more).

    Raises:
        SennaPruneError: on a bad option or an impossible budget.
    """

    scope: str = "view"
    steps: int = 8
    positions = "compact"
    paper = "arXiv 2210.09461"
    cuts = "before the decoder"
    needs = frozenset({"keys"})
    optional = frozenset({"keys"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.steps, int) or self.steps < 1:
            raise SennaPruneError(f"ToMe: steps={self.steps!r} must be a whole number >= 1")

    def measure(self, context: PromptContext, layer: int) -> Tensor:
        """Merges, and tells the host how many tokens stayed single."""
        context.note("ToMe: merged at the decoder's input, not inside the vision tower (ours)")
        tokens, keys = context.visual_hidden, context.visual_hidden if context.keys is None else context.keys
        parts = [part for part in groups(context, self.scope, keep_before_decoder(context).entering[0]) if part.share]
        left = [match_until(tokens[part.start : part.stop], keys[part.start : part.stop], part.share, self.steps) for part in parts]
        places = torch.cat([one.places + part.start for one, part in zip(left, parts, strict=True)])
        order = torch.sort(torch.cat([one.sizes for one in left]) > 1, stable=True)  # single ones first, each part in prompt order
        context.scratch["merged"] = torch.cat([one.tokens for one in left]).index_select(0, order.indices), places[order.indices]
        return (~order.values).sum()[None]

    def allocate(self, context: PromptContext) -> Allocation:
        """The same number in every layer; those that absorbed others are new tokens."""
        allocation, single = keep_before_decoder(context), int(context.measured[0])
        return with_cut(allocation, 0, single, allocation.entering[0] - single)

    def select(self, context: PromptContext, layer: int, count: int) -> Tensor:
        """The tokens that stayed single."""
        return context.scratch["merged"][1][:count]

    def revive(self, context: PromptContext, layer: int, dropped: Tensor, count: int) -> Revived:
        """The tokens that absorbed others, where they stood."""
        tokens, places = context.scratch["merged"]
        return Revived(tokens[-count:], places[-count:], behind=places[-count:])


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
