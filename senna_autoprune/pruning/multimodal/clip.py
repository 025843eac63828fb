"""What the [CLS] of a CLIP tower attends to, from queries and keys that the tower computes anyway."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Self

from torch import Tensor, nn


def cls_row(query: Tensor, key: Tensor, heads: int, scale: float) -> Tensor:
    """Attention of CLS to itself and every patch, mean over heads.

    Args:
        query: (T, 1, c) of CLS. key: (T, 1 + P, c). Both before they are split into heads.

    Returns:
        (T, 1 + P) float32; each row sums to 1.
    """
    query = query.unflatten(-1, (heads, -1)).transpose(1, 2)  # (T, H, 1, c / H)
    key = key.unflatten(-1, (heads, -1)).transpose(1, 2)  # (T, H, 1 + P, c / H)
    logits = (query @ key.transpose(-1, -2)).float() * scale  # (T, H, 1, 1 + P)
    return logits.softmax(-1)[:, :, 0].mean(1)


class ClipWatch:
    """A context manager that sees the queries and keys of one layer: the one whose output is the model's patch features.

    Args:
        tower: a CLIP vision model. feature_layer: index into its L + 1 hidden states, or several; of several the deepest counts.
    """

    def __init__(self, tower: Any, feature_layer: int | list[int]) -> None:
        layers = tower.encoder.layers
        states = range(len(layers) + 1)
        chosen = feature_layer if isinstance(feature_layer, int) else max(feature_layer, key=lambda one: states[one])
        self.attention = layers[max(states[chosen] - 1, 0)].self_attn
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        self.stack.callback(self.attention.q_proj.register_forward_hook(self._see_query).remove)
        self.stack.callback(self.attention.k_proj.register_forward_hook(self._see_key).remove)
        return self

    def __exit__(self, *exception: Any) -> None:
        self.stack.close()

    def rows_and_keys(self) -> tuple[Tensor, Tensor]:
        """CLS rows (T, 1 + P) and keys (T, 1 + P, c / H), mean over heads (as in VisionZip's release), of the tower's forward."""
        heads = self.attention.num_heads
        return cls_row(self.query, self.key, heads, self.attention.scale), self.key.unflatten(-1, (heads, -1)).mean(2)

    def _see_query(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        self.query = output.detach()[:, :1]  # of CLS

    def _see_key(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        self.key = output.detach()
