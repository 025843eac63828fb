"""Text rows as a by-product: computed once, explicitly, their weights serve the scores *and* these rows' output.

They are the last rows of the causal block, so the kernel is given only the rows before them. Where a layer does anything else than plain
causal attention with as many keys as queries (grouped keys, masks, windows, caps, sinks, dropout, gradients), attention.py looks beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

CACHED = 1 << 18  # float32 scores: a megabyte


def future(rows: int, length: int, device: Any) -> Tensor:
    """(1, T, N) float32, -inf where a column lies after the row; the last M columns serve a sequence that was cut to M."""
    return torch.full((1, rows, length), float("-inf"), device=device).triu_(length - rows + 1)


def _scores(query: Tensor, key: Tensor, bias: Tensor, scaling: float) -> Tensor:
    """(H, T, M) of query (H, T, h) and key (H, h, M), -inf in the future.

    What a product is added to is first written to all of (H, T, M). Small, that stays in the cache, and is one operation; large, only the
    last T columns are added to, for nothing before them is in the future.
    """
    rows, slots = query.shape[1], key.shape[2]
    if query.shape[0] * rows * slots <= CACHED:
        return torch.baddbmm(bias[..., -slots:], query, key, alpha=scaling)
    scores = torch.baddbmm(bias[..., :1, :1], query, key, alpha=scaling, beta=0)  # beta=0: bias is not read
    scores[..., -rows:].add_(bias[..., -rows:])
    return scores


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
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor,
    kwargs: dict[str, Any],
    timer: AbstractContextManager[Any] | None = None,
) -> tuple[Tensor, Tensor]:
    """One layer's attention.

    Args:
        kernel: as transformers calls it, for the rows before. query, key, value: (1, H, M, h). bias: of ``future``.
        timer: runs while the last rows are computed, though the kernel is spared them.

    Returns:
        output (1, M, H, h), and the weights (H, T, M) of the last T rows in float32.
    """
    slots = query.shape[2]
    first = slots - bias.shape[1]
    scaling = kwargs.get("scaling")
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    with timer or nullcontext():
        scores = _scores(query[0, :, first:].float(), key[0].float().transpose(1, 2), bias, scaling)
        weights = torch.softmax(scores, -1, out=scores)  # (H, T, M), in place: as large as a prompt's keys and more
        rows = torch.bmm(weights.to(value.dtype), value[0])  # (H, T, h)
    before, _ = kernel(module, query[:, :, :first], key[:, :, :first], value[:, :, :first], None, **kwargs)
    return torch.cat([before, rows.transpose(0, 1)[None]], dim=1), weights
