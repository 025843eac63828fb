"""What the benchmark runs: the shape of a decoder and its prompt, and stock models of that shape, filled at the speed of memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import torch
from torch import Tensor, nn

from senna_autoprune.errors import SennaPruneError

TOKENS_PER_VIEW = 128
VICUNA_MLP_RATIO = 11008 / 4096
STD = 0.02  # of the weights, as transformers draws a Llama's
BLOCK = 2**20 + 7  # a prime: rows of a matrix filled with repeated blocks are not repeated rows


@dataclass(frozen=True)
class BenchShape:
    """A decoder and a prompt. hidden, mlp: widths; text_tokens: all text of the prompt, spread as in Senna's (before, between, after)."""

    layers: int = 24
    hidden: int = 768
    heads: int = 12
    mlp: int | None = None
    vocabulary: int = 32000
    views: int = 6
    text_tokens: int = 200

    def __post_init__(self) -> None:
        if self.hidden % self.heads or (self.hidden // self.heads) % 2:
            raise SennaPruneError(f"bench: --hidden {self.hidden} must be an even multiple of --heads {self.heads}")
        if self.layers < 2 or self.views < 1 or self.text_tokens < self.views + 2:
            raise SennaPruneError("bench: needs at least 2 layers, 1 view, and 2 text tokens more than views")

    @property
    def mlp_width(self) -> int:
        """As given, or Vicuna's ratio, rounded to a multiple of 16."""
        return self.mlp or round(self.hidden * VICUNA_MLP_RATIO / 16) * 16

    @property
    def tokens(self) -> int:
        """Visual and text tokens of the prompt."""
        return self.views * TOKENS_PER_VIEW + self.text_tokens


# spec/senna.md item 1: Vicuna-7B v1.5 behind CLIP ViT-L/14-336, six views
SHAPES = {"senna-7b": BenchShape(layers=32, hidden=4096, heads=32, mlp=11008, vocabulary=32000, views=6)}


def decoder_config(shape: BenchShape) -> Any:
    """The LlamaConfig of that shape, with SDPA attention."""
    from transformers import LlamaConfig

    config = LlamaConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        intermediate_size=shape.mlp_width,
        vocab_size=shape.vocabulary,
        max_position_embeddings=4096,
    )
    config._attn_implementation = "sdpa"
    return config


def build_decoder(shape: BenchShape, dtype: torch.dtype, device: str, seed: int = 0, layers: int | None = None) -> Any:
    """A stock LlamaForCausalLM of that shape with seeded random weights, in eval mode.

    Args:
        layers: build only the first so many. They have the weights that they have in the whole decoder.
    """
    from transformers import LlamaForCausalLM

    config = decoder_config(replace(shape, layers=layers or shape.layers))
    return build_filled(lambda: LlamaForCausalLM(config), dtype, device, seed)


def build_filled(build: Callable[[], nn.Module], dtype: torch.dtype, device: str, seed: int) -> Any:
    """The module that ``build`` makes, of ``dtype`` on ``device``, its own initialisation skipped, filled with random weights.

    Every matrix is a stretch of one block of normal numbers, repeated; where it starts depends on the parameter's name alone. Drawing
    6.7e9 numbers would take minutes. Vectors are ones (weights of norms) and zeros (biases).
    """
    from transformers.initialization import no_init_weights

    previous = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device), no_init_weights():
            module = build()
    finally:
        torch.set_default_dtype(previous)
    block = (torch.randn(BLOCK, generator=torch.Generator().manual_seed(seed)) * STD).to(device=device, dtype=dtype)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() < 2:
                parameter.fill_(1.0 if name.endswith("weight") else 0.0)
                continue
            flat, stretch = parameter.view(-1), block.roll(-(crc32(name.encode()) % BLOCK))
            for start in range(0, flat.numel(), BLOCK):
                part = flat[start : start + BLOCK]
                part.copy_(stretch[: part.numel()])
    return module.eval()


def build_prompt(shape: BenchShape, dtype: torch.dtype, device: str, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Embeddings (1, N, d) and visual mask (1, N): a quarter of the text first, a little between views, at least a third after."""
    between = min(4, shape.text_tokens // (3 * shape.views))
    before = (shape.text_tokens - between * (shape.views - 1)) // 4
    after = shape.text_tokens - before - between * (shape.views - 1)
    mask = [False] * before
    for view in range(shape.views):
        mask += [True] * TOKENS_PER_VIEW + [False] * (between if view < shape.views - 1 else after)
    generator = torch.Generator().manual_seed(seed)
    embeds = torch.randn(1, len(mask), shape.hidden, generator=generator) * STD
    return embeds.to(device=device, dtype=dtype), torch.tensor([mask], device=device)
