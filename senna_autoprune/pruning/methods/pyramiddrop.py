"""PyramidDrop (arXiv 2410.17247): drop a constant ratio of the visual tokens after each quarter of the decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import PromptContext
from senna_autoprune.pruning.decoder.lookahead import next_layer_attention
from senna_autoprune.pruning.parts.staged import entering, scaled_cuts, solve_stages
from senna_autoprune.pruning.policy import Policy

QUARTERS = (0.25, 0.5, 0.75)


@dataclass(kw_only=True)
class PyramidDrop(Policy):
    """Cuts at the input of layers L/4, L/2, 3L/4, ranked by the last prompt token's attention in that coming layer.

    mode="paper" (default): lambda^s V tokens in stage s = 0..3, lambda solved for the budget; R cannot be below the first quarter's share.
    Positions stay original.
    mode="release": as the released code: int(V ratio) tokens from each layer of ``layer_list`` on, positions renumbered after each cut.
    The lists are the budget, so give none.

    Raises:
        SennaPruneError: on a bad option, or an impossible budget (with the nearest possible one).
    """

    mode: str = "paper"
    layer_list: Sequence[int] = (8, 16, 24)
    ratio_list: Sequence[float] = (0.5, 0.25, 0.125)

    paper = "arXiv 2410.17247"

    def __post_init__(self) -> None:
        self.check_choice("mode", ("paper", "release"))
        self.own_budget = self.mode == "release"  # type: ignore[misc]
        self.positions = "compact" if self.own_budget else "original"  # type: ignore[misc]
        super().__post_init__()
        steps, ratios = list(self.layer_list), list(self.ratio_list)
        rising, falling = steps == sorted(set(steps)), ratios == sorted(ratios, reverse=True)
        if len(steps) != len(ratios) or not (steps and rising and falling and steps[0] >= 1 and ratios[-1] > 0 and ratios[0] <= 1):
            raise SennaPruneError(
                f"PyramidDrop: layer_list {steps} must rise from 1, and ratio_list {ratios} hold as many shares in (0, 1] that do not rise"
            )

    def allocate(self, context: PromptContext) -> Allocation:
        """The pyramid: solved for the budget, or the released lists (layers that this decoder has not are left out)."""
        if not self.own_budget:
            cuts = scaled_cuts(context.layers, QUARTERS)
            powers = range(1, len(cuts) + 1)
            return Allocation(tuple(solve_stages(context, cuts, lambda ratio: [ratio**power for power in powers])))
        listed = [(cut, ratio) for cut, ratio in zip(self.layer_list, self.ratio_list, strict=True) if cut < context.layers]
        if len(listed) < len(self.layer_list):
            context.note(f"release: later entries of layer_list {list(self.layer_list)} do nothing in a decoder of {context.layers} layers")
        counts = [int(context.visual * ratio) for _, ratio in listed]
        return Allocation(tuple(entering(context.layers, context.visual, [cut for cut, _ in listed], counts)))

    def scores_from_attention(self, layer: int) -> bool:
        """The layer below is not asked: the coming layer is."""
        return False

    def score(self, context: PromptContext, layer: int) -> Tensor:
        """Attention of the last prompt token in the coming layer."""
        return next_layer_attention(context)
