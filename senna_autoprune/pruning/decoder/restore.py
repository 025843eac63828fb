"""A pruned decoder's output as long as the prompt, for a caller who counts rows from the prompt: labels and ``logits_to_keep``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.context import Asked, PromptContext

IGNORED = -100  # a label that nothing is to predict


def restore(
    contexts: list[PromptContext], length: int, valid: Tensor | None, asked: Asked | None, output: Any
) -> tuple[Any, Tensor | None]:
    """The decoder's output with surviving tokens at their places in the prompt, zeros at dropped ones, and where they survive (B, N).

    (None, None) if the short output will do.

    Args:
        contexts: after the last layer. length: N of the unpruned prompt. valid: (B, N) bool, False at padding; None: no padding.

    Raises:
        SennaPruneError: a row is asked for that was dropped.
    """
    needed = rows_asked(asked, len(contexts), length, min(context.layout.asking for context in contexts))
    if needed is None:
        return None, None
    short = output[0] if isinstance(output, tuple) else output.last_hidden_state  # (B, M, d)
    full = short.new_zeros(len(contexts), length, short.shape[-1])
    there = torch.zeros(len(contexts), length, dtype=torch.bool, device=short.device)
    for sample, context in enumerate(contexts):
        layout = context.layout
        slots = torch.cat([layout.text, layout.visual[layout.ids >= 0]])
        places = layout.origin.index_select(0, slots)
        full[sample] = full[sample].index_copy(0, places, short[sample].index_select(0, slots))
        there[sample, places] = True
    if valid is not None:
        there |= ~valid.to(there.device)  # nobody reads padding
    lost = needed.to(there.device) & ~there
    if bool(lost.any()):
        sample, place = lost.nonzero()[0].tolist()
        raise SennaPruneError(
            f"sample {sample}: labels or logits_to_keep ask for what position {place} of the prompt predicts, a visual token that was "
            "dropped; set the label behind it to -100, or ask for text rows only"
        )
    if isinstance(output, tuple):
        return (full, *output[1:]), there
    output.last_hidden_state = full
    return output, there


def rows_asked(asked: Asked | None, batch: int, length: int, asking: int) -> Tensor | None:
    """(B, N) bool, the rows of the whole prompt that somebody will read; None: the last ones at most, which are never dropped.

    Args:
        asking: text tokens that follow the last visual token, at least.
    """
    if asked is None:
        return None
    keep, wanted = asked.logits_to_keep, False
    if asked.labels is None and asked.shift_labels is None and not isinstance(keep, Tensor) and keep <= asking:
        return None
    rows = torch.zeros(batch, length, dtype=torch.bool)
    for labels, shift in ((asked.labels, 1), (asked.shift_labels, 0)):
        if labels is not None:
            if labels.shape != rows.shape:
                raise SennaPruneError(f"labels have shape {tuple(labels.shape)} for {batch} prompts of {length} positions")
            rows[:, : length - shift] |= (labels[:, shift:] != IGNORED).cpu()
            wanted = True
    if isinstance(keep, Tensor):
        rows[:, keep.cpu()] = True
        wanted = True
    elif keep > asking:
        rows[:, -keep:] = True
        wanted = True
    elif wanted and keep:
        rows[:, : length - keep] = False
    return rows if wanted else None
