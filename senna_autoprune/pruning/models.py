"""What the engine must find in a model: its decoder, and where a prompt's visual tokens are."""

from __future__ import annotations

from typing import Any

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.context import VisualContext


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


def find_visual(model: Any, needs: frozenset[str], inputs: dict[str, Any]) -> VisualContext:
    """Visual positions of a forward call: from the model's ``visual_context``, else where ``input_ids`` hold its image token.

    Raises:
        SennaPruneError: if neither works.
    """
    if hasattr(model, "visual_context"):
        return model.visual_context(needs, **inputs)
    image_token = getattr(model.config, "image_token_id", None)
    if image_token is None or inputs.get("input_ids") is None:
        raise SennaPruneError(
            f"{type(model).__name__}: visual positions are unknown; pass visual_mask=(B, N) bool, "
            "or input_ids to a model whose config has image_token_id"
        )
    return VisualContext(inputs["input_ids"] == image_token)
