"""FastV (arXiv 2403.06764): after K layers, keep the visual tokens that the last prompt token attends to."""

from __future__ import annotations

from dataclasses import dataclass

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import PromptContext
from senna_autoprune.pruning.parts.staged import solve_stages
from senna_autoprune.pruning.policy import Policy


@dataclass(kw_only=True)
class FastV(Policy):
    """One cut at the input of layer K by the last token's attention in layer K-1, mean over heads; positions stay original.

    Budget: n from (K V + (L - K) n) / L = R V, so R cannot be below K / L. The released "mask" variant hides the same tokens instead of
    dropping them: the same prompt logits, none of the speed-up.

    Raises:
        SennaPruneError: on a bad option, or a budget below K / L (with the nearest possible one).
    """

    k: int = 2
    rows = "last"
    paper = "arXiv 2403.06764"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.k, int) or self.k < 1:
            raise SennaPruneError(f"FastV: k={self.k!r} must be a layer >= 1: the cut at its input needs the attention below")

    def allocate(self, context: PromptContext) -> Allocation:
        """V tokens in layers 0..K-1, n from then on."""
        cuts = [self.k] if self.k < context.layers else []
        return Allocation(tuple(solve_stages(context, cuts, lambda share: [share] * len(cuts))))
