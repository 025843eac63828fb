"""What methods that prune before the decoder share: the same number of visual tokens in every layer, and the tower's CLS scores."""

from __future__ import annotations

import math

from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.context import PromptContext


def keep_before_decoder(context: PromptContext) -> Allocation:
    """R V tokens, rounded half up, in all L layers; for a FLOPs budget the largest number that stays within it.

    Raises:
        SennaPruneError: if not even one token fits; the message holds the nearest possible budget.
    """
    if context.budget.flops is not None:
        full, text = context.cost(context.visual + context.text), context.text
        fitting = [n for n in range(1, context.visual + 1) if context.cost(n + text) <= context.budget.flops * full * (1 + 1e-12)]
        if not fitting:
            nearest = math.ceil(context.cost(1 + text) / full * 1e4) / 1e4
            raise SennaPruneError(f"budget: {context.budget.flops:g} of the full FLOPs is impossible; the nearest is {nearest:.4f}")
        return Allocation((fitting[-1],) * context.layers)
    keep = int(context.average_tokens() + 0.5)
    if keep < 1:
        raise SennaPruneError(
            f"budget: {context.average_tokens():.3f} of {context.visual} visual tokens is less than one; "
            f"the nearest possible retention is {1 / context.visual:.4f}"
        )
    return Allocation((keep,) * context.layers)


def cls_attention(context: PromptContext, method: str) -> Tensor:
    """(V,) CLS scores of the visual tokens.

    Raises:
        SennaPruneError: if nobody gave them.
    """
    if context.cls_scores is None:
        reason = context.missing.get("cls_scores", "this model offers none")
        raise SennaPruneError(f"{method} ranks by the vision tower's CLS attention, and {reason}; pass visual_mask= and cls_scores=(B, V)")
    return context.cls_scores
