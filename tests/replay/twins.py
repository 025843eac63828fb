"""Slow and obvious: attribution by automatic differentiation and by finite differences of the whole path."""

from __future__ import annotations

import torch


def jacobian_attribution(path, patches: torch.Tensor) -> torch.Tensor:
    """Frobenius norm of every (d, c) block of d path(patches)[t] / d patches[p]; path: (P, c) -> (T, d). (T, P)."""
    return torch.func.jacrev(path)(patches).square().sum((1, 3)).sqrt()  # (T, d, P, c) -> (T, P)


def difference_attribution(path, patches: torch.Tensor, step: float = 1e-4) -> torch.Tensor:
    """The same from central differences, one number of one patch at a time."""
    total = torch.zeros(path(patches).shape[0], len(patches), dtype=patches.dtype)
    for p in range(patches.shape[0]):
        for c in range(patches.shape[1]):
            shift = torch.zeros_like(patches)
            shift[p, c] = step
            slope = (path(patches + shift) - path(patches - shift)) / (2 * step)  # (T, d)
            total[:, p] += slope.square().sum(1)
    return total.sqrt()
