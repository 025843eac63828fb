"""A batch's attention on a CPU, prompt by prompt: each on its own tokens, causal, without a mask.

Prompts of a batch differ in length, and keep different numbers of tokens, so a batch is padded and needs a mask; and a kernel that is given
one computes the half above the diagonal too. Alone, each prompt needs none, and its text rows are computed once (rows_once.py). On a GPU
a layer would become as many launches as there are prompts: there the batch stays together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from senna_autoprune.pruning.context import AttentionRows, PromptLayout
from senna_autoprune.pruning.decoder import rows_once


@dataclass(frozen=True)
class Padding:
    """starts: slots of padding on the left of each prompt. future: of ``rows_once.future``; None: no text rows as a by-product.

    mask: makes the mask of the padded batch, for a layer that cannot attend prompt by prompt; None: it was given.
    """

    starts: Sequence[int]
    future: Tensor | None = None
    mask: Callable[[], Tensor | None] | None = None


def attend(
    kernel: Callable[..., Any],
    module: nn.Module,
    states: tuple[Tensor, Tensor, Tensor],
    padding: Padding,
    kwargs: dict[str, Any],
    layouts: Sequence[PromptLayout] | None = None,
    timer: AbstractContextManager[Any] | None = None,
    means: rows_once.Means | None = None,
) -> tuple[Tensor, list[AttentionRows] | Tensor | None]:
    """One layer's attention of a padded batch.

    Args:
        kernel: as transformers calls it. states: query (B, H, M, h), key and value (B, G, M, h). layouts: if the text rows are asked for,
            each prompt's. timer: runs while the last rows are computed, though the kernel is spared them. means: of ``last_rows``.

    Returns:
        output (B, M, H, h), any number at padding; and the rows or, with ``means``, the ranks (B, M), if they are a by-product: asked for,
        and as many keys as queries.
    """
    query, key, value = states
    slots, stop = query.shape[2], query.shape[2]
    last: list[Tensor] = []
    found: list[AttentionRows] | Tensor | None = None
    if layouts is not None and padding.future is not None and query.shape == key.shape:
        stop = rows_once.first_row(query, max(layout.asking for layout in layouts))
        with timer or nullcontext():
            last, seen = rows_once.last_rows(states, stop, padding.future, kwargs.get("scaling"), padding.starts, means)
        found = seen
        if means is None:
            prompts = enumerate(zip(layouts, padding.starts, strict=True))
            found = [AttentionRows(seen[sample, :, -layout.asking :, start:], layout, start) for sample, (layout, start) in prompts]
        if not stop and len(last) == 1:
            return last[0], found
    output = value.new_empty(query.shape[0], slots, query.shape[1], value.shape[-1])
    output[:, : max(padding.starts)] = 0  # padding must hold numbers
    each = list(zip(*(part.split(1) for part in states), strict=True))  # query, key, value of each prompt
    for sample, (own, start) in enumerate(zip(each, padding.starts, strict=True)):
        if start < stop:
            rows = kernel(module, *(part.narrow(2, start, stop - start) for part in own), None, **kwargs)[0]
            output[sample, start:stop] = rows[0]
    for band in last:
        output[:, stop : stop + band.shape[1]] = band
        stop += band.shape[1]
    return output, found
