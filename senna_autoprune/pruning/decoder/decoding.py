"""Decode steps after a pruned prefill: every layer's cache has its own length, so every layer gets its own mask and positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.decoder.cache import CachedLayer
from senna_autoprune.pruning.decoder.gather import attention_mask
from senna_autoprune.pruning.decoder.models import cache_in
from senna_autoprune.pruning.decoder.rotary import table_at


@dataclass
class Decode:
    """A step of one or several tokens over the cache of a pruned prefill. layers: what the cache says of it (cache.py)."""

    layers: list[CachedLayer]

    def step(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Keywords of the decoder. The positions are right: a model counts them from the cache, which counts dropped tokens too.

        Raises:
            SennaPruneError: the mask hides other tokens than the prefill's did.
        """
        first = self.layers[0]
        tokens = kwargs["inputs_embeds"] if kwargs.get("inputs_embeds") is not None else kwargs["input_ids"]
        check_positions(first, kwargs.get("position_ids"))
        check_mask(first, kwargs.get("attention_mask"), tokens.shape[1])
        self.expect(True)
        mask = None  # every layer that was cut gets its own
        if not first.cut and first.shown is not None:
            mask = nn.functional.pad(first.shown, (0, first.decoded + tokens.shape[1]), value=True).to(tokens.device)
        return {**kwargs, "attention_mask": mask}

    def expect(self, coming: bool) -> None:
        """Tell the cache whether a step of ours is coming, or over."""
        for left in self.layers:
            left.expected = coming

    def layer(self, index: int, hidden: Tensor, kwargs: dict[str, Any], decoder: Any, kernel: str) -> dict[str, Any]:
        """Keywords of one layer of the ``decoder`` for a step whose input is ``hidden`` (B, q, d)."""
        left, queries = self.layers[index], hidden.shape[1]
        cache = cache_in(kwargs)
        if not left.cut:
            return kwargs
        given = left.length + left.decoded  # tokens the layer was ever given, of which a sliding cache forgets the first
        kept = cache.layers[index].kept + queries
        valid = left.valid.to(hidden.device) if left.valid is not None else None
        if valid is not None:
            valid = torch.cat([valid, valid.new_ones(valid.shape[0], given + queries - valid.shape[1])], dim=1)
        window, places = left.window, left.places
        start = left.length if left.compact else left.prompt
        if places is not None and window is not None and start + left.decoded + queries > window:
            new = torch.arange(start, start + left.decoded + queries, device=hidden.device).expand(places.shape[0], -1)
            places = torch.cat([places.to(hidden.device), new], dim=1)[:, -kept:]
        else:
            window = None  # it reaches back to the beginning
        shown = valid[:, -kept:] if valid is not None else None
        kwargs = {**kwargs, "attention_mask": attention_mask(shown, queries, kept, kernel, hidden, window, places)}
        if left.compact:
            positions = torch.arange(given, given + queries, device=hidden.device)[None]
            if valid is not None:
                positions = (valid.long().cumsum(-1) - 1)[:, -queries:]
            kwargs["position_embeddings"] = table_at(decoder, index, hidden, positions)
            kwargs["position_ids"] = positions
        return kwargs


def check_positions(first: CachedLayer, positions: Any) -> None:
    """Raise SennaPruneError if a step's positions of three axes (3 or 4, B, q) do not follow those of the cache's prompt.

    Such a model counts on from the last prompt it has seen, which may have been another.
    """
    if first.after is None or not isinstance(positions, Tensor) or positions.dim() != 3:
        return
    expected = (first.after + first.decoded).to(positions.device)
    if not bool((positions[-3:, :, 0] == expected).all()):
        raise SennaPruneError(
            "the positions of this step do not follow its pruned prompt: the model counts on from the last prompt it has seen, which was "
            "another; give position_ids (3, B, n), or ask on before the next prompt"
        )


def check_mask(first: CachedLayer, mask: Any, queries: int) -> None:
    """Raise SennaPruneError if the mask of a step over a pruned prompt hides other tokens than the prefill's mask did.

    Args:
        first: of the cache's layers. mask: (B, n) over prompt, answer and the step's tokens; None: nothing is hidden.
    """
    if mask is None:
        return
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        raise SennaPruneError(
            "a step over a pruned prompt needs a 2-d attention_mask (B, n), or none; a prepared one does not fit its layers"
        )
    answered = first.decoded + queries
    lengths = {first.prompt + answered, first.counted + answered}
    same = mask.shape[1] in lengths and (first.shown is None or mask.shape[1] == first.prompt + answered)
    if same and first.shown is None:
        same = bool(mask.all())
    elif same and first.shown is not None:
        same = torch.equal(mask[:, : first.prompt].bool(), first.shown.to(mask.device)) and bool(mask[:, first.prompt :].all())
    if not same:
        raise SennaPruneError(
            f"an attention_mask over a pruned prompt must show what the prefill's did and all that follows: {first.prompt} + {answered} "
            "tokens; give questions of one length, one at a time, or start afresh"
        )
