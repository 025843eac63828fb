"""Which attention kernel runs: the name of what SDPA picks for a shape on a device. Speed-ups are compared on equal kernels only."""

from __future__ import annotations

from typing import Any

import torch

from senna_autoprune.bench.shapes import BenchShape


def picked(shape: BenchShape, dtype: torch.dtype, device: str) -> dict[str, Any]:
    """What SDPA picks for a causal prefill of the whole prompt, of a pruned one (other lengths, the same call), and with a mask, as in a
    padded batch on a GPU: "flash", "efficient", "cudnn" or "math". ``equal``: whether the first two are the same.
    """
    whole, pruned = (_pick(shape, dtype, device, tokens, masked=False) for tokens in (shape.tokens, shape.text_tokens + 1))
    return {
        "implementation": "sdpa",
        "unpruned": whole,
        "pruned": pruned,
        "masked": _pick(shape, dtype, device, shape.tokens, masked=True),
        "equal": whole == pruned,
    }


def _pick(shape: BenchShape, dtype: torch.dtype, device: str, tokens: int, masked: bool) -> str:
    from torch.nn.attention import SDPBackend

    states = torch.empty(1, shape.heads, tokens, shape.hidden // shape.heads, dtype=dtype, device=device)
    mask = torch.ones(1, 1, tokens, tokens, dtype=torch.bool, device=device) if masked else None
    choice: Any = torch._fused_sdp_choice  # what scaled_dot_product_attention itself asks
    return SDPBackend(choice(states, states, states, mask, 0.0, not masked)).name.lower().removesuffix("_attention")
