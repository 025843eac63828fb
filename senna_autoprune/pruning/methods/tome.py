"""ToMe (arXiv 2210.09461): merge the most similar visual tokens into weighted means, here at the decoder's input."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import SampleContext
from senna_autoprune.pruning.matching import match_until
from senna_autoprune.pruning.methods.before import keep_before_decoder
from senna_autoprune.pruning.methods.staged import with_cut
from senna_autoprune.pruning.methods.views import groups
from senna_autoprune.pruning.policy import Policy
from senna_autoprune.pruning.revival import Revived


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
    needs = frozenset({"keys"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.steps, int) or self.steps < 1:
            raise SennaPruneError(f"ToMe: steps={self.steps!r} must be a whole number >= 1")

    def measure(self, context: SampleContext, layer: int) -> Tensor:
        """Merges, and tells the host how many tokens stayed single."""
        context.note("ToMe: merged at the decoder's input, not inside the vision tower (ours)")
        tokens, keys = context.visual_hidden, context.visual_hidden if context.keys is None else context.keys
        parts = [part for part in groups(context, self.scope, keep_before_decoder(context).entering[0]) if part.share]
        left = [match_until(tokens[part.start : part.stop], keys[part.start : part.stop], part.share, self.steps) for part in parts]
        places = torch.cat([one.places + part.start for one, part in zip(left, parts, strict=True)])
        order = torch.sort(torch.cat([one.sizes for one in left]) > 1, stable=True)  # single ones first, each part in prompt order
        context.scratch["merged"] = torch.cat([one.tokens for one in left]).index_select(0, order.indices), places[order.indices]
        return (~order.values).sum()[None]

    def allocate(self, context: SampleContext) -> Allocation:
        """The same number in every layer; those that absorbed others are new tokens."""
        allocation, single = keep_before_decoder(context), int(context.measured[0])
        return with_cut(allocation, 0, single, allocation.entering[0] - single)

    def select(self, context: SampleContext, layer: int, count: int) -> Tensor:
        """The tokens that stayed single."""
        return context.scratch["merged"][1][:count]

    def revive(self, context: SampleContext, layer: int, dropped: Tensor, count: int) -> Revived:
        """The tokens that absorbed others, where they stood."""
        tokens, places = context.scratch["merged"]
        return Revived(tokens[-count:], places[-count:], behind=places[-count:])
