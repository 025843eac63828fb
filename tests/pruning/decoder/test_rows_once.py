"""Text rows computed once: as the kernel's, their weights as softmax's, their means as the weights'; in bands as in one."""

from __future__ import annotations

import pytest
import torch

from senna_autoprune.pruning.decoder import attention, rows_once
from tests.models import tiny_llama


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("rows", [1, 7, 12])
@pytest.mark.parametrize("block", [1, 4, 32])
@pytest.mark.parametrize("cached", [0, rows_once.CACHED])
def test_rows_computed_once_are_the_kernels_and_the_scores(rows, dtype, tolerance, cached, block, monkeypatch):
    """Scores that are larger than the cache are not written to a mask first: they are the same to the last bit."""
    monkeypatch.setattr(rows_once, "CACHED", cached)
    monkeypatch.setattr(rows_once, "BLOCK", block)
    torch.manual_seed(0)
    model = tiny_llama()
    module = model.model.layers[0].self_attn
    query, key, value = (torch.randn(1, 4, 30, 8).to(dtype) for _ in range(3))
    kernel = attention._kernel("sdpa", module)
    stock, _ = kernel(module, query, key, value, None, scaling=0.3)
    bias = rows_once.future(rows, 50, "cpu")
    states = (query, key, value)
    output, whole = rows_once.attend(kernel, module, states, bias, rows, {"scaling": 0.3})
    first = 30 - whole.shape[2]
    before = 30 - rows
    assert first == (0 if cached and before < 2 * block else before // block * block)
    weights = whole[0, :, -rows:]
    assert output.shape == stock.shape and output.dtype == dtype
    assert (output - stock).abs().max() <= tolerance * stock.abs().max()
    scores = (query.double() @ key.double().transpose(2, 3) * 0.3)[0]
    hidden = torch.ones(30, 30, dtype=torch.bool).triu(1)
    expected = scores.masked_fill(hidden, float("-inf")).softmax(-1)[:, -rows:]
    assert (weights - expected).abs().max() <= 1e-5
    (once,), _ = rows_once.last_rows(states, first, bias, 0.3)
    monkeypatch.setattr(rows_once, "CACHED", 0 if cached else 1 << 18)  # the other way
    (again,), other = rows_once.last_rows(states, first, bias, 0.3)
    assert torch.equal(once, again) and torch.equal(whole, other)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize(
    ("asking", "starts"),
    [((7, 7, 7), ()), ((7, 7, 7), (0, 0, 0)), ((3, 12, 1), ()), ((3, 12, 1), (6, 0, 3)), ((7, 28, 9), (18, 0, 3))],
)  # of the last the upper band ends before the first prompt begins
@pytest.mark.parametrize("banded", [0, rows_once.BANDED])
def test_means_in_bands_are_the_means_of_the_weights(banded, asking, starts, dtype, tolerance, monkeypatch):
    monkeypatch.setattr(rows_once, "BANDED", banded)
    torch.manual_seed(0)
    states = tuple(torch.randn(3, 4, 30, 8).to(dtype) for _ in range(3))
    bias = rows_once.future(max(asking), 40, "cpu")
    first = 30 - max(asking) - 2  # two rows more than anybody asks for
    ranks = torch.rand(3, 30)
    ranks[:, 20], ranks[1, 4] = float("inf"), float("-inf")
    given, means = ranks.clone(), rows_once.Means(ranks, asking)
    (rows,), weights = rows_once.last_rows(states, first, bias, None, starts)
    bands, found = rows_once.last_rows(states, first, bias, None, starts, means)
    assert len(bands) == (1 if banded else 2) and found.shape == (3, 30)
    together = torch.cat(bands, dim=1)
    assert together.isfinite().all()
    for sample, count in enumerate(asking):
        own = slice(max((starts or (0, 0, 0))[sample] - first, 0), None)  # what stands at padding is any number
        assert (together[sample, own] - rows[sample, own]).abs().max() <= tolerance * rows.abs().max()
        assert torch.allclose(found[sample], given[sample] + weights[sample, :, -count:].mean((0, 1)), atol=1e-6)
    assert torch.equal(ranks, given), "the ranks are added to, not changed"
    if any(starts):
        assert not weights[0, :, max(starts[0] - first, 0) :, : starts[0]].any(), "nobody attends to padding"


def test_one_row_is_one_band_and_many_are_two(monkeypatch):
    query = torch.empty(2, 4, 1024, 2)
    rows = rows_once.BANDED // (2 * 4 * 1024)
    assert rows_once._bands(query, rows) == [(0, rows)]
    assert rows_once._bands(query, rows + 1) == [(0, 32), (32, 65)] and rows == 64
    assert rows_once._bands(torch.empty(2, 4, 1024, 2, device="meta"), 900) == [(0, 900)], "launches are dear there, and caches shared"
    monkeypatch.setattr(rows_once, "BANDED", 0)
    assert rows_once._bands(query, 1) == [(0, 1)]


def test_rows_are_computed_once_in_plain_causal_sdpa_only():
    query, key = torch.randn(1, 4, 6, 8), torch.randn(1, 4, 6, 8)
    assert rows_once.serves("sdpa", torch.nn.Identity(), query, key, None, {"scaling": 0.1, "dropout": 0.0, "sliding_window": None})
    refused = [
        ("eager", query, key, None, {}),
        ("sdpa", query, key[:, :2], None, {}),
        ("sdpa", query, key, torch.ones(1, 1, 6, 6, dtype=torch.bool), {}),
        ("sdpa", query, key, None, {"dropout": 0.1}),
        ("sdpa", query, key, None, {"is_causal": False}),
        ("sdpa", query, key, None, {"position_bias": query}),
        ("sdpa", query.clone().requires_grad_(), key, None, {}),
    ]
    assert not any(rows_once.serves(call[0], torch.nn.Identity(), *call[1:]) for call in refused)
    both_ways = torch.nn.Identity()
    both_ways.is_causal = False
    assert not rows_once.serves("sdpa", both_ways, query, key, None, {})


def test_which_rows_are_computed_explicitly():
    """Those asked for, and as many more as leave the kernel whole blocks; or nothing of two, where scores stay in the cache."""
    block = rows_once.BLOCK
    large = torch.empty(1, 12, 968, 2)
    assert rows_once.first_row(large, 135) == 832 and 968 - 135 == 833
    assert rows_once.first_row(large, 968 - block - 1) == block, "too large to stay in the cache"
    assert rows_once.first_row(large, 968 - block + 1) == 0
    edge = torch.empty(1, 4, 1024, 2)
    assert rows_once.CACHED == 4 * 64 * 1024
    assert rows_once.first_row(edge, 64) == 1024 - 64 and (1024 - 64) % block == 0
    assert rows_once.first_row(edge, 63) == 1024 - 64, "a whole block"
    asking, slots = 2 * block + 1, 4 * block  # 8,320 scores a head
    fits = rows_once.CACHED // (asking * slots)
    assert rows_once.first_row(torch.empty(1, fits, slots, 2), asking) == 0
    assert rows_once.first_row(torch.empty(1, fits + 1, slots, 2), asking) == block
    assert rows_once.first_row(torch.empty(1, 2, 5 + 2 * block - 1, 2), 5) == 0
    assert rows_once.first_row(torch.empty(1, 2, 5 + 2 * block, 2), 5) == 2 * block
    assert rows_once.first_row(torch.empty(1, 4, 1024, 2, device="meta"), 63) == 1024 - 63, "only a CPU's kernel has blocks"


def test_the_most_rows_that_are_ever_computed_have_their_future(monkeypatch):
    asking, slots = 5, 5 + 2 * rows_once.BLOCK - 1
    states = tuple(torch.randn(1, 2, slots, 8) for _ in range(3))
    bias = rows_once.future(asking, slots, "cpu")
    output, whole = rows_once.attend(None, torch.nn.Module(), states, bias, asking, {"scaling": None})  # the kernel gets no row
    assert whole.shape == (1, 2, slots, slots)
    expected = torch.nn.functional.scaled_dot_product_attention(*states, is_causal=True).transpose(1, 2)
    assert torch.allclose(output, expected, atol=1e-6)
