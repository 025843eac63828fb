"""Tiny random models of every text model type that transformers can build."""

from __future__ import annotations

import inspect

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

TYPES = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
MOST = 3_000_000  # parameters; more is not tiny: the configuration's sizes have other names, or it is of several models
WIDTH, LAYERS, WORDS = 32, 4, 96
SIZES = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "embedding_size"), WIDTH),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "num_layers"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_experts_per_tok", "moe_topk", "max_window_layers", "eos_token_id"), 2),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), WORDS),
    **dict.fromkeys(("intermediate_size", "ffn_dim"), 2 * WIDTH),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("head_dim", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "hidden_size_per_layer_input"), 8),
    **dict.fromkeys(("n_shared_experts", "n_group", "topk_group", "first_k_dense_replace", "bos_token_id"), 1),
    "max_position_embeddings": 512,
    "sliding_window": 12,  # far less than the prompt
    "use_sliding_window": True,
    "pad_token_id": 0,
    "attn_logit_softcapping": 2.0,
}
ALTERNATING = ["full_attention", "sliding_attention"] * (LAYERS // 2)
SPECIAL = {
    "ministral3": {
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 1e6,
            "factor": 16.0,
            "original_max_position_embeddings": 16,
            "llama_4_scaling_beta": 0.5,
        }
    }
}


def config_of(kind: str):
    """The type's configuration with small sizes, and both kinds of layers where there are two."""
    cls = CONFIG_MAPPING[kind]
    known = {*inspect.signature(cls.__init__).parameters, *getattr(cls, "__annotations__", {})}
    options = {**{name: value for name, value in SIZES.items() if name in known}, **SPECIAL.get(kind, {})}
    config = cls(**options)
    types = getattr(config, "layer_types", None)
    mixed = types and set(types) <= {"full_attention", "sliding_attention"}
    return cls(**options, layer_types=ALTERNATING) if mixed else config


def tiny_model(kind: str):
    """With sharp attention. Whatever the library raises for a configuration of these sizes."""
    config = config_of(kind)
    with torch.device("meta"):
        size = sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())
    if size > MOST:
        raise ValueError(f"{size} parameters are not tiny")
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "sinks" in name:
                weight.normal_(0, 2)
            elif "norm" not in name and weight.dim() > 1:
                weight.mul_(12 if any(part in name for part in ("q_proj", "k_proj", "qkv")) else 4)
    return model
