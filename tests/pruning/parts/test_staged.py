"""Budgets met in stages: the nearest schedule, the last budget that passes, and what is said of the first that does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from senna_autoprune import SennaPruneError
from senna_autoprune.pruning.cost import LayerCost
from senna_autoprune.pruning.parts.staged import entering, scaled_cuts, solve_stages

COST = LayerCost(hidden=8, query_width=8, key_width=8, mlp=16)
LAYERS, VISUAL, TEXT = 8, 40, 10
FULL = COST.prefill([VISUAL + TEXT] * LAYERS)


def solved(tokens: float | None = None, flops: float | None = None, cut: int = 2) -> list[int]:
    budget = SimpleNamespace(flops=flops)
    context: Any = SimpleNamespace(layers=LAYERS, visual=VISUAL, text=TEXT, budget=budget, cost=COST, average_tokens=lambda: tokens)
    cuts = [cut] if cut < LAYERS else []
    return solve_stages(context, cuts, lambda share: [share] * len(cuts))


def share_of(counts: list[int]) -> float:
    return COST.prefill(count + TEXT for count in counts) / FULL


@pytest.mark.parametrize(("tokens", "left"), [(14.0, 5), (14.3, 6), (14.12, 5), (14.13, 6), (40.0, 40), (10.75, 1)])
def test_the_nearest_number_of_tokens(tokens: float, left: int) -> None:
    """Two layers of 40, then six of n: (80 + 6 n) / 8 a layer, as near as whole tokens come."""
    assert solved(tokens) == [40, 40, *[left] * 6]


def test_the_least_may_be_half_a_token_a_layer_too_much() -> None:
    """80 + 6 are 86 token-layers: 82 is asked for in vain by half a token a layer, 81.9 by more."""
    assert solved(82 / 8) == [40, 40, *[1] * 6]
    with pytest.raises(SennaPruneError) as refused:
        solved(81.9 / 8)
    assert str(refused.value) == (
        "budget: retention 0.2559 is impossible when the first cut is at layer 2 of 8; the nearest possible is 0.2688"
    )
    with pytest.raises(SennaPruneError, match=r"first cut is at layer 8 of 8; the nearest possible is 1\.0000$"):
        solved(20.0, cut=8)


def test_a_share_of_flops_is_never_exceeded() -> None:
    least = share_of([40, 40, *[1] * 6])
    assert solved(flops=least) == [40, 40, *[1] * 6] and solved(flops=1.0) == [40] * 8
    for left in (1, 7, 23):
        here, next_one = share_of([40, 40, *[left] * 6]), share_of([40, 40, *[left + 1] * 6])
        assert solved(flops=here) == solved(flops=here + 0.9 * (next_one - here)) == [40, 40, *[left] * 6]
    with pytest.raises(
        SennaPruneError, match=rf"^budget: flops {least - 1e-5:.4f} is impossible .* the nearest possible is 0\.\d{{4}}$"
    ) as refused:
        solved(flops=least - 1e-5)
    nearest = float(str(refused.value).split()[-1])
    assert solved(flops=nearest) == [40, 40, *[1] * 6] and nearest - least < 1e-4


def test_depths_become_distinct_layers() -> None:
    assert scaled_cuts(32, (0.25, 0.5, 0.75)) == [8, 16, 24] and scaled_cuts(2, (0.25, 0.5, 0.75)) == [1]
    assert scaled_cuts(8, (0.01, 0.99)) == [1] and scaled_cuts(1, (0.5,)) == []
    assert entering(5, 9, [1, 3], [4, 2]) == [9, 4, 4, 2, 2]
    with pytest.raises(ValueError):
        entering(5, 9, [1, 3], [4])
