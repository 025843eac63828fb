"""FasterVLM (arXiv 2412.01818): before the decoder, keep the tokens that the vision tower's CLS token attends to."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import PromptContext
from senna_autoprune.pruning.parts.before import cls_attention, keep_before_decoder
from senna_autoprune.pruning.policy import Policy


@dataclass(kw_only=True)
class FasterVLM(Policy):
    """The R V tokens of the highest CLS attention (layer -2, mean over heads), by default the same number in each view.

    The decoder sees a shorter prompt: positions are renumbered. Where visual tokens are not patches (Senna's adapter), the model says in
    the trace's notes how their scores come about.

    Raises:
        SennaPruneError: on an impossible budget, or if there are no CLS scores.
    """

    scope: str = "view"
    positions = "compact"
    paper = "arXiv 2412.01818"
    cuts = "before the decoder"
    needs = frozenset({"cls_scores"})

    def allocate(self, context: PromptContext) -> Allocation:
        """The same number in every layer."""
        return keep_before_decoder(context)

    def score(self, context: PromptContext, layer: int) -> Tensor:
        """CLS attention."""
        return cls_attention(context, "FasterVLM")
