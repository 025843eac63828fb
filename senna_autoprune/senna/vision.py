"""From pixels to visual tokens: CLIP features, projector, token adapter, and the CLS scores of the tokens.

The tower is stock; only the layers up to the chosen hidden state are run, since what lies above it is never used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import CLIPVisionModel

from senna_autoprune.pruning.multimodal.clip import cls_row


@dataclass
class SennaImageFeatures:
    """A scene's visual features, reusable for every question about it.

    Attributes:
        tokens: visual tokens (B, V, T, d), V views of T tokens.
        cls_scores: CLS scores (B, V, T) of the tokens, or None when they were not asked for.
    """

    tokens: Tensor
    cls_scores: Tensor | None = None


class TokenAdapter(nn.Module):
    """Linear-GELU-Linear-GELU-Linear over the *token axis*, shared by all channels: (B, P, d) -> (B, T, d).

    A visual token is thus a mixture of all patches of its view: it has no place in the image (spec/senna.md item 1).
    """

    def __init__(self, num_patches: int, hidden_size: int, num_tokens: int) -> None:
        super().__init__()
        self.adapter = nn.Sequential(
            nn.Linear(num_patches, hidden_size),
            nn.GELU(),
            nn.Linear(hidden_size, hidden_size),
            nn.GELU(),
            nn.Linear(hidden_size, num_tokens),
        )

    def forward(self, patches: Tensor) -> Tensor:
        return self.adapter(patches.transpose(1, 2)).transpose(1, 2)  # (B, d, P) -> (B, d, T) -> (B, T, d)

    def patch_weights(self) -> Tensor:
        """W = |W3||W2||W1| with rows normalised to sum 1, (T, P) float32: how much each patch can weigh in a token.

        Our rule for scores that live on patches (spec/methods.md "CLS scores on Senna"); the papers do not say theirs.
        """
        first, second, third = (cast(Tensor, self.adapter[i].weight).detach().float().abs() for i in (0, 2, 4))
        weights = third @ second @ first  # (T, P)
        return weights / weights.sum(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)


def build_projector(vision_size: int, hidden_size: int) -> nn.Sequential:
    """Linear-GELU(exact)-Linear from the tower's width to the decoder's, (..., vision_size) -> (..., hidden_size)."""
    return nn.Sequential(nn.Linear(vision_size, hidden_size), nn.GELU(), nn.Linear(hidden_size, hidden_size))


def tower_features(tower: CLIPVisionModel, pixel_values: Tensor, feature_layer: int) -> tuple[Tensor, Tensor]:
    """Patch features and the input of the layer that made them.

    Args:
        tower: stock CLIP vision model of L layers.
        pixel_values: (B, 3, H, W).
        feature_layer: index into the L + 1 hidden states, e.g. -2 for the output of the last layer but one.

    Returns:
        ``hidden_states[feature_layer]`` without CLS (B, P, c), and that layer's input with CLS (B, 1 + P, c).
    """
    layers = tower.encoder.layers
    depth = range(len(layers) + 1)[feature_layer]  # layers to run
    hidden = tower.pre_layrnorm(tower.embeddings(pixel_values))  # (B, 1 + P, c)
    layer_input = hidden
    for layer in layers[:depth]:
        layer_input = hidden
        hidden = layer(hidden, None)
    return hidden[:, 1:], layer_input


def cls_attention(tower: CLIPVisionModel, layer_input: Tensor, feature_layer: int) -> Tensor:
    """Attention of CLS to each patch, mean over heads, (B, P) float32: ``attentions[feature_layer]`` with one row only.

    Computed from the layer's input, so the tower need not materialise (heads, 1 + P, 1 + P) in any layer. When
    ``feature_layer`` names the embeddings (no layer run), the first layer's attention is meant.
    """
    layers = tower.encoder.layers
    depth = range(len(layers) + 1)[feature_layer]
    layer: Any = layers[max(depth - 1, 0)]
    attention = layer.self_attn
    normed = layer.layer_norm1(layer_input)  # (B, 1 + P, c)
    query = attention.q_proj(normed[:, :1])
    key = attention.k_proj(normed)
    return cls_row(query, key, attention.num_heads, attention.scale)[:, 1:]
