"""Decode steps after a pruned prefill: every layer's cache has its own length, so every layer gets its own mask and positions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.decoder.gather import attention_mask
from senna_autoprune.pruning.decoder.models import sliding_window


@dataclass
class CachedLayer:
    """What a prefill left in one layer's cache.

    length: tokens it was given. cut: whether any had been dropped before. valid: (B, length) bool, False at padding; None: no padding.
    places: (B, length) the positions by which a sliding window counts; None where the layer has no window.
    """

    length: int
    cut: bool
    valid: Tensor | None
    places: Tensor | None


@dataclass
class Decode:
    """A finished prefill, for its cache's later steps.

    length: of the unpruned prompt; the first token to come stands there. compact: it stands behind what is left instead.
    """

    length: int
    compact: bool
    layers: list[CachedLayer] = field(default_factory=list)

    def step(self, kwargs: dict[str, Any], positions_given: bool, offset: Tensor | None = None) -> dict[str, Any]:
        """Keywords of the decoder. A model counts positions from the first layer's cache: too short if tokens were cut before it.

        Args:
            positions_given: by the caller of the model (``generate``), so that they are right.
            offset: (B, 1) what the model's rotary positions add to a token's place in the prompt (M-RoPE), or None.

        Raises:
            SennaPruneError: the caller takes the shortened cache for the whole prompt, and feeds some of the prompt once more.
        """
        first = self.layers[0]
        if not first.cut:
            return kwargs
        kwargs = {**kwargs, "attention_mask": None}  # every layer gets its own
        tokens = kwargs["inputs_embeds"] if kwargs.get("inputs_embeds") is not None else kwargs["input_ids"]
        start = self.length + kwargs["past_key_values"].get_seq_length() - first.length
        if not positions_given:
            positions = torch.arange(start, start + tokens.shape[1], device=tokens.device)[None]
            kwargs["position_ids"] = positions if offset is None else positions + offset.to(positions)
        elif tokens.shape[1] > 1 and int(kwargs["position_ids"][..., 0].max()) < start:
            raise SennaPruneError(
                "generate cannot go on from a cache whose first layer was pruned: it counts the cache to see what is new; "
                "start afresh, or feed the new tokens to the model itself"
            )
        return kwargs

    def layer(self, index: int, hidden: Tensor, kwargs: dict[str, Any], decoder: Any, kernel: str) -> dict[str, Any]:
        """Keywords of one layer of the ``decoder`` for a step whose input is ``hidden`` (B, q, d)."""
        before, queries, cache = self.layers[index], hidden.shape[1], kwargs["past_key_values"]
        if not before.cut:
            return kwargs
        given = cache.get_seq_length(index)  # tokens the layer was ever given, of which a sliding cache forgets the first
        kept = cache.layers[index].keys.shape[-2] + queries
        valid = before.valid
        if valid is not None:
            valid = torch.cat([valid, valid.new_ones(valid.shape[0], given + queries - valid.shape[1])], dim=1)
        window, places = sliding_window(decoder.config, index), before.places
        start = before.length if self.compact else self.length
        behind = given - before.length  # tokens decoded so far
        if places is not None and window is not None and start + behind + queries > window:
            new = torch.arange(start, start + behind + queries, device=hidden.device).expand(places.shape[0], -1)
            places = torch.cat([places, new], dim=1)[:, -kept:]
        else:
            window = None  # it reaches back to the beginning
        shown = valid[:, -kept:] if valid is not None else None
        kwargs = {**kwargs, "attention_mask": attention_mask(shown, queries, kept, kernel, hidden, window, places)}
        if self.compact:
            positions = torch.arange(given, given + queries, device=hidden.device)[None]
            if valid is not None:
                positions = (valid.long().cumsum(-1) - 1)[:, -queries:]
            kwargs["position_embeddings"] = decoder.rotary_emb(hidden, position_ids=positions)
            kwargs["position_ids"] = positions
        return kwargs
