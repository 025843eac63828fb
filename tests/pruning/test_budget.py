"""Budgets and schedules: met, monotone, in bounds, refused with the nearest possible one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from senna_autoprune import AutoPrune, SennaPruneError
from senna_autoprune.pruning.budget import Budget, solve_flops, solve_tokens
from senna_autoprune.pruning.cost import LayerCost

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


def bisected(shape, visual, total):
    """The twin of the search for the scale: halving, one candidate at a time."""

    def counts(scale):
        return [min(max(math.floor(scale * value), 1), visual) for value in shape]

    low, high = 0.0, (visual + 1) / min(shape)
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if visual + sum(counts(middle)) <= total else (low, middle)
    return counts(low)


@settings(max_examples=50, deadline=None)
@given(st.floats(0.01, 0.5), st.floats(0, 31), st.floats(0.1, 0.9))
def test_sixteenths_find_the_scale_that_halving_finds(k, x, share):
    shape = (1 / (1 + np.exp(k * (np.arange(1, 32) - x)))).tolist()
    found, twin = solve_tokens(shape, 768, int(share * 768 * 32)), bisected(shape, 768, int(share * 768 * 32))
    gained = [one - other for one, other in zip(found, twin, strict=True)]
    assert min(gained) >= 0 and sum(gained) == int(share * 768 * 32) - 768 - sum(twin)


@pytest.mark.parametrize("total", [100, 4000])
def test_impossible_budget_names_the_nearest(total):
    with pytest.raises(SennaPruneError, match="nearest possible average is"):
        solve_tokens([1.0] * 9, 300, total)


def test_the_nearest_possible_is_possible_and_nothing_nearer():
    """Ten layers, 300 tokens: the least is 300 + 9, the most 3000."""
    with pytest.raises(SennaPruneError) as least:
        solve_tokens([1.0] * 9, 300, 100)
    assert str(least.value) == (
        "budget: an average of 10.00 visual tokens over 10 layers is impossible with 300 visual tokens (layer 0 runs on all of them); "
        "the nearest possible average is 30.90 (retention 0.1030)"
    )
    assert solve_tokens([1.0] * 9, 300, 309) == [1] * 9 and solve_tokens([1.0] * 9, 300, 3000) == [300] * 9
    for total in (308, 3001):
        with pytest.raises(SennaPruneError):
            solve_tokens([1.0] * 9, 300, total)
    with pytest.raises(SennaPruneError, match=r"average is 300\.00 \(retention 1\.0000\)"):
        solve_tokens([1.0] * 9, 300, 4000)
    with pytest.raises(SennaPruneError, match=r"the nearest possible is 0\.\d{4}$") as found:
        solve_flops([1.0] * 9, 300, 20, 0.05, COST)
    nearest = float(str(found.value).split()[-1])
    assert solve_flops([1.0] * 9, 300, 20, nearest, COST) == [1] * 9
    with pytest.raises(SennaPruneError):
        solve_flops([1.0] * 9, 300, 20, nearest - 1e-4, COST)


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


def test_what_was_given_is_said():
    for fields, got in (({}, "none"), ({"retention": 0.2, "tokens": 5}, "retention, tokens")):
        with pytest.raises(SennaPruneError, match=rf"exactly one of retention, tokens, tokens_per_view, flops; got {got}$"):
            Budget(**fields)
    with pytest.raises(SennaPruneError, match=r"drop tokens, flops$"):
        Budget(own=True, flops=0.5, tokens=3)
    with pytest.raises(SennaPruneError, match=r"flops is a share and must be <= 1, got 1\.5$"):
        Budget(flops=1.5)
    assert Budget(retention=1, own=False).average_tokens(7, None) == 7 and Budget(tokens=9).average_tokens(9, None) == 9
    with pytest.raises(ValueError, match="FLOPs budget has no token average"):
        Budget(flops=0.5).average_tokens(768, 6)


def test_budget_as_tokens():
    assert Budget(retention=0.25).average_tokens(768, 6) == 192
    assert Budget(tokens_per_view=32).average_tokens(768, 6) == 192
    with pytest.raises(SennaPruneError, match="needs views"):
        Budget(tokens_per_view=32).average_tokens(768, None)
    with pytest.raises(SennaPruneError, match="nearest possible is 768"):
        Budget(tokens=800).average_tokens(768, 6)


@pytest.mark.parametrize("bucket", [1, 8, 32, 50])
@pytest.mark.parametrize("share", [0.2, 0.25, 0.4, 0.7])
def test_in_buckets_every_layer_is_a_multiple_and_less_than_a_bucket_stays_unspent(bucket, share):
    shape, visual = [1 / (1 + math.exp(0.5 * (layer - 9))) for layer in range(1, 24)], 768
    total = int(share * visual * 24 + 0.5)
    counts = solve_tokens(shape, visual, total, bucket=bucket)
    assert all(count % bucket == 0 and count >= bucket for count in counts)
    assert counts == sorted(counts, reverse=True) and counts[0] <= visual
    assert total - bucket < visual + sum(counts) <= total
    if bucket == 1:
        assert visual + sum(counts) == total


def test_a_bucket_larger_than_the_budget_is_refused():
    with pytest.raises(SennaPruneError, match="nearest possible"):
        solve_tokens([1.0] * 23, 768, int(0.1 * 768 * 24), bucket=256)
    with pytest.raises(SennaPruneError, match="bucket must be"):
        AutoPrune(retention=0.5, bucket=0)
