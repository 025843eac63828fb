"""Which decoders may be pruned: those that were proved, by ``config.model_type``. docs/models.md is made from these tables.

Proved means: a tiny model of the type, pruned, equals its full-length twin (full_length.py) over prefill and decode steps, and the
attention that scores read is its layers' own, in tests/pruning/decoder/test_proven.py. That it has ``layers`` and ``norm`` proves nothing.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.decoder.models import cache_in

PROVEN: dict[str, str] = {  # model_type of the decoder -> what is special about it
    "afmoe": "mixture of experts, gated attention, windows",
    "apertus": "",
    "arcee": "",
    "aria_text": "mixture of experts",
    "bitnet": "",
    "cohere": "attention and MLP side by side",
    "cohere2": "windows; rotary positions in some layers only",
    "cohere2_moe": "mixture of experts, windows",
    "cwm": "windows",
    "diffllama": "differential attention",
    "dots1": "mixture of experts",
    "ernie4_5": "",
    "exaone4": "windows; rotary positions in some layers only",
    "exaone_moe": "mixture of experts",
    "flex_olmo": "mixture of experts",
    "flint": "mixture of experts, attention sinks",
    "gemma": "",
    "gemma2": "windows, capped scores",
    "gemma3_text": "a rotary table for each type of layer, windows",
    "glm": "partial rotary positions",
    "glm4": "partial rotary positions",
    "glm4_moe": "mixture of experts",
    "gpt_oss": "mixture of experts, attention sinks, windows",
    "granite": "",
    "granitemoe": "mixture of experts",
    "granitemoeshared": "mixture of experts",
    "helium": "",
    "hunyuan_v1_dense": "",
    "hunyuan_v1_moe": "mixture of experts",
    "hy_v3": "mixture of experts",
    "hyperclovax": "",
    "internlm3": "",
    "iquestcoder": "",
    "jais2": "",
    "laguna": "mixture of experts, gated attention, a rotary table for each type of layer",
    "llama": "also Senna, LLaVA and LLaVA-NeXT on Vicuna",
    "mellum": "mixture of experts, a rotary table for each type of layer",
    "mimo_v2_flash": "mixture of experts, attention sinks, a rotary table for each type of layer",
    "minimax_m2": "mixture of experts",
    "ministral": "windows",
    "ministral3": "scores scaled by position",
    "mistral": "windows; also LLaVA-NeXT on Mistral",
    "mixtral": "mixture of experts",
    "nemotron": "",
    "olmo": "",
    "olmo2": "",
    "olmo3": "windows, a rotary table for each type of layer",
    "olmoe": "mixture of experts",
    "phi3": "partial rotary positions, windows",
    "phimoe": "mixture of experts",
    "qwen2": "windows; also LLaVA-OneVision and InternVL",
    "qwen2_5_vl_text": "positions of three axes (M-RoPE)",
    "qwen2_moe": "mixture of experts",
    "qwen3": "windows; also InternVL",
    "qwen3_moe": "mixture of experts",
    "qwen3_vl_text": "positions of three axes (M-RoPE), DeepStack features between the first layers",
    "seed_oss": "",
    "smollm3": "rotary positions in some layers only",
    "stablelm": "partial rotary positions",
    "starcoder2": "windows",
    "vaultgemma": "windows, capped scores",
}

LINEAR = "some of its layers keep a recurrent state instead of keys, in which dropped tokens would stay"
CROSS = "its images come in by cross-attention, not as tokens of the decoder"
ENCODER = "it is an encoder and a decoder joined by cross-attention"
PREFIX = "its image tokens see each other in both directions"
CHOOSING = "its layers choose the keys they look at themselves"
CHUNKED = "its attention goes by chunks of positions"
PER_LAYER = "each of its layers is given features of every token by themselves"
REFUSED: dict[str, str] = {  # model_type of the model, or of its decoder -> why
    **dict.fromkeys(("bailing_hybrid", "bamba", "falcon_h1", "falcon_mamba", "granitemoehybrid", "jamba", "kimi_linear"), LINEAR),
    **dict.fromkeys(("lfm2", "lfm2_moe", "lfm2_vl", "lfm3", "mamba", "mamba2", "minimax", "nemotron_h", "olmo_hybrid"), LINEAR),
    **dict.fromkeys(("qwen3_5", "qwen3_5_moe", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_next", "recurrent_gemma"), LINEAR),
    **dict.fromkeys(("rwkv", "xlstm", "zamba", "zamba2"), LINEAR),
    **dict.fromkeys(("mllama", "mllama_text_model", "idefics"), CROSS),
    **dict.fromkeys(("bart", "blenderbot", "blenderbot-small", "bigbird_pegasus", "marian", "mbart", "mvp", "pegasus", "plbart"), ENCODER),
    **dict.fromkeys(("prophetnet", "t5gemma2", "trocr", "udop", "whisper", "vision-encoder-decoder", "florence2"), ENCODER),
    **dict.fromkeys(("paligemma", "gemma3", "gemma4", "gemma4_unified", "shieldgemma2", "pi0", "git"), PREFIX),
    **dict.fromkeys(("deepseek_v32", "deepseek_v4", "doge", "glm_moe_dsa"), CHOOSING),
    **dict.fromkeys(("llama4", "llama4_text"), CHUNKED),
    **dict.fromkeys(("gemma3n", "gemma3n_text", "gemma4_text", "gemma4_unified_text"), PER_LAYER),
}

# of these, what a layer will attend to can be told before it runs (PyramidDrop): its own norm, projections and rotary table, no more
LOOKAHEAD = frozenset(
    (
        "arcee",
        "aria_text",
        "bitnet",
        "cohere",
        "cwm",
        "diffllama",
        "dots1",
        "ernie4_5",
        "gemma",
        "gemma3_text",
        "glm",
        "glm4",
        "glm4_moe",
        "granite",
        "granitemoe",
        "granitemoeshared",
        "helium",
        "hy_v3",
        "hyperclovax",
        "internlm3",
        "iquestcoder",
        "jais2",
        "laguna",
        "llama",
        "mellum",
        "ministral",
        "mistral",
        "mixtral",
        "nemotron",
        "olmo",
        "phimoe",
        "qwen2",
        "qwen2_5_vl_text",
        "qwen2_moe",
        "qwen3",
        "qwen3_moe",
        "qwen3_vl_text",
        "seed_oss",
        "starcoder2",
    )
)
DEEPSTACK = ("qwen3_vl_text",)
# what a decoder may be given; flags and numbers besides (they say nothing of single tokens)
ARGUMENTS = ("input_ids", "inputs_embeds", "attention_mask", "position_ids", "past_key_values", "cache", "cache_position", "hidden_states")


def is_proven(decoder: Any) -> bool:
    """Whether the decoder is stock, of a type in the table, and causal. With a ``forward`` of somebody else's it is another decoder."""
    config = decoder.config
    bidirectional = bool(getattr(config, "use_bidirectional_attention", None))
    return config.model_type in PROVEN and not bidirectional and is_stock(decoder)


def is_stock(decoder: Any) -> bool:
    """Whether decoder, layers and attention run as transformers wrote them: no subclass and no patch says how."""
    parts = [decoder, *decoder.layers, *(layer.self_attn for layer in decoder.layers if hasattr(layer, "self_attn"))]
    return all(_writer_of(part).startswith("transformers.") for part in parts)


def _writer_of(module: Any) -> str:
    """The Python module whose function says how ``module`` runs; wrappers (compiled, moved between devices) bear its name."""
    return getattr(vars(module).get("forward") or type(module).forward, "__module__", None) or ""


def check_call(decoder: Any, kwargs: dict[str, Any]) -> None:
    """Raise SennaPruneError if a prefill is given something of its tokens that the hooks would not cut with them."""
    kind, mask = decoder.config.model_type, kwargs.get("attention_mask")
    if mask is not None and (not isinstance(mask, Tensor) or mask.dim() != 2):
        raise SennaPruneError(
            f"pruning needs a 2-d attention_mask (B, N), but {kind!r} was given a prepared one (4-d, or one for each type of layer); "
            "use a dynamic cache, and no mask that lets image tokens see each other"
        )
    if mask is None and _packed(decoder, kwargs):
        raise SennaPruneError(
            "these position_ids pack several prompts into one row, which cannot be pruned; give one prompt a row, padded on the left"
        )
    allowed = (*ARGUMENTS, *(("visual_pos_masks", "deepstack_visual_embeds") if kind in DEEPSTACK else ()))
    for name, value in kwargs.items():
        if name not in allowed and _holds_tensor(value):
            raise SennaPruneError(f"decoder {kind!r} was given {name}, which is not pruned with its tokens; such a model cannot be pruned")


def _packed(decoder: Any, kwargs: dict[str, Any]) -> bool:
    """Whether the model will take the row for several prompts: without cache and mask it looks for gaps in the positions."""
    cached = kwargs.get("use_cache")
    cached = decoder.config.use_cache if cached is None else cached
    if cache_in(kwargs) is not None or (cached and not (decoder.training and getattr(decoder, "gradient_checkpointing", False))):
        return False
    positions = kwargs.get("position_ids")
    if positions is not None and positions.dim() == 3:  # of three axes: those of text come first, if they come at all
        positions = positions[0] if positions.shape[0] == 4 else None
    return positions is not None and bool((positions.diff(dim=-1) != 1).any())


def _holds_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, list | tuple) and any(map(_holds_tensor, value)))
