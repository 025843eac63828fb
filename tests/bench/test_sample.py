"""A decoder measured on two of its layers, against the whole one. The clock counts multiply-accumulates, so that equal means equal."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner
from torch.utils.flop_counter import FlopCounterMode

from senna_autoprune.bench import passes as bench
from senna_autoprune.bench import sample as bench_sample
from senna_autoprune.bench.hollow import Recording, bare_pass, hollow_decoder
from senna_autoprune.bench.passes import Pass, Passes, lengths_alone
from senna_autoprune.bench.sample import LayerTimes, SampleCheck, SampledPasses, spread_lengths
from senna_autoprune.bench.shapes import BenchShape, build_decoder, build_prompt
from senna_autoprune.cli.bench import command
from senna_autoprune.pruning.decoder import timing
from senna_autoprune.pruning.methods.registry import build_policy
from tests.bench.test_passes import SHAPE, TINY

DEEP = BenchShape(layers=12, hidden=32, heads=4, vocabulary=64, views=2, text_tokens=20)


@pytest.fixture(scope="module")
def prompt():
    return build_prompt(DEEP, torch.float32, "cpu")


@pytest.fixture(scope="module")
def whole():
    return build_decoder(DEEP, torch.float32, "cpu")


@pytest.fixture(scope="module")
def sample():
    return build_decoder(DEEP, torch.float32, "cpu", layers=2)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch):
    """Seconds are products of floating-point numbers, for the pruner's timer too."""
    with FlopCounterMode(display=False) as counter:

        def clock() -> float:
            return float(counter.get_total_flops())

        monkeypatch.setattr(timing, "perf_counter", clock)
        monkeypatch.setattr(bench, "perf_counter", clock)
        yield clock


@pytest.mark.parametrize("method", [None, "autoprune", "pyramiddrop", "fastv", "random"])
def test_a_scaled_pass_is_the_whole_one_product_for_product(whole, sample, prompt, counted, monkeypatch, method):
    monkeypatch.setattr(bench_sample, "POINTS", 100)
    embeds, mask = prompt
    policy = build_policy(method, retention=0.5) if method else None
    expected = Passes(whole, embeds, mask, 2, counted).once(policy)
    scaled = SampledPasses(sample, hollow_decoder(sample, DEEP.layers, embeds), embeds, mask, 2, counted)
    scaled.plan([policy] if policy else [])
    scaled.new_round()
    found = scaled.once(policy)
    assert found.prefill_ms == pytest.approx(expected.prefill_ms, rel=1e-9)
    assert found.decode_ms == pytest.approx(expected.decode_ms, rel=1e-9)
    assert found.kv_bytes == expected.kv_bytes
    assert found.pruner_ms == (pytest.approx(expected.pruner_ms, rel=1e-9) if method else None)
    if policy:
        assert found.trace.tokens_per_layer == expected.trace.tokens_per_layer
        assert (found.trace.flops_full, found.trace.flops_pruned) == (expected.trace.flops_full, expected.trace.flops_pruned)
    if method == "autoprune":
        assert found.trace.mutual_information == pytest.approx(expected.trace.mutual_information, rel=1e-6)
        assert len(set(found.trace.tokens_per_layer)) > 4  # layers keep different counts
        assert found.pruner_ms > 0


def test_where_the_pruner_cannot_be_timed_in_place_its_prefill_is_compared_with_bare_layers(sample, prompt, counted):
    embeds, mask = prompt
    scaled = SampledPasses(sample, hollow_decoder(sample, DEEP.layers, embeds), embeds, mask, 1, counted)
    scaled.new_round()
    for policy in (build_policy("autoprune", retention=0.5), build_policy("autoprune", retention=1.0)):
        hollow = scaled.run(scaled.hollow, policy, 0)
        in_place = scaled._pruner(hollow)
        assert in_place > 0 and scaled._pruner(replace(hollow, pruner_ms=None)) == pytest.approx(in_place, rel=1e-9)
    other = Passes(sample, embeds, mask, 1, lambda: 0.0).run(scaled.hollow, policy, 0)
    assert other.trace is not None and other.pruner_ms is None  # by another clock than the pruner's timer
    alone = lengths_alone(build_policy("autoprune", retention=0.5), scaled.deep, embeds, mask)
    assert scaled.once(alone).pruner_ms == 0  # its layers hold all the products


def test_few_points_are_joined_by_straight_lines(sample, prompt, monkeypatch):
    calls: list[tuple[int, bool]] = []

    def linear(model, embeds, lengths, steps=0, head=True, clock=None):
        calls.append((embeds.shape[1], head))
        return (7.0, 3.0) if head else (len(lengths) * (2.0 * embeds.shape[1] + 5), len(lengths) * (0.5 * embeds.shape[1] + 1))

    monkeypatch.setattr(bench_sample, "bare_pass", linear)
    times = LayerTimes(sample, prompt[0], 2)
    times.measure([10, 110, 276])
    assert calls == [(276, True), (10, False), (110, False), (276, False)]
    schedule = [276, 200, 110, 37, 10]
    assert times.total(schedule) == pytest.approx((7 + sum(2 * n + 5 for n in schedule), 3 + sum(0.5 * n + 1 for n in schedule)))
    assert times.last[110] == (225.0, 56.0)


def test_points_span_the_lengths():
    assert spread_lengths({7}) == [7]
    assert spread_lengths({5, 3, 9}, 4) == [3, 5, 9]
    assert spread_lengths(set(range(100, 201)), 5) == [100, 125, 150, 175, 200]
    assert spread_lengths({1, 2, 3, 1000}, 3) == [1, 3, 1000]


def test_a_bare_pass_is_the_stock_forward(whole, prompt):
    seen: list[torch.Tensor] = []
    handle = whole.lm_head.register_forward_hook(lambda module, args, output: seen.append(output.clone()))
    try:
        bare_pass(whole, prompt[0], [DEEP.tokens] * DEEP.layers, steps=2)
        stock = whole(inputs_embeds=prompt[0], use_cache=True, logits_to_keep=1)
        zero = torch.zeros(1, 1, dtype=torch.long)
        for _ in range(2):
            whole(input_ids=zero, past_key_values=stock.past_key_values, use_cache=True)
    finally:
        handle.remove()
    assert len(seen) == 6
    for bare, of_stock in zip(seen[:3], seen[3:], strict=True):
        assert torch.allclose(bare, of_stock, atol=1e-6)


def test_a_bare_pass_runs_each_layer_on_its_length(whole, prompt):
    seen: list[int] = []
    handles = [layer.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[1])) for layer in whole.model.layers]
    try:
        bare_pass(whole, prompt[0], [276, 100, 30], steps=1, head=False)
    finally:
        for handle in handles:
            handle.remove()
    assert seen == [276, 100, 30, 1, 1, 1]


def test_a_recording_plays_to_layers_and_works_for_those_who_ask():
    real = torch.nn.Linear(4, 6)
    recording = Recording(real, torch.arange(30.0).view(1, 5, 6))
    assert torch.equal(recording(torch.zeros(1, 2, 4)), recording.rows[:, :2])
    states = torch.randn(3, 4)
    assert torch.equal(recording(states), real(states))


def test_the_hollow_decoder_holds_no_weights_of_its_own(sample, prompt):
    hollow = hollow_decoder(sample, 12, prompt[0])
    assert len(hollow.model.layers) == hollow.config.num_hidden_layers == 12 and sample.config.num_hidden_layers == 2
    assert {id(weight) for weight in hollow.parameters()} <= {id(weight) for weight in sample.parameters()}
    assert not any(module._forward_hooks for module in sample.modules())


def test_the_command_says_what_it_scaled():
    result = CliRunner().invoke(command, [*TINY, "--layers-sample", "2", "--retention", "0.5", "--no-controls"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.output.strip().splitlines()[-1])
    assert [row["setting"] for row in document["rows"]] == ["unpruned", "autoprune@0.50"]
    assert document["rows"][0]["kv_bytes"] == SHAPE.layers * 2 * 32 * 4 * 276
    scaled = document["scaled"]
    assert scaled["layers_built"] == 2 and scaled["layer_ms"]["276"]["prefill_ms"] > 0
    assert "2 of 4 layers were built" in scaled["how"] and scaled["how"][:30] in result.output
    assert result.output.count("(scaled)") >= 8
    assert document["overhead_at_1"] is document["whole"] is document["check"] is None and "batches" not in document


def test_a_sample_can_be_checked_against_the_whole_in_the_same_rounds():
    result = CliRunner().invoke(command, [*TINY, "--layers-sample", "2", "--retention", "0.5", "--no-controls", "--check-sample"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.output.strip().splitlines()[-1])
    assert [row["setting"] for row in document["whole"]] == [row["setting"] for row in document["rows"]]
    for whole, row, check in zip(document["whole"], document["rows"], document["check"], strict=True):
        assert (whole["kv_bytes"], whole["flops_bound"]) == (row["kv_bytes"], row["flops_bound"])
        assert check["setting"] == row["setting"] and check["prefill"] > 0 and check["decode"] > 0
    assert "scaled / whole decoder" in result.output and "the whole decoder: decoder: 4 layers" in result.output


def test_the_check_pairs_passes_of_a_round():
    scaled, whole = [Pass(2.0, 3.0, 0), Pass(30.0, 10.0, 0)], [Pass(1.0, 3.0, 0), Pass(10.0, 5.0, 0)]
    assert SampleCheck.of("a", scaled, whole) == SampleCheck("a", 2.5, 1.5)
