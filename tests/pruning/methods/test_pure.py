"""The pure functions behind the methods, against loops and at their edges."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from senna_autoprune import SennaPruneError
from senna_autoprune.pruning.budget import Allocation
from senna_autoprune.pruning.methods import sparsevlm
from senna_autoprune.pruning.methods.tome import match_until
from senna_autoprune.pruning.methods.visionzip import contextual_targets, contextual_tokens
from senna_autoprune.pruning.parts.diversity import cosine_similarities, farthest_points, greedy_map
from senna_autoprune.pruning.parts.revival import cluster_count
from senna_autoprune.pruning.parts.staged import entering, merging, scaled_cuts, with_cut
from senna_autoprune.pruning.parts.views import split_by_weights
from tests.pruning.methods import twins

FEW = settings(max_examples=25, deadline=None)


def random_tokens(count, width, seed):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


@FEW
@given(st.integers(1, 14), st.integers(1, 6), st.integers(0, 1000), st.data())
def test_farthest_points_equal_their_twin(count, width, seed, data):
    tokens = random_tokens(count, width, seed).double()
    asked = data.draw(st.integers(0, count))
    distances = 1 - cosine_similarities(tokens)
    chosen, twin = farthest_points(distances, asked).tolist(), twins.farthest(list(tokens), asked)
    assert len(set(chosen)) == asked
    parted = next((step for step, (one, other) in enumerate(zip(chosen, twin, strict=True)) if one != other), None)
    if parted is not None:  # only distances that are equal up to rounding may part them: the two ends of one pair, or a circle's
        gaps = distances.fill_diagonal_(torch.inf)[:, chosen[:parted] or list(range(count))].min(dim=1).values
        assert gaps[chosen[parted]].item() == pytest.approx(gaps[twin[parted]].item(), abs=1e-12)


def test_farthest_points_never_takes_a_token_twice():
    tokens = torch.ones(6, 3)  # all distances are 0
    assert sorted(farthest_points(1 - cosine_similarities(tokens), 6).tolist()) == list(range(6))


@FEW
@given(st.integers(1, 12), st.integers(2, 16), st.integers(0, 1000), st.data())
def test_greedy_map_equals_the_largest_determinants(count, width, seed, data):
    tokens = random_tokens(count, width, seed).double()
    quality = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).clamp_min(0.05)
    asked = data.draw(st.integers(0, count))
    kernel = quality[:, None] * cosine_similarities(tokens) * quality
    chosen = greedy_map(kernel, quality, asked).tolist()
    assert len(set(chosen)) == asked
    assert sorted(chosen) == sorted(twins.largest_volume(kernel, asked))


def test_greedy_map_fills_up_by_quality_when_the_kernel_is_exhausted():
    quality = torch.tensor([0.2, 0.9, 0.5, 0.7], dtype=torch.float64)
    kernel = quality[:, None] * quality  # rank 1: all tokens are alike
    assert greedy_map(kernel, quality, 4).tolist() == [1, 3, 2, 0]


@FEW
@given(st.integers(2, 15), st.integers(1, 9), st.integers(0, 1000), st.data())
def test_matching_equals_its_twin(count, steps, seed, data):
    tokens, left = random_tokens(count, 5, seed), data.draw(st.integers(1, count))
    fast = match_until(tokens, tokens, left, steps)
    slow = twins.merge_pairs([(place, token, 1) for place, token in enumerate(tokens)], left, steps)
    assert fast.places.tolist() == [place for place, _, _ in slow]
    assert fast.sizes.tolist() == [size for _, _, size in slow]
    assert sum(fast.sizes.tolist()) == count
    assert torch.allclose(fast.tokens, torch.stack([token for _, token, _ in slow]), atol=1e-5)
    weighted = (fast.tokens * fast.sizes[:, None]).sum(0) / count
    assert torch.allclose(weighted, tokens.mean(0), atol=1e-5)  # weighted means lose nothing


def test_matching_may_compare_by_other_features():
    tokens, keys = torch.arange(4.0)[:, None], torch.tensor([[1.0, 0], [0, 1], [0.1, 1], [-1, 0]])
    left = match_until(tokens, keys, 3, 1)
    assert left.places.tolist() == [0, 1, 3] and left.tokens[:, 0].tolist() == [0.0, 1.5, 3.0]


def test_contextual_tokens_are_target_plus_mean():
    tokens = torch.tensor([[1.0], [10.0], [20.0], [100.0]])
    keys = torch.tensor([[1.0, 0], [0.9, 0.1], [0.8, 0.1], [0, 1.0]])
    targets = torch.tensor([0, 3])
    assert contextual_tokens(tokens, keys, targets)[:, 0].tolist() == [16.0, 100.0]  # nobody joins the second
    assert contextual_targets(3, 10).tolist() == [0, 3, 6]
    assert contextual_targets(4, 4).tolist() == [0, 1, 2, 3]


def test_text_raters():
    visual, text = torch.tensor([[1.0, 0], [1.0, 0.2]]), torch.tensor([[2.0, 0], [0, 0.1], [-3.0, 0]])
    assert sparsevlm.text_raters(visual, text).tolist() == [True, False, False]
    assert sparsevlm.text_raters(visual, text[:1]).tolist() == [True]  # nobody is above a mean of one
    weights = torch.rand(3, 3, 5)
    chosen = torch.tensor([True, False, True])
    assert torch.allclose(sparsevlm.rated(weights, chosen), weights[:, chosen].mean((0, 1)))
    assert int(sparsevlm.rank_of(weights, chosen)) == 2


def test_rotary_term_is_a_rotated_pair_of_ones():
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    width, positions = 8, torch.tensor([0.0, 3.0, 7.0, 40.0])
    angles = positions[:, None] / 10000 ** (torch.arange(0, width, 2) / width)
    cos, sin = torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()
    ones = torch.ones(1, 1, 4, width)
    query, key = apply_rotary_pos_emb(ones, ones, cos[None], sin[None])
    expected = (query @ key.transpose(2, 3) / math.sqrt(width))[0, 0]
    term = sparsevlm.rotary_term(cos, sin, torch.tensor([2, 3]), torch.tensor([0, 1]))
    assert torch.allclose(term, expected[2:, :2], atol=1e-5)


def test_priority_heads():
    weights, all_rate = torch.rand(4, 2, 3), torch.tensor([True, True])
    weights[2] += 5
    weights[0] += 9
    assert torch.equal(sparsevlm.priority_heads(weights, all_rate, 2), weights[[0, 2]])
    weights[1, 1] += 100
    assert torch.equal(sparsevlm.priority_heads(weights, torch.tensor([True, False]), 2), weights[[0, 2]])


def test_cuts_and_allocations():
    assert scaled_cuts(32, [0.25, 0.5, 0.75]) == [8, 16, 24]
    assert scaled_cuts(8, [3 / 32, 7 / 32, 16 / 32]) == [1, 2, 4]
    assert scaled_cuts(2, [3 / 32, 7 / 32, 16 / 32]) == [1]
    assert scaled_cuts(1, [0.25, 0.5]) == []
    assert entering(6, 10, [2, 4], [5, 1]) == [10, 10, 5, 5, 1, 1]
    allocation = with_cut(with_cut(Allocation((9,) * 4), 1, 4, 2), 3, 1, 1)
    assert allocation == Allocation((9, 6, 6, 2), (9, 4, 6, 1))


@FEW
@given(st.lists(st.integers(1, 300), min_size=2, max_size=6))
def test_merging_fills_up_each_cut(counts):
    per_layer = sorted(counts, reverse=True)
    allocation = merging(per_layer)
    assert list(allocation.entering) == per_layer
    for before, now, chosen in zip(per_layer, per_layer[1:], allocation.selected[1:], strict=False):
        assert now - chosen in (0, cluster_count(before - chosen))


@FEW
@given(st.lists(st.tuples(st.integers(1, 40), st.floats(0, 5)), min_size=1, max_size=6), st.data())
def test_split_by_weights(views, data):
    sizes, weights = [size for size, _ in views], [weight for _, weight in views]
    count = data.draw(st.integers(0, sum(sizes)))
    shares = split_by_weights(count, sizes, weights)
    assert sum(shares) == count
    assert all(0 <= share <= size for share, size in zip(shares, sizes, strict=True))


def test_split_by_weights_is_proportional_until_a_view_is_full():
    assert split_by_weights(24, [16, 16, 16], [2, 1, 1]) == [12, 6, 6]
    assert split_by_weights(40, [16, 16, 16], [9, 1, 1]) == [16, 12, 12]
    assert split_by_weights(10, [16, 16], [1, 0]) == [10, 0]
    assert split_by_weights(20, [16, 16], [1, 0]) == [16, 4]
    with pytest.raises(ValueError, match="cannot take"):
        split_by_weights(50, [16], [1])


def test_lookahead_needs_separate_projections():
    from types import SimpleNamespace

    from senna_autoprune.pruning.decoder.lookahead import next_layer_attention

    context = SimpleNamespace(
        decoder=SimpleNamespace(layers=[SimpleNamespace(self_attn=object())], config=SimpleNamespace(model_type="llama")),
        boundary=0,
        layout=None,
    )
    with pytest.raises(SennaPruneError, match="q_proj"):
        next_layer_attention(context)
