"""A batch's attention on a CPU, prompt by prompt: each on its own tokens, causal, without a mask.

Prompts of a batch differ in length, and keep different numbers of tokens, so a batch is padded and needs a mask; and a kernel that is given
one computes the half above the diagonal too. Alone, each prompt needs none, and its text rows are computed once (rows_once.py). On a GPU
a layer would become as many launches as there are prompts: there the batch stays together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from senna_autoprune.pruning.context import AttentionRows, PromptLayout
from senna_autoprune.pruning.decoder import rows_once


@dataclass(frozen=True)
class Padding:
    """starts: slots of padding on the left of each prompt. futures: of ``rows_once.future``, one a prompt; None: every token stays.

    mask: makes the mask of the padded batch, for a layer that cannot attend prompt by prompt; None: it was given.
    """

    starts: Sequence[int]
    futures: Sequence[Tensor] | None = None
    mask: Callable[[], Tensor | None] | None = None


def attend(
    kernel: Callable[..., Any],
    module: nn.Module,
    states: tuple[Tensor, Tensor, Tensor],
    padding: Padding,
    kwargs: dict[str, Any],
    layouts: Sequence[PromptLayout] | None = None,
    timer: AbstractContextManager[Any] | None = None,
) -> tuple[Tensor, list[AttentionRows] | None]:
    """One layer's attention of a padded batch.

    Args:
        kernel: as transformers calls it. states: query (B, H, M, h), key and value (B, G, M, h). layouts: if the text rows are asked for,
            each prompt's. timer: of ``rows_once.attend``.

    Returns:
        output (B, M, H, h), 0 at padding; and the rows, if they are a by-product: asked for, and as many keys as queries.
    """
    query, key, value = states
    output = value.new_zeros(query.shape[0], query.shape[2], query.shape[1], value.shape[-1])
    futures = padding.futures if layouts is not None and query.shape == key.shape else None
    rows = []
    for sample, start in enumerate(padding.starts):
        own = [part[sample : sample + 1, :, start:] for part in states]
        if futures is None or layouts is None:
            output[sample, start:] = kernel(module, *own, None, **kwargs)[0][0]
            continue
        found, weights = rows_once.attend(kernel, module, own[0], own[1], own[2], futures[sample], kwargs, timer)
        output[sample, start:] = found[0]
        rows.append(AttentionRows(weights, layouts[sample], start))
    return output, rows or None
