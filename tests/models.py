"""Tiny random decoders and prompts with six visual blocks, shared by the tests."""

from __future__ import annotations

import json

import torch
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from tests.fixtures import shared


def tiny_llama(
    layers: int = 8, hidden: int = 32, heads: int = 4, groups: int = 4, seed: int = 0, attention: str = "sdpa"
) -> LlamaForCausalLM:
    """Random weights, scaled up so that attention is not uniform."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=groups,
        intermediate_size=2 * hidden,
        vocab_size=64,
        max_position_embeddings=2048,
        attn_implementation=attention,
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "q_proj" in name or "k_proj" in name:
                weight.mul_(12)
            elif "norm" not in name:
                weight.mul_(4)
    return model


def six_blocks(views: int = 6, size: int = 16, between: int = 3, after: int = 7, hidden: int = 32, seed: int = 1):
    """Prompt embeddings (1, N, hidden) and visual mask (1, N): text, then ``views`` blocks with text between, then the question."""
    mask = [False] * 5
    for _ in range(views):
        mask += [True] * size + [False] * between
    mask += [False] * after
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, len(mask), hidden, generator=generator), torch.tensor([mask])


def recorded_llama(name: str) -> LlamaForCausalLM:
    """The decoder m32, m12 or m12hot of the recordings."""
    folder = shared("fixtures", "autoprune-release")
    sizes = json.loads((folder / f"{name}.json").read_text())
    config = LlamaConfig(
        hidden_size=sizes["hidden_size"],
        num_hidden_layers=sizes["layers"],
        num_attention_heads=sizes["num_attention_heads"],
        num_key_value_heads=sizes["num_key_value_heads"],
        intermediate_size=sizes["intermediate_size"],
        vocab_size=sizes["vocab_size"],
        rms_norm_eps=sizes["rms_norm_eps"],
        rope_theta=sizes["rope_theta"],
        max_position_embeddings=4096,
    )
    model = LlamaForCausalLM(config).eval()
    model.load_state_dict(load_file(folder / f"{name}.safetensors"))
    return model
