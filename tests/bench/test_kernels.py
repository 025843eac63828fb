"""The kernel that is named is the one that runs."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode

from senna_autoprune.bench.kernels import picked
from senna_autoprune.bench.shapes import BenchShape

SHAPE = BenchShape(layers=2, hidden=64, heads=4, views=1, text_tokens=9)


class Launched(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_named_is_what_runs(dtype: torch.dtype) -> None:
    found = picked(SHAPE, dtype, "cpu")
    assert found["equal"] == (found["unpruned"] == found["pruned"])
    for name, tokens in (("unpruned", SHAPE.tokens), ("pruned", 10), ("masked", SHAPE.tokens)):
        states = torch.randn(1, 4, tokens, 16, dtype=dtype)
        mask = torch.ones(1, 1, tokens, tokens, dtype=torch.bool) if name == "masked" else None
        with torch.no_grad(), Launched() as launched:
            scaled_dot_product_attention(states, states, states, mask, is_causal=mask is None)
        assert ("flash" in "".join(launched.names)) == (found[name] == "flash")


def test_where_flash_cannot_run_it_is_not_named() -> None:
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        assert picked(SHAPE, torch.float32, "cpu")["unpruned"] == "math"
