"""Fast passes through tower and decoder, and several questions of one scene packed into one sequence.

The passes repeat the stock modules' arithmetic on their own weights (tests/tools/demo_model/test_training.py holds them equal),
without what training on a CPU does not need.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPVisionModel, LlamaModel, PreTrainedTokenizerBase

from demo_model.mini import plan_question
from senna_autoprune.senna.prompts import build_prompt, split_at_images

VIEW_TOKENS = 128
EXTRAS = 3  # extra questions a keyframe and step


def tower_patches(tower: CLIPVisionModel, pixels: Tensor) -> Tensor:
    """(B, 3, 224, 224) -> (B, 256, c): output of the last layer but one, without CLS."""
    hidden = tower.pre_layrnorm(tower.embeddings(pixels))
    for layer in tower.encoder.layers[:-1]:
        hidden = layer(hidden, None)
    return hidden[:, 1:]


def _rms(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), weight.to(x.dtype), eps)


def _layer_pass(layer: Any, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, heads: int, eps: float) -> Tensor:
    attention, mlp = layer.self_attn, layer.mlp
    half = cos.shape[-1] // 2
    batch, length, width = x.shape
    h = _rms(x, layer.input_layernorm.weight, eps)
    weights = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
    q, k, v = F.linear(h, weights).view(batch, length, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    q = q * cos + torch.cat([-q[..., half:], q[..., :half]], -1) * sin
    k = k * cos + torch.cat([-k[..., half:], k[..., :half]], -1) * sin
    a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    x = x + F.linear(a.transpose(1, 2).reshape(batch, length, width), attention.o_proj.weight)
    h = _rms(x, layer.post_attention_layernorm.weight, eps)
    gate, up = F.linear(h, torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])).chunk(2, -1)
    return x + F.linear(F.silu(gate) * up, mlp.down_proj.weight)


def decoder_pass(decoder: LlamaModel, x: Tensor, positions: Tensor, mask: Tensor, layer_pass=_layer_pass) -> Tensor:  # type: ignore[no-untyped-def]
    """Stock Llama arithmetic on (B, N, d) with rotary ``positions`` (B, N) or (1, N) and an additive ``mask`` (B or 1, 1, N, N)."""
    cos, sin = decoder.rotary_emb(x, positions)  # (B, N, head)
    cos, sin = cos.unsqueeze(1).to(x.dtype), sin.unsqueeze(1).to(x.dtype)
    for layer in decoder.layers:
        x = layer_pass(layer, x, cos, sin, mask, decoder.config.num_attention_heads, decoder.config.rms_norm_eps)
    return _rms(x, decoder.norm.weight, decoder.config.rms_norm_eps)


class Packing:
    """One sequence for several questions of a scene.

    A shared prefix (text and views), then a branch a question that sees only itself and the prefix.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str, plan_length: int = 73, extra_length: int = 15) -> None:
        self.tokenizer = tokenizer
        self.template = template
        chunks = split_at_images(build_prompt(plan_question(0, "go straight"), template))
        self.prefix = [[tokenizer.bos_token_id, *self._ids(chunks[0])], *[self._ids(c) for c in chunks[1:-1]]]
        self.branches = [plan_length] + [extra_length] * EXTRAS
        self.text = torch.tensor([i for chunk in self.prefix for i in chunk])
        places: list[int] = []
        at, self.view_start = 0, []
        for chunk in self.prefix:
            places += range(at, at + len(chunk))
            at += len(chunk)
            self.view_start.append(at)
            at += VIEW_TOKENS
        self.text_positions, self.prefix_length = torch.tensor(places), at

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids

    def branch(self, question: str, answer: str, length: int) -> tuple[list[int], list[int]]:
        """Ids and labels of one question after the last view, padded to ``length`` (labels -100 outside the answer)."""
        asked = self._ids(split_at_images(build_prompt(plan_marks(question), self.template))[-1])
        said = [*self._ids(answer), self.tokenizer.eos_token_id]
        pad = length - len(asked) - len(said)
        if pad < 0:
            raise ValueError(f"a branch of {length} is too short for {len(asked) + len(said)} tokens: {question}")
        return asked + said + [0] * pad, [-100] * len(asked) + said + [-100] * pad

    def layout(self, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Positions (B, N) and mask (1, 1, N, N) when each keyframe keeps (B, K) of its 768 visual tokens, in this order:
        prefix text and visual tokens sorted by position, then the branches."""
        starts = torch.tensor(self.view_start)
        visual = starts[kept // VIEW_TOKENS] + kept % VIEW_TOKENS  # (B, K)
        text = self.text_positions.expand(len(kept), -1)
        prefix = torch.cat([text, visual], 1)
        branches = torch.cat([torch.arange(n) for n in self.branches]) + self.prefix_length
        positions = torch.cat([prefix, branches.expand(len(kept), -1)], 1)
        owner = torch.cat([torch.zeros(prefix.shape[1], dtype=torch.long)] + [torch.full((n,), i + 1) for i, n in enumerate(self.branches)])
        same = (owner[:, None] == owner[None]) | (owner[None] == 0)
        # text and visual tokens are stored apart, so the causal order is that of the positions
        causal = positions[:, :, None] >= positions[:, None, :]
        return positions, (causal & same)[:, None]


def plan_marks(question: str) -> str:
    """A question with its six image marks, unless it has them."""
    from senna_autoprune.nuscenes.strings import strings

    return question if "<image>" in question else strings()["image_prompt"] + question
