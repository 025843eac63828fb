"""What a decoder layer costs: multiply-accumulates as a function of the tokens that enter it.

Formula (paper section 3, spec autoprune.md "FLOPs budget"; n tokens, hidden d, MLP m, H query heads and G key-value heads of size h):

    cost(n) = n d (2 H h + 2 G h)    the four projections; 4 n d^2 when H h = G h = d
            + 2 n^2 H h              scores and values; 2 n^2 d
            + 3 n d m                a gated MLP (2 n d m without a gate)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class LayerCost:
    """Cost of one decoder layer in multiply-accumulates, as the paper and the release count them."""

    hidden: int
    query_width: int  # H h
    key_width: int  # G h
    mlp: int
    mlp_matrices: int = 3

    @classmethod
    def from_config(cls, config: Any) -> LayerCost:
        """Sizes from a transformers decoder config (Llama family: gated MLP, grouped queries, own head_dim)."""
        heads = config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        groups = getattr(config, "num_key_value_heads", None) or heads
        return cls(config.hidden_size, heads * head_dim, groups * head_dim, config.intermediate_size)

    def __call__(self, tokens: float) -> float:
        """Multiply-accumulates of one layer that ``tokens`` tokens enter."""
        projections = tokens * self.hidden * (2 * self.query_width + 2 * self.key_width)
        attention = 2 * tokens * tokens * self.query_width
        return projections + attention + self.mlp_matrices * tokens * self.hidden * self.mlp

    def causal(self, tokens: float) -> float:
        """As a causal kernel computes it: a token's scores and values only with those up to it, n (n + 1) / 2 pairs instead of n^2."""
        return self(tokens) - tokens * (tokens - 1) * self.query_width

    def prefill(self, tokens_per_layer: Iterable[float]) -> float:
        """Multiply-accumulates of a prefill, given all tokens (visual + text) entering each layer."""
        return sum(self(tokens) for tokens in tokens_per_layer)
