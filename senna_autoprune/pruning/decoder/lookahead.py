"""Attention of the last prompt token in the layer that is about to run, before it runs (PyramidDrop's ranking)."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.context import PromptContext
from senna_autoprune.pruning.decoder.gather import beyond
from senna_autoprune.pruning.decoder.models import sliding_window
from senna_autoprune.pruning.decoder.proven import LOOKAHEAD
from senna_autoprune.pruning.decoder.rotary import table_at


def next_layer_attention(context: PromptContext, unproven: bool = False) -> Tensor:
    """Mean over heads of the last token's causal attention to the visual tokens, by the next layer's own norm, q, k and rotary.

    One query, so O(M d^2) for the keys and O(H M) for the scores.

    Args:
        context: with ``hidden`` (M, d), the input of layer ``boundary``. Compact: positions are 0, 1, 2, ... over what is left.
        unproven: also for a decoder whose layers were not proved to do just that.

    Returns:
        (v,) in float32; the softmax is over the whole causal row.

    Raises:
        SennaPruneError: if the decoder's layers do otherwise, or the layer has no q_proj and k_proj.
    """
    layer, layout, decoder = context.decoder.layers[context.boundary], context.layout, context.decoder
    attention = layer.self_attn
    kind = decoder.config.model_type
    if not unproven and kind not in LOOKAHEAD:
        raise SennaPruneError(f"what a layer will attend to cannot be told before it runs in {kind!r}; choose another method")
    if not (hasattr(attention, "q_proj") and hasattr(attention, "k_proj")):
        raise SennaPruneError(f"{type(attention).__name__} has no q_proj and k_proj to look ahead with; use a Llama-family decoder")
    assert context.hidden is not None and context.rotary is not None
    slots = torch.cat([layout.text, layout.visual]).sort().values  # (n,) without padding
    states = layer.input_layernorm(context.hidden.index_select(0, slots))  # (n, d)
    query = attention.q_proj(states[-1:]).view(1, -1, attention.head_dim)  # (1, H, h)
    key = attention.k_proj(states).view(len(slots), -1, attention.head_dim)  # (n, G, h)
    if hasattr(attention, "q_norm"):
        query, key = attention.q_norm(query), attention.k_norm(key)
    places = torch.arange(len(slots), device=slots.device) if context.compact else layout.origin.index_select(0, slots)  # (n,)
    if context.compact:
        cos, sin = table_at(decoder, context.boundary, states[None], places[None])
        cos, sin = cos[0], sin[0]
    else:
        cos, sin = (rows.index_select(0, places) for rows in context.rotary)
    rotate = sys.modules[type(attention).__module__].apply_rotary_pos_emb
    query = rotate(query[None], query[None], cos[None, -1:], sin[None, -1:], unsqueeze_dim=2)[0][0, 0]  # (H, h)
    key = rotate(key[None], key[None], cos[None], sin[None], unsqueeze_dim=2)[0][0]  # (n, G, h)
    groups = key.shape[1]
    scores = query.float().view(groups, -1, query.shape[-1]) @ key.float().permute(1, 2, 0)  # (G, H / G, n)
    window = sliding_window(decoder.config, context.boundary)
    if window is not None:
        scores = scores.masked_fill(beyond(window, places[-1:], places), float("-inf"))
    weights = (scores * attention.scaling).softmax(-1).mean((0, 1))  # (n,)
    return weights.index_select(0, torch.searchsorted(slots, layout.visual))
