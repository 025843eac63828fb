"""How complex is the question? Attention of text rows to visual tokens in an early layer -> one number per prompt.

Pure functions on tensors. Shapes: H heads, T text rows (all tokens after the last visual token), V visual tokens, d hidden.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from senna_autoprune.errors import SennaPruneError


def mutual_information(attention: Tensor) -> Tensor:
    """Mutual information between text and visual tokens, natural definition (paper eq. 3-4; spec autoprune.md, paper step 1).

    Args:
        attention: (H, T, V) softmax attention of text rows to visual tokens; rows need not sum to one, they are
            renormalised over the visual tokens after the mean over heads.

    Returns:
        scalar in nats, 0 <= I <= log(min(T, V)).

    Raises:
        ValueError: if attention is not three-dimensional or has an empty axis.
    """
    _check_attention(attention)
    weights = attention[0].float() if len(attention) == 1 else attention.float().mean(dim=0)  # (T, V)
    tiny = torch.finfo(weights.dtype).tiny
    conditional = (weights / weights.sum(dim=-1, keepdim=True).clamp_min(tiny)).clamp_min(tiny)  # p(v|t); 0 log 0 = 0, for tiny log tiny is
    marginal = conditional.mean(dim=0)  # p(v), (V,)
    information = (conditional * torch.log(conditional / marginal)).sum()  # sum_j sum_i p(v|t) log(p(v|t) / p(v)); xlogy is 4 times slower
    return (information / len(conditional)).clamp_min(0.0)


def average_attention(attention: Tensor) -> Tensor:
    """Ablation "attention": mean of a over heads, rows and visual tokens, times V (spec autoprune.md, Ablations).

    Args:
        attention: (H, T, V).

    Returns:
        scalar: the share of its attention that an average text row gives to the image, in [0, 1].
    """
    _check_attention(attention)
    return attention.float().mean() * attention.shape[2]


def cosine_similarity(visual: Tensor, text: Tensor) -> Tensor:
    """Ablation "cosine": cosine of the mean visual and the mean text embedding at the decoder's input.

    Args:
        visual: (V, d); text: (T, d).

    Returns:
        scalar in [-1, 1].
    """
    return torch.nn.functional.cosine_similarity(visual.float().mean(0), text.float().mean(0), dim=0)


def finite(value: float) -> float:
    """The indicator's value on the host.

    Raises:
        SennaPruneError: if it is NaN or infinite.
    """
    if not math.isfinite(value):
        raise SennaPruneError(f"AutoPrune: the indicator is {value}: attention is not finite (broken weights, or a dtype too small)")
    return value


def _check_attention(attention: Tensor) -> None:
    if attention.dim() != 3 or 0 in attention.shape:
        raise ValueError(f"attention must be a non-empty (H, T, V) tensor, got shape {tuple(attention.shape)}")
