"""Text rows as a by-product: computed once, explicitly, their weights serve the scores *and* these rows' output.

They are the last rows of the causal block, so the kernel is given only the rows before them. Where a layer does anything else than plain
causal attention with as many keys as queries (grouped keys, masks, windows, caps, sinks, dropout, gradients), attention.py looks beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CACHED = 1 << 18  # float32 scores: a megabyte
BANDED = 1 << 19  # scores beyond which a CPU computes the rows in two bands: two megabytes, a core's own cache
BLOCK = 32  # rows that a CPU's kernel computes together: a remainder of them takes it several times as long a row


class Means:
    """Adds the rows' mean weight, over heads and each prompt's asking rows, to ranks (B, M) float32 of the columns.

    A product with a constant row: reductions over leading axes are several times slower on a CPU. asking: T of each prompt.
    """

    def __init__(self, ranks: Tensor, asking: Sequence[int]) -> None:
        self.ranks, self._asking = ranks, asking
        self._shares: dict[tuple[int, ...], Tensor] = {}

    def shares(self, heads: int, rows: int, start: int, stop: int) -> Tensor:
        """(B, 1, H r): what rows ``start`` to ``stop``, of ``rows`` a head, count."""
        key = (heads, rows, start, stop)
        if key not in self._shares:
            share = np.zeros((len(self._asking), heads, rows), dtype=np.float32)
            for row, asking in zip(share, self._asking, strict=True):
                row[:, -asking:] = 1 / (heads * asking)
            part = share[:, :, start:stop].reshape(len(share), 1, -1)
            self._shares[key] = torch.from_numpy(part).to(self.ranks.device)
        return self._shares[key]


def first_row(query: Tensor, asking: int) -> int:
    """The first of the rows that are computed here, of queries (B, H, M, h).

    On a CPU they are a few more than asked for, so that the kernel gets whole blocks; or nothing of two, where a prompt's scores stay in
    the cache.
    """
    heads, slots = query.shape[1:3]
    before = slots - asking
    if query.device.type != "cpu":
        return before
    if before < 2 * BLOCK and heads * asking * slots <= CACHED:
        return 0
    return before // BLOCK * BLOCK


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
    states: tuple[Tensor, Tensor, Tensor],
    first: int,
    bias: Tensor,
    scaling: float | None,
    starts: Sequence[int] = (),
    means: Means | None = None,
) -> tuple[list[Tensor], Tensor]:
    """Causal attention of all rows from ``first`` on.

    Args:
        states: query, key and value (B, H, M, h). bias: of ``future``. starts: slots of padding on the left of each prompt, which nothing
            but padding attends to; none: no padding. means: if nothing is asked for but the ranks that it adds up.

    Returns:
        output, in bands (B, r, H, h) one below the other, some number at padding; and the weights (B, H, R, M) in float32 or, with
        ``means``, the ranks (B, M).
    """
    query, key, value = states
    batch, heads, slots, width = query.shape
    rows, scale = slots - first, width**-0.5 if scaling is None else scaling
    asked, keys, values = query[:, :, first:].float().flatten(0, 1), key.float().flatten(0, 1).transpose(1, 2), value.flatten(0, 1)
    output: list[Tensor] = []
    ranks = None
    for start, stop in reversed(_bands(query, rows) if means is not None else [(0, rows)]):  # the last sees all columns
        seen = first + stop
        scores = _scores(asked[:, start:stop], keys[..., :seen], bias, scale).view(batch, heads, stop - start, seen)
        if any(starts):
            _hide(scores, starts)
        weights = torch.softmax(scores, -1, out=scores)  # in place: as large as a prompt's keys and more
        if means is not None:
            counted = means.shares(heads, rows, start, stop), weights.flatten(1, 2)
            if ranks is None:
                ranks = torch.baddbmm(means.ranks[:, None], *counted)  # (B, 1, M)
            else:
                ranks[..., :seen].baddbmm_(*counted)
        band = torch.bmm(weights.to(value.dtype).flatten(0, 1), values[:, :seen])  # (B H, r, h)
        output.insert(0, band.view(batch, heads, -1, width).transpose(1, 2))
    return output, weights if ranks is None else ranks[:, 0]


def _bands(query: Tensor, rows: int) -> list[tuple[int, int]]:
    """Rows that are computed together: all; on a CPU two halves of many, the first of which does not look at the second's columns."""
    batch, heads, slots, _ = query.shape
    if query.device.type != "cpu" or rows < 2 or batch * heads * rows * slots <= BANDED:
        return [(0, rows)]
    return [(0, rows // 2), (rows // 2, rows)]


def _hide(scores: Tensor, starts: Sequence[int]) -> None:
    """Padding, by a number, not -inf: where it sees itself alone, its output must be no NaN, for weights of 0 are multiplied by it."""
    padded = min(max(starts), scores.shape[-1])  # the upper band may not even reach a short prompt's beginning
    hidden = torch.arange(padded, device=scores.device) < torch.tensor(starts, device=scores.device)[:, None]  # (B, padded)
    scores[..., :padded].masked_fill_(hidden[:, None, None], torch.finfo(scores.dtype).min)


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
    means: Means | None = None,
) -> tuple[Tensor, Tensor]:
    """One layer's attention of one prompt.

    Args:
        kernel: as transformers calls it, for the rows before. states: query, key, value (1, H, M, h). bias: of ``future``. asking: T.
        timer: runs while the last rows are computed, though the kernel is spared them. means: of ``last_rows``.

    Returns:
        output (1, M, H, h), and the weights (1, H, R, M) of the last R >= T rows in float32 or, with ``means``, the ranks (1, M).
    """
    first = first_row(states[0], asking)
    with timer or nullcontext():
        rows, found = last_rows(states, first, bias, kwargs.get("scaling"), means=means)
    if first:
        before, _ = kernel(module, *(part[:, :, :first] for part in states), None, **kwargs)
        rows = [before, *rows]
    return rows[0] if len(rows) == 1 else torch.cat(rows, dim=1), found
