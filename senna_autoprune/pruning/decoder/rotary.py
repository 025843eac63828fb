"""A layer's rotary table: one for the whole model, or one for each type of layer (Gemma 3, Olmo 3)."""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

from torch import Tensor


def table_kind(decoder: Any, layer: int) -> str | None:
    """The layer's type, if the decoder's rotary tables differ by it; None: all layers share one."""
    if not _by_layer(type(decoder.rotary_emb).forward):
        return None
    return decoder.config.layer_types[layer]


@cache
def _by_layer(forward: Any) -> bool:
    return "layer_type" in inspect.signature(forward).parameters


def table_at(decoder: Any, layer: int, like: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines (B, M, h) of ``positions`` (B, M) for a layer. like: a tensor of the device and dtype."""
    kind = table_kind(decoder, layer)
    if kind is None:
        return decoder.rotary_emb(like, position_ids=positions)
    return decoder.rotary_emb(like, position_ids=positions, layer_type=kind)
