"""VisionZip's contextual tokens (arXiv 2412.04467, fixture baselines): what the dominant tokens leave, merged by key similarity."""

from __future__ import annotations

import torch
from torch import Tensor


def contextual_targets(count: int, total: int, device: torch.device | None = None) -> Tensor:
    """(count,) which of the ``total`` remaining tokens are merge targets: every (total // count)-th."""
    return torch.arange(0, total, max(1, total // count), device=device)[:count]


def contextual_tokens(tokens: Tensor, keys: Tensor, targets: Tensor) -> Tensor:
    """Each other token joins the target whose key is most similar; a contextual token is target + *mean* of those that joined.

    The sum is the released code's (a target that nobody joins stays as it is); the paper speaks of averages.

    Args:
        tokens: (M, d) not dominant. keys: (M, c). targets: (C,) ascending.

    Returns:
        (C, d).
    """
    unit = keys / keys.norm(dim=-1, keepdim=True)
    others = torch.zeros(len(tokens), dtype=torch.long, device=tokens.device).index_fill(0, targets, 1)
    others = torch.sort(others, stable=True).indices[: len(tokens) - len(targets)]
    nearest = (unit.index_select(0, others) @ unit.index_select(0, targets).T).argmax(-1)  # (M - C,)
    joined = torch.zeros(len(targets), len(others), dtype=tokens.dtype, device=tokens.device)
    joined = joined.scatter(0, nearest[None, :], 1.0)
    means = joined @ tokens.index_select(0, others) / joined.sum(-1, keepdim=True).clamp_min(1)
    return tokens.index_select(0, targets) + means
