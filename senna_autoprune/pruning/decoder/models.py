"""What the hooks must find in a model's decoder."""

from __future__ import annotations

from typing import Any

from senna_autoprune.errors import SennaPruneError


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
