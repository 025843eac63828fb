"""The borders of what a method may give back: the last that passes and the first that does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from senna_autoprune import Allocation, FastV, Policy, Revived, SennaPruneError
from senna_autoprune.pruning.checks import check_allocation, check_revived, check_selection
from senna_autoprune.pruning.cost import LayerCost

COST = LayerCost(hidden=8, query_width=8, key_width=8, mlp=16)
LAYERS, VISUAL, TEXT = 4, 20, 5


class Any_(Policy):
    pass


class Leaving(Policy):
    spends = "leaving"


def context(tokens: float = 10.0, flops: float | None = None) -> Any:
    budget = SimpleNamespace(flops=flops)
    return SimpleNamespace(layers=LAYERS, visual=VISUAL, text=TEXT, budget=budget, cost=COST, average_tokens=lambda: tokens)


def check(counts: tuple[int, ...], asked: Any = None, method: type[Policy] = Any_, selected: Any = None, last: bool = True) -> None:
    check_allocation(
        method(**({} if method.own_budget else {"retention": 0.5})), asked or context(), Allocation(counts, selected), [], last
    )


def refused(message: str, *args: Any, **kwargs: Any) -> None:
    with pytest.raises(SennaPruneError, match=message):
        check(*args, **kwargs)


def test_half_a_token_a_layer_is_all_that_rounding_adds() -> None:
    """Four layers of 10 may be 42 tokens in all."""
    check((11, 11, 10, 10))
    refused(r"spends 0\.5375 of the visual tokens \(10\.8 a layer of 20\); the budget is 0\.5000 \(10\.0 a layer\)", (11, 11, 11, 10))
    check((11, 11, 11, 11), last=False)  # it will be asked again
    check((11, 11, 10, 10, 9))  # what leaves the last layer is not counted
    check((20, 20, 0, 0)), check((20, 20, 0, 0, 0))


def test_a_method_whose_budget_is_of_tokens_leaving_runs_layer_0_on_all() -> None:
    """Counted are n_1 to n_4, and layer 0's 20 beside the 42."""
    check((20, 20, 20, 12, 10), method=Leaving)
    refused("spends", (20, 20, 20, 13, 10), method=Leaving)
    check((20, 20, 12, 10), method=Leaving)  # without what leaves the last layer: n_0 to n_3
    refused("spends", (20, 20, 13, 10), method=Leaving)


@pytest.mark.parametrize("fields", [{"own_budget": True}, {"spends": "released"}])
def test_released_constants_are_their_own_budget(fields: dict[str, Any]) -> None:
    check((20,) * 4, method=type("Released", (Any_,), fields))
    check((20,) * 4, context(flops=0.1), method=type("Released", (Any_,), fields))
    refused("spends", (20,) * 4)


def test_a_share_of_flops_may_be_met_to_the_last_operation() -> None:
    counts = (20, 12, 8, 4)
    share = COST.prefill(count + TEXT for count in counts) / COST.prefill([VISUAL + TEXT] * LAYERS)
    check(counts, context(flops=share))
    check((*counts, 1), context(flops=share))
    refused("of the full prefill's FLOPs; the budget is", counts, context(flops=share * (1 - 1e-6)))


def test_counts_of_layers_and_of_selected() -> None:
    for wrong in ((9, 9, 9), (9,) * 6):
        refused(f"entering has {len(wrong)} counts for 4 layers", wrong)
    refused("selected has 5 counts for 4 layers", (9,) * 4, selected=(9,) * 5)
    refused("selected holds True", (9,) * 4, selected=(True,) * 4)
    refused("selects 10 of the 9 tokens that enter layer 3", (10, 10, 10, 9), selected=(10,) * 4)
    check((10, 10, 10, 9), selected=(10, 0, 10, 9))


def test_indices_are_looked_at_to_both_ends() -> None:
    class Own(Policy):
        def select(self, context: Any, layer: int, count: int) -> Any:
            raise NotImplementedError

    mine = Own(retention=0.5)
    for kept in ([], [0], [4], [0, 4], [0, 1, 2, 3, 4]):
        check_selection(mine, torch.tensor(kept, dtype=torch.int64), 5, len(kept), 0)
    for kept in ([-1, 2], [0, 5], [1, 1], [2, 1], [-1], [5]):
        with pytest.raises(SennaPruneError, match=r"at layer 3 that are not ascending within 0\.\.4"):
            check_selection(mine, torch.tensor(kept), 5, len(kept), 3)
    for kept in (torch.arange(3), torch.arange(2, dtype=torch.int32), [0, 1]):
        with pytest.raises(SennaPruneError, match=r"return a \(2,\) int64 tensor"):
            check_selection(mine, kept, 5, 2, 3)
    check_selection(FastV(retention=0.5), torch.tensor([3, 1]), 5, 2, 3)  # the values of our own wait for no device


def test_revived_tokens_have_a_centre_each() -> None:
    mine, tokens = Any_(retention=0.5), torch.zeros(2, 8)
    check_revived(mine, Revived(tokens, torch.tensor([0, 1])), 2, 1)
    for made, centres in ((tokens, torch.tensor([0])), (tokens[:1], torch.tensor([0, 1]))):
        with pytest.raises(SennaPruneError, match=r"Any_\.revive: made \d tokens at layer 1 where 2 were asked"):
            check_revived(mine, Revived(made, centres), 2, 1)


def test_sizes_of_a_decoder_are_those_of_its_config() -> None:
    config = SimpleNamespace(num_attention_heads=4, hidden_size=32, intermediate_size=48)
    assert LayerCost.from_config(config) == LayerCost(32, 32, 32, 48)
    grouped = SimpleNamespace(**vars(config), num_key_value_heads=2, head_dim=16)
    assert LayerCost.from_config(grouped) == LayerCost(32, 64, 32, 48)
    cost = LayerCost(32, 64, 32, 48)
    assert cost(10) - cost.causal(10) == 2 * (10 * 10 - 55) * 64
