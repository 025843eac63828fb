"""What a pruned prefill leaves in a cache travels with the cache: its layers know what they were given and what later steps need.

A layer of a stock ``DynamicCache`` is replaced by one of ours with the same tensors. Copying, pickling, moving, cropping, reordering and
selecting rows are the stock ones, and the record follows; tensors taken out by hand still say whose they are (states.py). Decoding goes on
under any policy's ``with``; after it, where a stock forward is right all the same, and else it is refused before any answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.decoder.callers import asked_by_generate, local_of_caller
from senna_autoprune.pruning.decoder.states import PrunedStates, refuse

RENUMBERED = (
    "generate cannot go on from a cache whose tokens were renumbered: it counts the cache to see what is new; "
    "start afresh, or feed the new tokens to the model itself"
)


OUT_OF_STEP = "the layers of this pruned cache are out of step: a forward over it failed half-way, or somebody has moved them; start afresh"


@dataclass(eq=False)
class CachedLayer:
    """What a prefill left in one layer's cache.

    length: tokens the layer was given. prompt: of the unpruned prompt; the first token to come stands there. compact: it stands behind
    what is left instead. counted: tokens of the prompt that the layer says it holds, the same in all layers: ``prompt``, or if compact what
    the first layer was given, since a stock model's positions follow from it.
    cut: whether any token had been dropped before. valid: (B, length) bool, False at padding; None: no padding.
    places: (B, length) the positions by which a sliding window counts; None where the layer has no window. window: that window.
    even: all layers were given equally many. maskless: one token needs no mask from a stock forward (SDPA, flash).
    shown: (B, prompt) bool, the mask of the whole prompt, in the first layer; None: everything was shown.
    after: (B,) where text goes on behind a prompt with positions of three axes, in the first layer; None: they have one.
    index: of the layer, among those that belong ``together``.
    decoded: tokens since the prefill. expected: the hooks of a policy have prepared the step that is coming.
    """

    length: int
    prompt: int
    compact: bool
    counted: int
    cut: bool
    valid: Tensor | None
    places: Tensor | None
    window: int | None = None
    even: bool = True
    maskless: bool = True
    shown: Tensor | None = None
    after: Tensor | None = None
    decoded: int = 0
    expected: bool = False
    index: int = 0
    together: list[CachedLayer] = field(default_factory=list, repr=False)

    def rows(self, index: Any) -> None:
        """Follow the cache's rows: ``index`` into the batch."""
        self.valid = None if self.valid is None else self.valid[_on(index, self.valid)]
        self.places = None if self.places is None else self.places[_on(index, self.places)]
        self.shown = None if self.shown is None else self.shown[_on(index, self.shown)]
        self.after = None if self.after is None else self.after[_on(index, self.after)]

    def check(self, keys: Tensor | None, held: int) -> None:
        """Raise SennaPruneError if the layer does not hold what was recorded: somebody has changed its tensors by hand."""
        rows = None if self.valid is None else self.valid.shape[0]
        if keys is None or held != self.length + self.decoded or (rows is not None and keys.shape[0] != rows):
            raise SennaPruneError(
                "the cache of a pruned prefill was changed by hand, so its positions are lost; use the cache's own crop, reorder_cache, "
                "batch_select_indices and batch_repeat_interleave, or start afresh"
            )

    def check_turn(self, queries: int) -> None:
        """Raise SennaPruneError if it is not this layer's turn: a step goes through all layers, from the first to the last.

        Args:
            queries: tokens of the step.
        """
        below = self.together[self.index - 1] if self.together else self
        if below.decoded != self.decoded + (queries if self.index else 0):
            raise SennaPruneError(OUT_OF_STEP)

    def check_alone(self, queries: int) -> None:
        """Raise SennaPruneError if a forward without a policy's hooks would continue this layer wrongly.

        Args:
            queries: tokens of the step.
        """
        if not self.cut:
            return
        why = None
        if self.valid is not None:
            why = "its prompts had different lengths"
        elif self.window is not None and self.prompt + self.decoded + queries > self.window:
            why = "its sliding window counts dropped tokens"
        elif self.compact and self.length != self.counted:
            why = "its layers number their tokens differently"
        elif not self.even and (queries > 1 or not self.maskless):
            why = "its layers hold different numbers of tokens, and this step needs a mask for each"
        if why is not None:
            raise SennaPruneError(f"a pruned cache cannot go on outside of a policy's with: {why}; decode inside the with")

    def check_mask(self, mask: Any, queries: int) -> None:
        """Raise SennaPruneError if a stock forward was given a mask that hides tokens, whose columns are not those of this layer.

        Args:
            mask: what the model was given, if (B, n). queries: tokens of the step.
        """
        if not isinstance(mask, Tensor) or mask.dim() != 2:
            return
        if mask.shape[1] < self.counted + self.decoded + queries or not bool(mask.all()):
            raise SennaPruneError(
                "an attention_mask that hides tokens does not fit the cache of a pruned prompt outside of a policy's with; "
                "leave it out, or decode inside the with"
            )

    def crop(self, tokens: int) -> None:
        """``tokens`` of those decoded are taken back."""
        if tokens > self.decoded:
            raise SennaPruneError(
                f"a pruned cache cannot be cropped into its prompt: {tokens} tokens are to go, {self.decoded} were decoded; start afresh"
            )
        self.decoded -= tokens


class _Pruned:
    """Mixed into a stock cache layer. left: what the prefill left; None after a reset, when it is a stock layer again."""

    left: CachedLayer | None = None
    inside = False  # a method of the layer is at its tensors
    cumulative_length: Any

    def _taken(self, name: str) -> Any:
        """The tensor, as its layer's methods see it, or as anybody else does (states.py)."""
        tensor = vars(self).get(name)
        return tensor if tensor is None or self.inside or self.left is None else tensor.as_subclass(PrunedStates)

    def _put(self, name: str, tensor: Any) -> None:
        vars(self)[name] = tensor.as_subclass(Tensor) if isinstance(tensor, PrunedStates) else tensor

    keys = property(lambda self: self._taken("keys"), lambda self, tensor: self._put("keys", tensor))
    values = property(lambda self: self._taken("values"), lambda self, tensor: self._put("values", tensor))

    @property
    def kept(self) -> int:
        """Tokens whose keys are there."""
        return vars(self)["keys"].shape[-2]

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        left, queries = self.left, key_states.shape[-2]
        if left is None:
            return super().update(key_states, value_states, *args, **kwargs)  # type: ignore[misc]
        self.check()
        left.check_turn(queries)
        if not left.expected:
            left.check_alone(queries)
        left.expected = False
        self.inside = True
        try:
            result = super().update(key_states, value_states, *args, **kwargs)  # type: ignore[misc]
        finally:
            self.inside = False
        left.decoded += queries
        return result

    def check(self) -> None:
        """As ``CachedLayer.check``."""
        keys = vars(self)["keys"]
        if self.left is not None:
            self.left.check(keys, getattr(self, "cumulative_length", None) or (0 if keys is None else keys.shape[-2]))

    def get_seq_length(self) -> int:
        """Tokens of the prompt and after it, dropped ones included, so that a stock model goes on at the right position."""
        left = self.left
        if left is None:
            return super().get_seq_length()  # type: ignore[misc]
        if left.compact and left.counted != left.prompt and asked_by_generate():
            raise SennaPruneError(RENUMBERED)
        return left.counted + left.decoded

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """(length, offset): keys that are there, shifted so that the newest stands at the newest query's position."""
        if self.left is not None and not self.left.expected:
            self.left.check_mask(local_of_caller("attention_mask"), query_length)
        if self.left is None or not self.left.cut:
            return super().get_mask_sizes(query_length)  # type: ignore[misc]
        return self.left.length + self.left.decoded + query_length, self.left.counted - self.left.length

    def crop(self, tokens_to_remove: int) -> None:
        """As the stock layer (a positive number, of older transformers, is the length to keep)."""
        left = self.left
        if left is None:
            return super().crop(tokens_to_remove)  # type: ignore[misc]
        tokens = -tokens_to_remove if tokens_to_remove <= 0 else max(self.get_seq_length() - tokens_to_remove, 0)
        if left.window is not None and left.length + left.decoded >= left.window and tokens:
            raise SennaPruneError("a pruned cache cannot be cropped once a sliding window has forgotten tokens; start afresh")
        left.crop(tokens)
        if tokens:
            self.keys = self.keys[..., :-tokens, :]
            self.values = self.values[..., :-tokens, :]
            if hasattr(self, "cumulative_length"):
                self.cumulative_length = left.length + left.decoded

    def reorder_cache(self, beam_idx: Tensor) -> None:
        super().reorder_cache(beam_idx)  # type: ignore[misc]
        if self.left is not None:
            self.left.rows(beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        before = 0 if self.keys is None else self.keys.shape[0]
        super().batch_repeat_interleave(repeats)  # type: ignore[misc]
        if self.left is not None:
            self.left.rows(torch.arange(before).repeat_interleave(repeats))

    def batch_select_indices(self, indices: Tensor) -> None:
        super().batch_select_indices(indices)  # type: ignore[misc]
        if self.left is not None:
            self.left.rows(indices)

    def reset(self) -> None:
        self.left = None
        super().reset()  # type: ignore[misc]


class PrunedLayer(_Pruned, DynamicLayer):  # type: ignore[misc]
    """A ``DynamicLayer`` after a pruned prefill."""


class PrunedSlidingWindowLayer(_Pruned, DynamicSlidingWindowLayer):  # type: ignore[misc]
    """A ``DynamicSlidingWindowLayer`` after a pruned prefill."""


CLASSES: dict[type, type] = {DynamicLayer: PrunedLayer, DynamicSlidingWindowLayer: PrunedSlidingWindowLayer}


def can_hold(cache: Any) -> bool:
    """Whether the layers of an empty cache can hold different lengths, and our record."""
    return all(type(layer) in CLASSES or type(layer) in CLASSES.values() for layer in cache.layers)


def leave(cache: Any, layers: list[CachedLayer]) -> None:
    """Record in a cache what a prefill left in it. Nothing where nothing was cut: such a cache is a stock one."""
    if not any(left.cut for left in layers):
        return
    if not can_hold(cache):
        raise SennaPruneError("pruning needs layers that can hold different lengths: use a DynamicCache")
    for index, left in enumerate(layers):
        left.index, left.together = index, layers
        left.even = len({one.length for one in layers}) == 1
        stock = cache.layers[index]
        ours = CLASSES.get(type(stock), type(stock))
        layer: Any = object.__new__(ours)
        vars(layer).update(vars(stock), left=left)
        cache.layers[index] = layer


def left_in(cache: Any, layers: int) -> list[CachedLayer] | None:
    """What a pruned prefill left in a filled cache; None: it was not pruned.

    Raises:
        SennaPruneError: some layers say so and others do not, or layers differ in length and none says why.
    """
    found: list[Any] = [getattr(layer, "left", None) for layer in cache.layers[:layers]]
    if len(found) < layers and any(found):
        refuse()
    if found and all(found):
        if any(left.index != index or left.decoded != found[0].decoded for index, left in enumerate(found)):
            raise SennaPruneError(OUT_OF_STEP)
        for layer in cache.layers[:layers]:
            layer.check()
        return found
    stock = [layer.keys for layer in cache.layers[:layers] if type(layer) is DynamicLayer and layer.keys is not None]
    marked = any(isinstance(keys, PrunedStates) for keys in stock)
    if marked or any(found) or len({keys.shape[-2] for keys in stock}) > 1:
        refuse()
    return None


def _on(index: Any, like: Tensor) -> Any:
    return index.to(like.device) if isinstance(index, Tensor) else index
