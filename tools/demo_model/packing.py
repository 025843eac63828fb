"""Fast passes through tower and decoder, and several questions of one scene packed into one sequence.

The passes repeat the stock modules' arithmetic on their own weights (tests/tools/demo_model/test_training.py holds them equal),
without what training on a CPU does not need.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPVisionModel, LlamaModel, PreTrainedTokenizerBase

from demo_model.mini import plan_question
from senna_autoprune.senna.prompts import build_prompt, split_at_images

VIEW_TOKENS = 128


def tower_patches(tower: CLIPVisionModel, pixels: Tensor) -> Tensor:
    """(B, 3, 224, 224) -> (B, 256, c): output of the last layer but one, without CLS."""
    hidden = tower.pre_layrnorm(tower.embeddings(pixels))
    for layer in tower.encoder.layers[:-1]:
        hidden = layer(hidden, None)
    return hidden[:, 1:]


def _rms(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), weight.to(x.dtype), eps)


def _layer_pass(layer: Any, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, prefix: int, heads: int, eps: float) -> Tensor:
    attention, mlp = layer.self_attn, layer.mlp
    half = cos.shape[-1] // 2
    batch, length, width = x.shape
    h = _rms(x, layer.input_layernorm.weight, eps)
    weights = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
    q, k, v = F.linear(h, weights).view(batch, length, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    q = q * cos + torch.cat([-q[..., half:], q[..., :half]], -1) * sin
    k = k * cos + torch.cat([-k[..., half:], k[..., :half]], -1) * sin
    # the prefix sees itself only, in order; the branches see it whole
    of_prefix = F.scaled_dot_product_attention(q[:, :, :prefix], k[:, :, :prefix], v[:, :, :prefix], is_causal=True)
    of_branches = F.scaled_dot_product_attention(q[:, :, prefix:], k, v, attn_mask=mask)
    a = torch.cat([of_prefix, of_branches], 2)
    x = x + F.linear(a.transpose(1, 2).reshape(batch, length, width), attention.o_proj.weight)
    h = _rms(x, layer.post_attention_layernorm.weight, eps)
    gate, up = F.linear(h, torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])).chunk(2, -1)
    return x + F.linear(F.silu(gate) * up, mlp.down_proj.weight)


def decoder_pass(decoder: LlamaModel, x: Tensor, positions: Tensor, mask: Tensor, every: int = 1) -> Tensor:
    """Stock Llama arithmetic on a prefix and its branches.

    Args:
        x: (B, P + M, d), the prefix in the order of its positions, then the branches.
        positions: (B, P + M) or (1, P + M), rotary.
        mask: (B, 1, M, P + M), True where a branch token sees a token.
        every: 1 for all layers, n for the first of each n.
    """
    cos, sin = decoder.rotary_emb(x, positions)  # (B, N, head)
    cos, sin = cos.unsqueeze(1).to(x.dtype), sin.unsqueeze(1).to(x.dtype)
    prefix = x.shape[1] - mask.shape[2]
    for layer in decoder.layers[::every]:
        x = _layer_pass(layer, x, cos, sin, mask, prefix, decoder.config.num_attention_heads, decoder.config.rms_norm_eps)
    return _rms(x, decoder.norm.weight, decoder.config.rms_norm_eps)


@dataclass(frozen=True)
class Branch:
    """One question after the last view, and its answer: ids, and labels (-100 outside the answer). kind: its question type, or extra."""

    kind: str
    ids: list[int]
    labels: list[int]


class Packing:
    """One sequence for several questions of a scene.

    A shared prefix (text and views), then a branch a question that sees only itself and the prefix.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: str) -> None:
        self.tokenizer = tokenizer
        self.template = template
        chunks = split_at_images(build_prompt(plan_question(0, "go straight"), template))
        prefix = [[tokenizer.bos_token_id, *self._ids(chunks[0])], *[self._ids(c) for c in chunks[1:-1]]]
        self.text = torch.tensor([i for chunk in prefix for i in chunk])
        places: list[int] = []
        at, self.view_start = 0, []
        for chunk in prefix:
            places += range(at, at + len(chunk))
            at += len(chunk)
            self.view_start.append(at)
            at += VIEW_TOKENS
        self.text_positions, self.prefix_length = torch.tensor(places), at
        self._known: dict[tuple[str, str, str], Branch] = {}

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, split_special_tokens=True).input_ids

    def branch(self, kind: str, question: str, answer: str) -> Branch:
        """Ids and labels of one question after the last view."""
        key = (kind, question, answer)
        if key not in self._known:
            if len(self._known) > 50_000:
                self._known.clear()
            asked = self._ids(split_at_images(build_prompt(plan_marks(question), self.template))[-1])
            said = [*self._ids(answer), self.tokenizer.eos_token_id]
            self._known[key] = Branch(kind, asked + said, [-100] * len(asked) + said)
        return self._known[key]

    def batch(self, rows: list[list[Branch]]) -> tuple[Tensor, Tensor, Tensor]:
        """Ids, labels and owners (B, M) of each keyframe's branches, one after the other, padded at the end (owner 0)."""
        longest = max(sum(len(b.ids) for b in branches) for branches in rows)
        ids, labels, owner = (torch.full((len(rows), longest), fill) for fill in (0, -100, 0))
        for row, branches in enumerate(rows):
            at = 0
            for number, branch in enumerate(branches, 1):
                end = at + len(branch.ids)
                ids[row, at:end], labels[row, at:end], owner[row, at:end] = torch.tensor(branch.ids), torch.tensor(branch.labels), number
                at = end
        return ids, labels, owner

    def layout(self, kept: Tensor, owner: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """How a keyframe lies in one sequence that keeps (B, K) of its 768 visual tokens and has branches of ``owner`` (B, M).

        Returns:
            order (B, P): the prefix's text and then visual tokens, in the order of their positions.
            positions (B, P + M).
            mask (B, 1, M, P + M): a branch token sees the prefix, and what stands before it in its own branch.
        """
        starts = torch.tensor(self.view_start)
        visual = starts[kept // VIEW_TOKENS] + kept % VIEW_TOKENS  # (B, K)
        prefix, order = torch.cat([self.text_positions.expand(len(kept), -1), visual], 1).sort(1)
        place = torch.arange(owner.shape[1]).expand_as(owner)
        new = torch.ones_like(owner, dtype=torch.bool)
        new[:, 1:] = owner[:, 1:] != owner[:, :-1]
        first = torch.where(new, place, 0).cummax(1).values  # where each token's branch begins
        positions = torch.cat([prefix, self.prefix_length + place - first], 1)
        same = (owner[:, :, None] == owner[:, None, :]) & (place[:, :, None] >= place[:, None, :])
        mask = torch.cat([torch.ones(*owner.shape, prefix.shape[1], dtype=torch.bool), same], 2)
        return order, positions, mask[:, None]


def plan_marks(question: str) -> str:
    """A question with its six image marks, unless it has them."""
    from senna_autoprune.nuscenes.strings import strings

    return question if "<image>" in question else strings()["image_prompt"] + question
