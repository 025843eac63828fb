"""Slow, obvious versions of the fast paths. Each computes everything at full length and masks, where the fast path gathers."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb, repeat_kv


def mutual_information(attention: Tensor) -> float:
    """Paper eq. 3-4 with loops: attention (H, T, V) -> nats."""
    heads, rows, visual = attention.shape
    conditional = [[sum(float(attention[h, j, i]) for h in range(heads)) / heads for i in range(visual)] for j in range(rows)]
    conditional = [[value / sum(row) for value in row] for row in conditional]
    marginal = [sum(conditional[j][i] for j in range(rows)) / rows for i in range(visual)]
    total = 0.0
    for j in range(rows):
        for i in range(visual):
            joint = conditional[j][i] / rows
            if joint > 0:
                total += joint * math.log(joint / (marginal[i] * (1 / rows)))
    return total


class MaskedDecoder:
    """A Llama decoder that never drops a token: layer l runs on the whole sequence, and dropped tokens are hidden from its keys.

    What a surviving token computes is exactly what it computes in a pruned sequence with original positions.

    positions: (..., N) rotary positions of the prompt, if not 0, 1, 2, ...; later tokens count on from the last. window: sliding, or None.
    """

    def __init__(self, causal_lm: torch.nn.Module, positions: Tensor | None = None, window: int | None = None) -> None:
        self.lm, self.decoder = causal_lm, causal_lm.get_decoder()
        self.prompt, self.window = positions, window

    def positions(self, length: int) -> Tensor:
        """(..., length)"""
        if self.prompt is None:
            return torch.arange(length)
        more = torch.arange(1, length - self.prompt.shape[-1] + 1) + self.prompt[..., -1:]
        return torch.cat([self.prompt, more], dim=-1)

    def layer(self, index: int, hidden: Tensor, visible: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """hidden (N, d), visible (N,) bool keys -> hidden after the layer (N, d), attention (H, N, N)."""
        layer = self.decoder.layers[index]
        attn = layer.self_attn
        states = layer.input_layernorm(hidden)[None]
        shape = (1, hidden.shape[0], -1, attn.head_dim)
        query, key, value = (proj(states).view(shape).transpose(1, 2) for proj in (attn.q_proj, attn.k_proj, attn.v_proj))
        cos, sin = self.decoder.rotary_emb(states, positions[..., None, :])
        query, key = apply_rotary_pos_emb(query, key, cos, sin)
        key, value = repeat_kv(key, attn.num_key_value_groups), repeat_kv(value, attn.num_key_value_groups)
        scores = query @ key.transpose(2, 3) * attn.scaling  # (1, H, N, N)
        slots = torch.arange(hidden.shape[0])
        allowed = (slots[None, :] <= slots[:, None]) & (visible[None, :] | (slots[None, :] == slots[:, None]))
        if self.window is not None:
            allowed &= slots[:, None] - slots[None, :] < self.window
        weights = scores.masked_fill(~allowed, float("-inf")).softmax(-1)
        hidden = hidden + attn.o_proj((weights @ value).transpose(1, 2).reshape(1, hidden.shape[0], -1))[0]
        return hidden + layer.mlp(layer.post_attention_layernorm(hidden)), weights[0]

    @torch.no_grad()
    def logits(self, embeds: Tensor, kept_per_layer: list[Tensor], visual: Tensor) -> Tensor:
        """Logits (N, vocab) of embeds (N, d), when layer l sees only the visual tokens ``kept_per_layer[l]`` (indices into ``visual``)."""
        hidden, positions = embeds, self.positions(embeds.shape[0])
        for index, kept in enumerate(kept_per_layer):
            visible = torch.ones(embeds.shape[0], dtype=torch.bool)
            visible[visual] = False
            visible[visual[kept]] = True
            hidden, _ = self.layer(index, hidden, visible, positions)
        return self.lm.lm_head(self.decoder.norm(hidden))

    @torch.no_grad()
    def generate(self, embeds: Tensor, kept_per_layer: list[Tensor], visual: Tensor, steps: int) -> tuple[list[int], Tensor]:
        """Greedy tokens and their logits (steps, vocab), recomputing the whole sequence at each step."""
        tokens, rows = [], []
        for _ in range(steps):
            row = self.logits(embeds, kept_per_layer, visual)[-1]
            rows.append(row)
            tokens.append(int(row.argmax()))
            embeds = torch.cat([embeds, self.decoder.embed_tokens(torch.tensor(tokens[-1:]))])
        return tokens, torch.stack(rows)

    @torch.no_grad()
    def paper_schedule(self, embeds: Tensor, visual: Tensor, schedule_of: object) -> tuple[list[Tensor], float]:
        """AutoPrune's paper mode by full attention matrices: kept visual indices per layer, and the mutual information.

        schedule_of: function (information) -> list of counts entering layers 0..L-1.
        """
        hidden, positions = embeds, self.positions(embeds.shape[0])
        rows = torch.arange(int(visual[-1]) + 1, embeds.shape[0])
        kept = torch.arange(len(visual))
        per_layer, information, counts = [], 0.0, None
        for index in range(len(self.decoder.layers)):
            if index > 0:
                scores = attention[:, rows][:, :, visual[kept]].mean((0, 1)).tolist()  # noqa: F821
                ranked = sorted(range(len(scores)), key=lambda i: (-scores[i], i))[: counts[index]]
                kept = kept[torch.tensor(sorted(ranked))]
            per_layer.append(kept)
            visible = torch.ones(embeds.shape[0], dtype=torch.bool)
            visible[visual] = False
            visible[visual[kept]] = True
            hidden, attention = self.layer(index, hidden, visible, positions)
            if index == 0:
                information = mutual_information(attention[:, rows][:, :, visual])
                counts = schedule_of(information)
        return per_layer, information
