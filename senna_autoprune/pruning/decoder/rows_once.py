"""Text rows as a by-product: computed once, explicitly, their weights serve the scores *and* these rows' output.

They are the last rows of the causal block, so the kernel is given only the rows before them. Where a layer does anything else than plain
causal attention with as many keys as queries (grouped keys, masks, windows, caps, sinks, dropout, gradients), attention.py looks beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

CACHED = 1 << 18  # float32 scores: a megabyte
BLOCK = 32  # rows that a CPU's kernel computes together: a remainder of them takes it several times as long a row


def first_row(query: Tensor, asking: int) -> int:
    """The first of the rows that are computed here, of queries (B, H, M, h).

    On a CPU they are a few more than asked for, so that the kernel gets whole blocks or nothing, where a prompt's scores stay in the cache.
    """
    heads, slots = query.shape[1:3]
    before = slots - asking
    if query.device.type != "cpu" or heads * asking * slots > CACHED:
        return before
    return before // BLOCK * BLOCK if before >= 2 * BLOCK else 0


def future(asking: int, length: int, device: Any) -> Tensor:
    """(1, R, N) float32, -inf where a column lies after the row; the last rows and M columns serve a sequence that was cut to M.

    Of any such sequence R are as many rows as are computed here (``first_row``).
    """
    rows = asking + 2 * BLOCK - 1
    return torch.full((1, rows, length), float("-inf"), device=device).triu_(length - rows + 1)


def _scores(query: Tensor, key: Tensor, bias: Tensor, scaling: float) -> Tensor:
    """(G, R, M) of query (G, R, h) and key (G, h, M), -inf in the future.

    What a product is added to is first written to all of (G, R, M). Small, that stays in the cache, and is one operation; large, only the
    last R columns are added to, for nothing before them is in the future.
    """
    rows, slots = query.shape[1], key.shape[2]
    if query.shape[0] * rows * slots <= CACHED:
        return torch.baddbmm(bias[:, -rows:, -slots:], query, key, alpha=scaling)
    scores = torch.baddbmm(bias[:, :1, :1], query, key, alpha=scaling, beta=0)  # beta=0: bias is not read
    scores[..., -rows:].add_(bias[:, -rows:, -rows:])
    return scores


def last_rows(
    states: tuple[Tensor, Tensor, Tensor], first: int, bias: Tensor, scaling: float | None, starts: Sequence[int] = ()
) -> tuple[Tensor, Tensor]:
    """Causal attention of all rows from ``first`` on.

    Args:
        states: query, key and value (B, H, M, h). bias: of ``future``. starts: slots of padding on the left of each prompt, which nothing
            but padding attends to; none: no padding.

    Returns:
        output (B, R, H, h), some number at padding, and the weights (B, H, R, M) in float32.
    """
    query, key, value = states
    batch, heads, slots, width = query.shape
    asked = query[:, :, first:].float().flatten(0, 1)  # (B H, R, h)
    scores = _scores(asked, key.float().flatten(0, 1).transpose(1, 2), bias, width**-0.5 if scaling is None else scaling)
    scores = scores.view(batch, heads, slots - first, slots)
    padded = max(starts, default=0)
    if padded:  # a number, not -inf: where padding sees padding alone, its output must be no NaN, for weights of 0 are multiplied by it
        hidden = torch.arange(padded, device=query.device) < torch.tensor(starts, device=query.device)[:, None]  # (B, padded)
        scores[..., :padded].masked_fill_(hidden[:, None, None], torch.finfo(scores.dtype).min)
    weights = torch.softmax(scores, -1, out=scores)  # in place: as large as a prompt's keys and more
    rows = torch.bmm(weights.to(value.dtype).flatten(0, 1), value.flatten(0, 1))  # (B H, R, h)
    return rows.view(batch, heads, -1, width).transpose(1, 2), weights


def serves(implementation: str, module: nn.Module, query: Tensor, key: Tensor, mask: Any, kwargs: dict[str, Any]) -> bool:
    """Whether the rows of this call can be computed once: plain causal SDPA of one prompt, not learning."""
    return mask is None and query.shape == key.shape and plain(implementation, module, query, kwargs)


def plain(implementation: str, module: nn.Module, query: Tensor, kwargs: dict[str, Any]) -> bool:
    """Whether this is causal SDPA, not learning, with nothing but a mask of padding added."""
    return (
        implementation == "sdpa"
        and not (torch.is_grad_enabled() and query.requires_grad)
        and not kwargs.get("dropout")
        and kwargs.get("is_causal", getattr(module, "is_causal", True)) is not False
        and kwargs.get("position_bias") is None
        and kwargs.get("cache") is None
    )


def attend(
    kernel: Callable[..., Any],
    module: nn.Module,
    states: tuple[Tensor, Tensor, Tensor],
    bias: Tensor,
    asking: int,
    kwargs: dict[str, Any],
    timer: AbstractContextManager[Any] | None = None,
) -> tuple[Tensor, Tensor]:
    """One layer's attention of one prompt.

    Args:
        kernel: as transformers calls it, for the rows before. states: query, key, value (1, H, M, h). bias: of ``future``. asking: T.
        timer: runs while the last rows are computed, though the kernel is spared them.

    Returns:
        output (1, M, H, h), and the weights (1, H, R, M) of the last R >= T rows in float32.
    """
    first = first_row(states[0], asking)
    with timer or nullcontext():
        rows, weights = last_rows(states, first, bias, kwargs.get("scaling"))
    if not first:
        return rows, weights
    before, _ = kernel(module, *(part[:, :, :first] for part in states), None, **kwargs)
    return torch.cat([before, rows], dim=1), weights
