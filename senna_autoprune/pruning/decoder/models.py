"""What the hooks must find in a model's decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from transformers.modeling_outputs import CausalLMOutputWithPast

from senna_autoprune.errors import SennaPruneError

CACHE_NAMES = ("past_key_values", "cache")  # what a model is given its cache as; transformers 5.24 has renamed it, and takes both
CACHE = next(name for name in CACHE_NAMES if name in {field.name for field in fields(CausalLMOutputWithPast)})


def cache_in(call: Mapping[str, Any]) -> Any:
    """The cache among a model's keywords, by either name; None: there is none.

    Raises:
        SennaPruneError: it is not one of transformers 5 (tuples of tensors, an encoder-decoder's).
    """
    cache = next((call[name] for name in CACHE_NAMES if call.get(name) is not None), None)
    if cache is not None and not hasattr(cache, "layers"):
        raise SennaPruneError(f"{CACHE} is a {type(cache).__name__}; pruning needs a DynamicCache of transformers 5")
    return cache


def find_decoder(model: Any) -> Any:
    """The stock decoder inside a ``*ForCausalLM`` or VLM: the module with layers, norm and rotary_emb.

    Raises:
        SennaPruneError: if there is none.
    """
    decoder = model.get_decoder() if hasattr(model, "get_decoder") else model
    missing = [name for name in ("layers", "norm", "rotary_emb", "config") if not hasattr(decoder, name)]
    if missing:
        raise SennaPruneError(
            f"{type(model).__name__}: no Llama-family decoder found ({type(decoder).__name__} has no {', '.join(missing)}); "
            "pass a model of transformers 5 such as LlamaForCausalLM"
        )
    return decoder


def sliding_window(config: Any, layer: int) -> int | None:
    """How many positions back a query of this layer sees, itself included (Mistral, Qwen); None: to the beginning."""
    types = getattr(config, "layer_types", None)
    return getattr(config, "sliding_window", None) if types is None or types[layer] == "sliding_attention" else None


def has_three_axes(decoder: Any) -> bool:
    """Whether positions are time, height and width (M-RoPE of the Qwen family), so that they cannot be renumbered 0, 1, 2, ..."""
    return hasattr(decoder.rotary_emb, "mrope_section")
