"""The pure core: indicators, curves, budgets, selection, revival. Properties, and equality with slow twins."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from senna_autoprune import SennaPruneError
from senna_autoprune.pruning.budget import Budget, solve_flops, solve_tokens
from senna_autoprune.pruning.context import runs_of
from senna_autoprune.pruning.cost import LayerCost
from senna_autoprune.pruning.parts import indicators, revival, selection
from senna_autoprune.pruning.parts.curves import CURVES, CurveParameters, retention_curve
from tests import twins

# --- indicators -----------------------------------------------------------------------------------------------------------------------


def attention(heads, rows, visual, sharpness, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = sharpness * torch.randn(heads, rows, visual + 5, generator=generator)
    return logits.softmax(-1)[..., :visual]  # some mass goes elsewhere: rows do not sum to one


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 12), st.floats(0, 20), st.integers(0, 10**6))
def test_mutual_information_lies_between_its_bounds_and_equals_its_twin(heads, rows, visual, sharpness, seed):
    weights = attention(heads, rows, visual, sharpness, seed)
    value = indicators.mutual_information(weights).item()
    assert 0 <= value <= math.log(min(rows, visual)) + 1e-5
    assert value == pytest.approx(twins.mutual_information(weights), abs=1e-4)


def test_mutual_information_of_known_tables():
    assert indicators.mutual_information(torch.eye(4)[None]).item() == pytest.approx(math.log(4))  # each row its own token
    assert indicators.mutual_information(torch.ones(2, 3, 5)).item() == pytest.approx(0, abs=1e-7)  # rows alike
    with pytest.raises(ValueError, match="H, T, V"):
        indicators.mutual_information(torch.ones(3, 5))


def test_attention_and_cosine_indicators():
    weights = torch.full((2, 3, 4), 0.1)
    assert indicators.average_attention(weights).item() == pytest.approx(0.4)
    same = torch.randn(5, 8)
    assert indicators.cosine_similarity(same, same).item() == pytest.approx(1)


# --- curves ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("k", [0.0, 1e-12, 1e-3, 0.2, 0.4, 2.0, 30.0])
@pytest.mark.parametrize("x", [-4.0, 0.0, 14.9, 40.0])
def test_closed_form_area_is_the_integral(name, k, x):
    shape, area = CURVES[name]
    numeric = quad(lambda depth: float(shape(np.array(depth), k, x, 32)), 0, 32, points=sorted({min(max(x, 0.0), 32.0), 0.1}), limit=400)[0]
    assert area(k, x, 32) == pytest.approx(numeric, abs=1e-6)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(sorted(CURVES)), st.floats(0, 5), st.floats(-10, 50), st.integers(2, 40), st.floats(1, 20000))
def test_renormalised_curve_has_the_budget_as_area_and_never_rises(name, k, x, layers, area):
    if CURVES[name][1](k, x, layers) < 1e-6:
        return
    curve = retention_curve(name, k, x, layers, area)
    values = curve(np.linspace(0, layers, 20001))
    assert (np.diff(values) <= 1e-9 * values.max()).all()
    assert float(np.sum((values[1:] + values[:-1]) / 2) * layers / 20000) == pytest.approx(area, rel=1e-2)


def test_low_information_defers_the_drop_and_steepens_it():
    eq8 = CurveParameters.for_depth(32)
    assert (eq8.k0, eq8.gamma, eq8.x0, eq8.beta) == (0.4, 0.2, 14.9, 0.2)
    assert eq8.inflexion(0.1) > eq8.inflexion(1.5)
    assert eq8.steepness(0.1) > eq8.steepness(1.5) > 0 == eq8.steepness(7)
    assert eq8.inflexion(0.7) == pytest.approx(14.9 + eq8.steepness(0.7))  # the release's x0 + k
    shallow = CurveParameters.for_depth(8)
    assert (shallow.k0, shallow.gamma, shallow.x0) == pytest.approx((1.6, 0.8, 3.725))


# --- budgets --------------------------------------------------------------------------------------------------------------------------

shapes = st.lists(st.floats(1e-9, 1.0), min_size=1, max_size=40)


def slow_schedule(shape, visual, total, min_keep):
    """Spend one token at a time where s f(l) is owed most; only bounds are compared, so any fair schedule will do."""
    counts = [min_keep] * len(shape)
    left = total - visual - sum(counts)
    while left > 0:
        best = max((f / (n + 1), -layer) for layer, (f, n) in enumerate(zip(shape, counts, strict=True)) if n < visual)
        counts[-best[1]] += 1
        left -= 1
    return counts


@settings(max_examples=200, deadline=None)
@given(shapes, st.integers(1, 800), st.floats(0, 1), st.integers(1, 3))
def test_schedule_meets_the_budget_falls_and_stays_in_bounds(shape, visual, share, min_keep):
    min_keep = min(min_keep, visual)
    low, high = visual + min_keep * len(shape), visual * (len(shape) + 1)
    total = round(low + share * (high - low))
    counts = solve_tokens(shape, visual, total, min_keep=min_keep)
    assert visual + sum(counts) == total  # better than the half token a layer that is asked for
    assert all(min_keep <= later <= earlier <= visual for earlier, later in zip([visual, *counts], counts, strict=False))


@settings(max_examples=50, deadline=None)
@given(st.floats(0.05, 0.6), st.floats(0, 10), st.integers(2, 30), st.integers(2, 60))
def test_schedule_is_within_a_token_of_a_greedy_twin(k, x, layers, visual):
    shape = [1 / (1 + math.exp(k * (layer - x))) for layer in range(1, layers + 1)]
    total = visual + layers + (visual - 1) * layers // 3
    counts = solve_tokens(shape, visual, total)
    assert max(abs(a - b) for a, b in zip(counts, slow_schedule(shape, visual, total, 1), strict=True)) <= 1


@pytest.mark.parametrize("total", [100, 4000])
def test_impossible_budget_names_the_nearest(total):
    with pytest.raises(SennaPruneError, match="nearest possible average is"):
        solve_tokens([1.0] * 9, 300, total)


COST = LayerCost(hidden=64, query_width=64, key_width=64, mlp=160)


@settings(max_examples=60, deadline=None)
@given(st.floats(0.3, 1.0), st.floats(0, 1.2), st.integers(20, 300), st.integers(1, 80), st.integers(4, 20))
def test_flops_budget_is_met_from_below(share, k, visual, text, layers):
    shape = [1 / (1 + math.exp(k * (layer - layers / 2))) for layer in range(1, layers)]
    full = layers * COST(visual + text)
    if share * full < COST(visual + text) + (layers - 1) * COST(1 + text):
        with pytest.raises(SennaPruneError, match="nearest possible"):
            solve_flops(shape, visual, text, share, COST)
        return
    counts = solve_flops(shape, visual, text, share, COST)
    spent = COST.prefill(count + text for count in [visual, *counts])
    assert spent <= share * full * (1 + 1e-9)
    assert all(later <= earlier for earlier, later in zip([visual, *counts], counts, strict=False))
    one_more = COST(visual + text) - COST(visual + text - 1)  # no token more would have fitted anywhere
    assert counts == [visual] * (layers - 1) or spent > share * full - one_more


def test_cost_is_the_papers_formula():
    n, d, m = 100, 64, 160
    assert COST(n) == 4 * n * d * d + 2 * n * n * d + 3 * n * d * m
    grouped = LayerCost(hidden=64, query_width=64, key_width=16, mlp=160)
    assert COST(n) - grouped(n) == 2 * n * d * (64 - 16)


@pytest.mark.parametrize(
    "fields",
    [{}, {"retention": 0.2, "tokens": 5}, {"retention": 0}, {"retention": 1.01}, {"tokens": float("nan")}, {"flops": -1}, {"tokens": True}],
)
def test_bad_budgets_are_refused(fields):
    with pytest.raises(SennaPruneError, match="budget"):
        Budget(**fields)


def test_budget_as_tokens():
    assert Budget(retention=0.25).average_tokens(768, 6) == 192
    assert Budget(tokens_per_view=32).average_tokens(768, 6) == 192
    with pytest.raises(SennaPruneError, match="needs views"):
        Budget(tokens_per_view=32).average_tokens(768, None)
    with pytest.raises(SennaPruneError, match="nearest possible is 768"):
        Budget(tokens=800).average_tokens(768, 6)


# --- selection ------------------------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.data())
def test_top_tokens_equal_a_python_sort_ties_to_the_lower_index(scores, data):
    count = data.draw(st.integers(0, len(scores)))
    twin = sorted(sorted(range(len(scores)), key=lambda index: (-scores[index], index))[:count])
    assert selection.top_tokens(torch.tensor(scores, dtype=torch.float), count).tolist() == twin


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=8), st.data())
def test_split_evenly(sizes, data):
    count = data.draw(st.integers(0, sum(sizes)))
    quota = selection.split_evenly(count, sizes)
    assert sum(quota) == count
    assert all(0 <= share <= size for share, size in zip(quota, sizes, strict=True))
    unfilled = [share for share, size in zip(quota, sizes, strict=True) if share < size]
    assert not unfilled or max(quota) - min(unfilled) <= 1
    with pytest.raises(ValueError, match="cannot take"):
        selection.split_evenly(sum(sizes) + 1, sizes)


def test_every_nth_is_evenly_spread():
    assert selection.every_nth(4, 16) == [2, 6, 10, 14]
    for size in range(1, 40):
        for count in range(1, size + 1):
            picked = selection.every_nth(count, size)
            assert sorted(set(picked)) == picked and len(picked) == count and picked[-1] < size


def test_runs_of_visual_slots():
    assert runs_of(torch.tensor([3, 4, 5, 9, 10, 20])) == (3, 2, 1)
    assert runs_of(torch.tensor([], dtype=torch.long)) == ()


# --- revival --------------------------------------------------------------------------------------------------------------------------


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 800), st.data())
def test_split_for_merge_meets_the_target(current, data):
    target = data.draw(st.integers(1, current))
    kept, merged = revival.split_for_merge(current, target)
    assert kept + merged == target
    assert merged in (0, revival.cluster_count(current - kept))


def slow_density_peaks(tokens, clusters, noise):
    count, width = tokens.shape
    distance = [[math.dist(a.tolist(), b.tolist()) / width**0.5 for b in tokens] for a in tokens]
    density = [
        math.exp(-sum(d * d for d in sorted(distance[i])[:clusters]) / clusters) + float(noise[i]) * 1e-6 for i in range(count)
    ]
    furthest = max(max(row) for row in distance)
    parent = [min([distance[i][j] for j in range(count) if density[j] > density[i]], default=furthest) for i in range(count)]
    rank = sorted((parent[i] * density[i] for i in range(count)), reverse=True)
    assume(all(a - b > 1e-5 for a, b in pairwise(rank)) and all(b - a > 3e-7 for a, b in pairwise(sorted(density))))  # float32's limits
    centres = sorted(range(count), key=lambda i: -parent[i] * density[i])[:clusters]
    members = {centre: [centre] for centre in centres}
    for i in range(count):
        if i not in members:
            members[min(centres, key=lambda centre: distance[centre][i])].append(i)
    return torch.stack([tokens[members[centre]].sum(0) / (len(members[centre]) + 1e-6) for centre in centres])


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 25), st.integers(1, 6), st.integers(0, 10**6))
def test_density_peaks_equal_their_twin(count, clusters, seed):
    generator = torch.Generator().manual_seed(seed)
    tokens, noise = torch.randn(count, 6, generator=generator), torch.rand(count, generator=generator)
    clusters = min(clusters, count)
    merged = revival.density_peaks(tokens, clusters, noise).merged
    assert torch.allclose(merged, slow_density_peaks(tokens, clusters, noise), atol=1e-5)
