"""Prompts in flight at once: each on a decoder of its own over the same weights, with the tokens it has alone."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from click.testing import CliRunner

from senna_autoprune import AutoPrune, SennaPruneError
from senna_autoprune.bench.batches import build_prompts
from senna_autoprune.bench.in_flight import fly, measure_in_flight, over_the_same_weights
from senna_autoprune.bench.shapes import BenchShape, build_decoder
from senna_autoprune.cli.bench import command
from senna_autoprune.pruning.methods.registry import build_policy
from tests.bench.test_passes import TINY

SHAPE = BenchShape(layers=3, hidden=32, heads=4, views=2, text_tokens=30)


@pytest.fixture(scope="module")
def model():
    return build_decoder(SHAPE, torch.float32, "cpu")


@pytest.fixture(scope="module")
def prompts():
    return build_prompts(SHAPE, 4, torch.float32, "cpu")


def test_copies_share_every_weight_and_no_hook(model):
    one, two, three = over_the_same_weights(model, 3)
    assert one is model
    for other in (two, three):
        assert all(a.data_ptr() == b.data_ptr() for a, b in zip(model.parameters(), other.parameters(), strict=True))
        assert all(a.data_ptr() == b.data_ptr() for a, b in zip(model.buffers(), other.buffers(), strict=True))
        assert not {id(module) for module in model.modules()} & {id(module) for module in other.modules()}
        assert other.config is not model.config  # whose kernel's name a policy changes


@pytest.mark.parametrize("policy", [None, AutoPrune(retention=0.5), build_policy("random", retention=0.5, seed=3)])
def test_each_prompt_has_the_tokens_that_it_has_alone(model, prompts, policy):
    models = over_the_same_weights(model, 4)
    for _ in range(3):
        flight = fly(models, prompts, policy, steps=3)
        alone = [fly([model], [prompt], policy, steps=3).tokens[0] for prompt in prompts]
        assert flight.tokens == alone and all(len(tokens) == 4 for tokens in alone)
        assert 0 < max(flight.latencies) <= flight.seconds
    assert len({tuple(tokens) for tokens in alone}) > 1
    assert not any(module._forward_pre_hooks for one in models for module in one.modules())  # nothing is left behind
    assert {one.config._attn_implementation for one in models} == {"sdpa"}


def test_they_do_run_at_once(model, prompts):
    """Each waits in its first layer until all are there; one after the other they would wait for ever."""
    from threading import Barrier

    everybody, models = Barrier(4), over_the_same_weights(model, 4)
    hooks = [one.model.layers[0].register_forward_pre_hook(lambda *_: [everybody.wait(30), None][1]) for one in models]
    assert len(fly(models, prompts, AutoPrune(retention=0.5), steps=0).tokens) == 4
    for hook in hooks:
        hook.remove()


def test_what_fails_in_one_thread_is_raised_and_the_others_do_not_wait(model, prompts):
    models = over_the_same_weights(model, 4)
    broken = [*prompts[:3], (prompts[3][0][..., :8], prompts[3][1])]  # too narrow
    with pytest.raises(RuntimeError, match=r"shape|size"):
        fly(models, broken, None, steps=1)
    assert len(fly(models, prompts, None, steps=1).tokens) == 4


def test_what_cannot_begin_keeps_nobody_waiting(model, prompts):
    """A policy that is refused in one thread, before the others are let go."""
    models = over_the_same_weights(model, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing was pruned in the with
        with AutoPrune(retention=0.5)(models[2]), pytest.raises(SennaPruneError, match="already inside the with"):
            fly(models, prompts, AutoPrune(retention=0.5), steps=1)


def test_every_setting_is_run_at_once_and_alone_in_turn(model, prompts):
    done: list[int] = []
    rows = measure_in_flight(model, prompts, {"half": AutoPrune(retention=0.5)}, decode_steps=1, rounds=2, warmup=1, on_round=done.append)
    assert done == [0, 1, 2] and [(row.setting, row.in_flight) for row in rows] == [("unpruned", 4), ("half", 4)]
    for row in rows:
        assert row.latency_ms.p10 <= row.latency_ms.median <= row.latency_ms.p90
        assert row.gain > 0 and row.latency_ms.p10 <= 1e3 * 4 / row.together.p10  # a prompt takes no longer than all of them


def test_the_command_prints_both_for_every_number():
    options = ["--retention", "0.5", "--no-controls", "--batch-size", "1,3,2", "--concurrency", "2", "--batch-rounds", "1"]
    result = CliRunner().invoke(command, [*TINY, *options])
    assert result.exit_code == 0, result.output
    for words in ("prefill throughput, 2 prompts", "prefill throughput, 3 prompts", "2 prompts of", "in flight at once", "2 decode steps"):
        assert words in result.output
    document = json.loads(result.output.strip().splitlines()[-1])
    assert [row["batch_size"] for row in document["batches"]] == [2, 2, 3, 3]
    assert [(row["setting"], row["in_flight"]) for row in document["in_flight"]] == [("unpruned", 2), ("autoprune@0.50", 2)]


@pytest.mark.parametrize("given", ["0", "8,", "two", "-1", "1.5", "4096", "99999999999999999999", ""])
def test_what_is_no_list_of_numbers_is_refused(given):
    for option in ("--batch-size", "--concurrency"):
        result = CliRunner().invoke(command, [*TINY, option, given])
        assert f"{option} {given!r}: write whole numbers from 1 to 1024" in str(result.exception or result.output)
