"""The slow, obvious twin of a pruned run, on the same stock model: every token runs through every layer, and dropped ones are hidden.

A layer gets the mask that the model itself made for the whole prompt, and beside it the columns of tokens that a pruned run had dropped
before that layer are closed. What a surviving token computes is what it computes in the pruned sequence, whatever the layer is inside. It
shares no arithmetic with the hooks (hooks.py, gather.py, decoding.py): no gathering, no cache, no renumbered mask.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.trace import PromptTrace

MASKED = ("eager", "sdpa")  # kernels that take a mask with holes


def hidden_tokens(traces: Sequence[PromptTrace], visual: Tensor, length: int) -> list[Tensor]:
    """Per layer (B, length) bool, True at the visual tokens that do not enter it.

    Args:
        traces: one a sample. visual: (B, N) bool, where the visual tokens of the prompt are. length: of prompt and answer.

    Raises:
        SennaPruneError: tokens were merged, so that masks cannot say what is left.
    """
    if any(count for trace in traces for count in trace.merged_per_layer):
        raise SennaPruneError("merged tokens are new ones, which no mask over the old ones can show")
    layers = []
    for layer in range(len(traces[0].tokens_per_layer)):
        gone = torch.zeros(len(traces), length, dtype=torch.bool)
        for sample, trace in enumerate(traces):
            slots = visual[sample].cpu().nonzero().flatten()
            gone[sample, slots] = True
            gone[sample, slots[trace.kept[layer]]] = False
        layers.append(gone.to(visual.device))
    return layers


@contextmanager
def full_length(decoder: Any, hidden: Sequence[Tensor], compact: bool = False, valid: Tensor | None = None) -> Iterator[None]:
    """Inside, every forward of ``decoder`` over (B, N) tokens without a cache hides ``hidden[l]`` (B, N) from the keys of layer l.

    Args:
        compact: tokens that are left are numbered 0, 1, 2, ... in each layer. valid: (B, N) bool, False at padding.
    """
    before = decoder.config._attn_implementation
    kernel = before if before in MASKED else "sdpa"
    with ExitStack() as stack:
        decoder.config._attn_implementation = kernel
        stack.callback(setattr, decoder.config, "_attn_implementation", before)
        for index, gone in enumerate(hidden):
            hook = _closing(decoder, index, gone, compact, valid)
            stack.callback(decoder.layers[index].register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield


def _closing(decoder: Any, index: int, gone: Tensor, compact: bool, valid: Tensor | None) -> Callable[..., Any]:
    def before_layer(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        states = args[0] if args else kwargs["hidden_states"]
        mask = kwargs.get("attention_mask")
        if mask is not None and mask.dim() != 4:
            raise SennaPruneError(f"layer {index} of {type(decoder).__name__} wants no mask over its keys")
        kwargs = {**kwargs, "attention_mask": _closed(mask, gone, states)}
        if compact:
            left = ~gone if valid is None else ~gone & valid
            positions = (left.long().cumsum(-1) - 1).clamp_min(0)
            kwargs["position_embeddings"] = decoder.rotary_emb(states, positions, **_layer_type(decoder, index))
            if kwargs.get("position_ids") is not None:
                kwargs["position_ids"] = positions
        return args, kwargs

    return before_layer


def _layer_type(decoder: Any, index: int) -> dict[str, str]:
    takes = "layer_type" in inspect.signature(decoder.rotary_emb.forward).parameters
    return {"layer_type": decoder.config.layer_types[index]} if takes else {}


def _closed(mask: Tensor | None, gone: Tensor, states: Tensor) -> Tensor:
    """The model's own (B or 1, 1, N, N) mask (None: causal) with columns closed; a token still sees itself. Additive."""
    length = states.shape[1]
    own = torch.eye(length, dtype=torch.bool, device=states.device)
    if mask is None:
        allowed = torch.ones(length, length, dtype=torch.bool, device=states.device).tril()[None, None]
    else:
        allowed = mask if mask.dtype == torch.bool else mask == 0
    allowed = (allowed & ~gone[:, None, None, :]) | own
    return torch.zeros(allowed.shape, dtype=states.dtype, device=states.device).masked_fill(~allowed, torch.finfo(states.dtype).min)
