"""Where a visual token looks: how strongly each patch of a view moves it, exactly.

Senna's tokens are mixtures of all patches of a view (spec/senna.md item 1), so a token has no place in the image. What
it has is a Jacobian with respect to the patches, at the very input it saw. The adapter acts along the token axis, on
every channel c alone, so its Jacobian is block diagonal with one (T, P) block a channel, in closed form:

    J_c = W3 diag(g'(h2_c)) W2 diag(g'(h1_c)) W1        h1_c, h2_c: inputs of the two GELUs g, in channel c

The projector acts on every patch alone: M_p = Wb diag(g'(u_p)) Wa, (d, c_v). Together the block of token t and patch p
is diag_c(J_c[t, p]) M_p, (d, c_v), and its Frobenius norm is

    A[t, p] = sqrt( sum_c J_c[t, p]^2  |M_p[c]|^2 )

No sampling, no approximation (tests/replay: finite differences, and torch.func.jacrev as a twin). The tower's own
mixing of patches is not undone: a "patch" is a position of its output.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from senna_autoprune.errors import SennaPruneError

Through = Literal["projector", "adapter"]
THROUGH: tuple[str, ...] = ("projector", "adapter")


def gelu_slope(value: Tensor) -> Tensor:
    """Derivative of the exact GELU x Phi(x): Phi(x) + x phi(x), elementwise."""
    cumulative = 0.5 * (1.0 + torch.erf(value / math.sqrt(2.0)))
    return cumulative + value * torch.exp(-0.5 * value**2) / math.sqrt(2.0 * math.pi)


def projector_gain(projector: nn.Module, features: Tensor, chunk: int = 1 << 24) -> Tensor:
    """|M_p[c]|^2: squared norm of each projected channel's gradient with respect to its own patch, (P, d) float32.

    Args:
        projector: Linear-GELU(exact)-Linear.
        features: (P, c_v) patches as the tower gave them.
        chunk: numbers held at once.
    """
    first, second = _linears(projector, 2)
    inner, outer = first.weight.detach().float(), second.weight.detach().float()  # (h, c_v), (d, h)
    slopes = gelu_slope(nn.functional.linear(features.float(), inner, _bias(first)))  # (P, h)
    step = max(1, chunk // (outer.shape[0] * max(inner.shape)))
    return torch.cat([((outer * part[:, None]) @ inner).square().sum(-1) for part in slopes.split(step)])


def adapter_attribution(adapter: nn.Module, projected: Tensor, gain: Tensor | None = None, chunk: int = 1 << 24) -> Tensor:
    """A[t, p] of one view, (T, P) float32.

    Args:
        adapter: Linear-GELU-Linear-GELU-Linear over the token axis, shared by all channels.
        projected: (P, d) patches that enter the adapter.
        gain: (P, d) of :func:`projector_gain`; None: with respect to the projected patches themselves.
        chunk: numbers held at once; the work is 2 d T (k2 k1 + k1 P) multiply-adds whatever it is.
    """
    layers = _linears(adapter, 3)
    first, second, third = (layer.weight.detach().float() for layer in layers)  # (k1, P), (k2, k1), (T, k2)
    channels = projected.float().T  # (d, P)
    h1 = nn.functional.linear(channels, first, _bias(layers[0]))  # (d, k1)
    h2 = nn.functional.linear(nn.functional.gelu(h1), second, _bias(layers[1]))  # (d, k2)
    s1, s2 = gelu_slope(h1), gelu_slope(h2)
    weight = torch.ones_like(channels) if gain is None else gain.float().T  # (d, P)
    total = torch.zeros(third.shape[0], first.shape[1], device=projected.device)  # (T, P)
    step = max(1, chunk // (third.shape[0] * max(first.shape[1], first.shape[0])))
    for start in range(0, len(channels), step):
        part = slice(start, start + step)
        block = (third * s2[part, None]) @ (second * s1[part, None])  # (C, T, k1)
        total += ((block @ first).square() * weight[part, None]).sum(0)  # (C, T, P) -> (T, P)
    return total.sqrt()


@torch.inference_mode()
def token_attribution(model: Any, projected: Tensor, features: Tensor | None, patch_mask: Tensor | None = None) -> Tensor:
    """A[v, t, p] of all views of a keyframe, (V, T, P) float32 on the host.

    Args:
        model: with ``img_adapter.adapter`` (and ``mm_projector``) as Senna has them. A model without an adapter has one
            token a patch, and each token is its patch: the identity.
        projected: (V, P, d) what entered the adapter.
        features: (V, P, c_v) what entered the projector, to go through it too; None: through the adapter alone.
        patch_mask: (V, P) bool; padding patches claim nothing.
    Raises:
        SennaPruneError: projector or adapter are not the layers whose Jacobian is known.
    """
    adapter = getattr(model, "img_adapter", None)
    if adapter is None:
        views, patches = projected.shape[:2]
        found = torch.eye(patches).expand(views, -1, -1)
    else:
        gains: list[Tensor | None] = [None] * len(projected)
        if features is not None:
            gains = [projector_gain(model.mm_projector, view) for view in features]
        pairs = zip(projected, gains, strict=True)
        found = torch.stack([adapter_attribution(adapter.adapter, view, gain).cpu() for view, gain in pairs])
    return found if patch_mask is None else found * patch_mask.cpu()[:, None].to(found)


def survivors(kept: Sequence[Tensor], view_sizes: Sequence[int]) -> Tensor:
    """Which tokens enter each layer, (L, V, T) bool, from the trace's ``kept`` (per layer, indices over all views).

    Raises:
        SennaPruneError: the views differ in size.
    """
    if len(set(view_sizes)) != 1:
        raise SennaPruneError(f"a replay needs views of one size, these have {sorted(set(view_sizes))} tokens")
    flags = torch.zeros(len(kept), sum(view_sizes), dtype=torch.bool)
    for layer, indices in enumerate(kept):
        flags[layer, indices] = True
    return flags.unflatten(1, (len(view_sizes), view_sizes[0]))


def kept_attribution(attribution: Tensor, kept: Tensor) -> Tensor:
    """Sum over the kept tokens, (..., V, P), of attribution (V, T, P) with kept (..., V, T) bool or weights."""
    return torch.einsum("...vt,vtp->...vp", kept.to(attribution), attribution)


def normalised(heat: Tensor) -> Tensor:
    """Each view's heat (..., V, P) as shares of 1; a view without a kept token stays 0."""
    return heat / heat.sum(-1, keepdim=True).clamp_min(torch.finfo(heat.dtype).tiny)


def _linears(module: nn.Module, count: int) -> list[nn.Linear]:
    """The linear layers of a Sequential of ``count`` of them with exact GELUs between."""
    layers = list(module.children())
    linears, between = layers[::2], layers[1::2]
    exact = all(isinstance(layer, nn.GELU) and layer.approximate == "none" for layer in between)
    if len(layers) != 2 * count - 1 or not exact or not all(isinstance(layer, nn.Linear) for layer in linears):
        raise SennaPruneError(f"attribution knows {count} linear layers with exact GELUs between, not {module}")
    return linears  # type: ignore[return-value]


def _bias(layer: nn.Linear) -> Tensor | None:
    return None if layer.bias is None else layer.bias.detach().float()
