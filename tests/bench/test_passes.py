"""The benchmark measures what it says: settings in turn, a FLOPs bound from the trace, KV bytes from the cache."""

from __future__ import annotations

import json
from dataclasses import replace

import click
import pytest
import torch
from click.testing import CliRunner

from senna_autoprune import SennaPruneError
from senna_autoprune.bench import plan as bench_run
from senna_autoprune.bench.memory import Need
from senna_autoprune.bench.passes import Pass, causal_bound, in_turn, take_turns, to_rows
from senna_autoprune.bench.plan import BenchPlan
from senna_autoprune.bench.shapes import BLOCK, SHAPES, BenchShape, build_decoder, build_prompt
from senna_autoprune.bench.vision import senna_config
from senna_autoprune.cli.bench import DTYPES, command
from senna_autoprune.cli.values import parse_shares
from senna_autoprune.pruning.cost import LayerCost
from senna_autoprune.tables.bench import settings_table

TINY = ["--layers", "4", "--hidden", "32", "--heads", "4", "--views", "2", "--text-tokens", "20", "--rounds", "3", "--decode-steps", "2"]
SHAPE = BenchShape(layers=4, hidden=32, heads=4, vocabulary=64, views=2, text_tokens=20)


def test_last_line_is_json_and_holds_what_was_measured():
    result = CliRunner().invoke(command, [*TINY, "--retention", "0.5", "--batch-size", "1"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.output.strip().splitlines()[-1])
    unpruned, kept_all, pruned, alone = document["rows"]
    assert [row["setting"] for row in document["rows"]] == ["unpruned", "autoprune@1.00", "autoprune@0.50", "lengths alone@0.50"]
    assert (alone["average_tokens"], alone["flops_bound"], alone["kv_bytes"]) == (128, pruned["flops_bound"], pruned["kv_bytes"])
    assert pruned["average_tokens"] == 128 and unpruned["average_tokens"] == kept_all["average_tokens"] == 256
    assert pruned["flops_bound"] > 1 == kept_all["flops_bound"]
    assert pruned["reached"] == pytest.approx(pruned["speedup"] / pruned["flops_bound"])
    per_token = 4 * 2 * 32 * 4  # layers, keys and values, hidden, float32
    assert unpruned["kv_bytes"] == kept_all["kv_bytes"] == per_token * (256 + 20)
    assert pruned["kv_bytes"] == per_token * (128 + 20)
    assert document["overhead_at_1"] == pytest.approx(1 / kept_all["speedup"] - 1)
    assert unpruned["prefill_ms"]["p10"] <= unpruned["prefill_ms"]["median"] <= unpruned["prefill_ms"]["p90"]
    assert unpruned["pruner_ms"] is None and 0 < pruned["pruner_ms"]["median"] < pruned["prefill_ms"]["median"]
    assert document["machine"]["threads"] == torch.get_num_threads() and document["machine"]["dtype"] == "float32"
    assert unpruned["net"] is kept_all["net"] is alone["net"] is None and pruned["net"] < 1
    assert f"{100 * pruned['net']:.1f} %" in result.output and "net: what looking costs" in result.output
    assert document["scaled"] is document["vision_ms"] is None and "(scaled)" not in result.output


def test_names_take_turns_and_warm_up_first():
    done: list[int] = []
    turns = list(in_turn(["a", "b", "c"], 2, 1, done.append))
    assert turns == [*((name, False) for name in "abc"), *((name, True) for name in "bcacab")] and done == [0, 1, 2]


def test_what_looking_costs_is_told_beside_the_same_lengths_in_the_rounds_of_both():
    def passes(*times):
        return [None if ms is None else Pass(ms, 1.0, 8) for ms in times]

    seen = {
        "unpruned": passes(40, 40, 80),
        "autoprune@0.20": passes(20, 20, 40),
        "autoprune@0.40": passes(30, 30, 60),
        "lengths alone@0.20": passes(18, None, 39),
        "lengths alone@0.40": passes(None, 33, 60),
    }
    assert [row.net for row in to_rows(seen, 8)] == [
        None,
        pytest.approx(1 - (18 / 20 + 39 / 40) / 2),
        pytest.approx(1 - (33 / 30 + 1) / 2),
        None,
        None,
    ]


def test_method_options_are_given_as_to_every_command():
    for given in (["--method", "autoprune:mode=release:k0=0.3"], ["--set", "mode=release", "--set", "autoprune.k0=0.3"]):
        result = CliRunner().invoke(command, [*TINY, "--retention", "0.5", "--rounds", "1", "--no-controls", *given])
        document = json.loads(result.output.strip().splitlines()[-1])
        assert [row["setting"] for row in document["rows"]] == ["unpruned", "autoprune:k0=0.3,mode=release@0.50"]
    plan = BenchPlan(SHAPE, (0.5,), options={"mode": "release", "k0": 0.3}, controls=False)
    policy = plan.policies()["autoprune:k0=0.3,mode=release@0.50"]
    assert (policy.mode, policy.k0, policy.retention) == ("release", 0.3, 0.5)
    for given, words in (
        (["--set", "gama=1"], "did you mean 'gamma'"),
        (["--set", "fastv.layer=3"], "choose it with --method fastv"),
        (["--bucket", "4", "--set", "bucket=8"], "bucket has an option of its own"),
        (["--set", "retention=0.3"], "retention has an option of its own"),
    ):
        assert words in str(CliRunner().invoke(command, [*TINY, *given]).exception)


class Drifting:
    """Made-up passes on a machine that slows threefold from round to round: ratios must not notice. order: names as they ran."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.drift = 1.0

    def timed(self, name: str, milliseconds: float):
        def once() -> Pass:
            self.order.append(name)
            return Pass(milliseconds * self.drift, milliseconds, 0)

        return once

    def slow_down(self) -> None:
        self.drift *= 3


def test_settings_take_turns_and_speedups_are_paired_within_a_round():
    machine = Drifting()
    order, timed = machine.order, machine.timed
    seen = take_turns({"unpruned": timed("a", 8.0), "b": timed("b", 2.0)}, rounds=2, warmup=1, before_round=machine.slow_down)
    rows = to_rows(seen, 10)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert [row.speedup for row in rows] == [1.0, 4.0]
    assert [row.decode_speedup for row in rows] == [1.0, 4.0]
    assert rows[0].prefill_ms.p10 > 8 * 9  # the warm-up round is not in it


def test_controls_sit_rounds_out_and_are_paired_with_the_rounds_they_ran_in():
    machine = Drifting()
    order, timed = machine.order, machine.timed
    passes = {"unpruned": timed("u", 8.0), "pruned": timed("p", 2.0), "control": timed("c", 4.0)}
    seen = take_turns(passes, rounds=5, warmup=1, seldom={"control"}, seldom_rounds=2, before_round=machine.slow_down)
    assert {name: order.count(name) for name in "upc"} == {"u": 6, "p": 6, "c": 3}
    assert [one is None for one in seen["control"]] == [False, True, False, True, True]
    rows = to_rows(seen, 10)
    assert [row.speedup for row in rows] == [1.0, 4.0, 2.0]
    assert take_turns(passes, rounds=2, warmup=0, seldom={"control"}, seldom_rounds=3)["control"][-1] is not None  # fewer rounds than that


@pytest.mark.parametrize(("interrupted_at", "rounds"), [(3, 1), (4, 2), (5, 2), (1, None)])
def test_an_interrupt_keeps_the_rounds_that_are_finished(interrupted_at: int, rounds: int | None):
    calls: list[str] = []

    def once() -> Pass:
        calls.append("")
        if len(calls) > interrupted_at:
            raise KeyboardInterrupt
        return Pass(1.0, 1.0, 0)

    passes = {"unpruned": once, "b": once}
    if rounds is None:
        with pytest.raises(KeyboardInterrupt):
            take_turns(passes, rounds=3, warmup=0)
    else:
        assert {name: len(found) for name, found in take_turns(passes, rounds=3, warmup=0).items()} == {"unpruned": rounds, "b": rounds}


def test_prompt_has_the_views_and_the_text_asked_for():
    shape = BenchShape(layers=2, hidden=32, heads=4, views=6, text_tokens=200)
    embeds, mask = build_prompt(shape, torch.float32, "cpu")
    assert embeds.shape == (1, shape.tokens, 32) == (1, 968, 32)
    assert int(mask.sum()) == 768 and int((~mask).sum()) == 200
    assert not mask[0, -66:].any()


def test_weights_are_random_bounded_and_the_same_in_a_sample():
    whole = build_decoder(SHAPE, torch.bfloat16, "cpu", seed=3)
    assert {weight.dtype for weight in whole.parameters()} == {torch.bfloat16}
    assert torch.get_default_dtype() == torch.float32
    sample = build_decoder(SHAPE, torch.bfloat16, "cpu", seed=3, layers=2)
    assert len(sample.model.layers) == 2
    of_whole = dict(whole.named_parameters())
    for name, weight in sample.named_parameters():
        assert torch.equal(weight, of_whole[name]), name
        if weight.dim() < 2:
            assert (weight == 1).all(), name
        else:
            values = weight.float()
            assert 0.015 < values.std() < 0.025 and abs(values.mean()) < 0.01, name
    first, second = (layer.self_attn.q_proj.weight for layer in whole.model.layers[:2])
    assert not torch.equal(first, second)
    embeds, _ = build_prompt(SHAPE, torch.bfloat16, "cpu")
    assert whole(inputs_embeds=embeds).logits.isfinite().all()


def test_a_matrix_longer_than_the_block_of_random_numbers_has_no_equal_rows():
    model = build_decoder(BenchShape(layers=2, hidden=64, heads=4, vocabulary=BLOCK // 32), torch.float32, "cpu")
    rows = model.lm_head.weight
    assert rows.numel() > BLOCK
    assert len(torch.unique(rows, dim=0)) == len(rows)


def test_the_7b_has_the_parameters_of_vicuna():
    shape = SHAPES["senna-7b"]
    assert (shape.layers, shape.hidden, shape.heads, shape.mlp_width, shape.tokens) == (32, 4096, 32, 11008, 968)
    assert BenchPlan(shape, (0.25,), dtype=torch.bfloat16).built == 32
    assert senna_config(4096).num_patches == 576 and senna_config(4096).vision_config.num_hidden_layers == 24


def test_the_command_offers_what_there_is():
    choices = {option.name: list(option.type.choices) for option in command.params if isinstance(option.type, click.Choice)}
    assert choices["shape_name"] == list(SHAPES) and choices["clock"] == list(bench_run.CLOCKS)
    assert {getattr(torch, name) for name in DTYPES} == {torch.float32, torch.bfloat16, torch.float16}


def test_a_plan_that_does_not_fit_is_refused_before_anything_is_built(monkeypatch: pytest.MonkeyPatch):
    seen: list[tuple[Need, str]] = []

    def refuse(need: Need, device: str, advice: str) -> None:
        seen.append((need, advice))
        raise SennaPruneError("too little")

    monkeypatch.setattr(bench_run, "check_fits", refuse)
    monkeypatch.setattr(bench_run, "build_decoder", None)
    plan = BenchPlan(SHAPES["senna-7b"], (0.25,), dtype=torch.bfloat16)
    for one in (plan, replace(plan, layers_sample=2), replace(plan, layers_sample=2, check_sample=True)):
        with pytest.raises(SennaPruneError, match="too little"):
            bench_run.run(one)
    (whole, advice), (sample, other), (both, leave) = seen
    assert both.weights == whole.weights + sample.weights and "--check-sample" in leave
    assert 13.4e9 < whole.weights < 13.6e9 and whole.kv_cache == sample.kv_cache == 32 * 2 * 4096 * 968 * 2
    assert sample.total < 3.5e9
    assert f"--layers-sample 2 needs {sample.total / 1e9:.1f} GB" in advice and "layers-sample" not in other


def test_bad_shapes_and_shares_are_refused():
    with pytest.raises(SennaPruneError, match="multiple of --heads"):
        BenchShape(hidden=30, heads=4)
    with pytest.raises(SennaPruneError, match="more than the 4 layers"):
        BenchPlan(SHAPE, (0.5,), layers_sample=5)
    with pytest.raises(SennaPruneError, match="use --clock wall"):
        BenchPlan(SHAPE, (0.5,), clock="cpu", device="cuda")
    with pytest.raises(SennaPruneError, match="give --layers-sample too"):
        BenchPlan(SHAPE, (0.5,), check_sample=True)
    with pytest.raises(SennaPruneError, match="whole decoders only"):
        BenchPlan(SHAPE, (0.5,), layers_sample=2, batch_size=8)
    assert parse_shares("0.20:0.40:0.05") == [0.2, 0.25, 0.3, 0.35, 0.4]
    assert parse_shares("0.2,1") == [0.2, 1.0]
    for text in ("a", "0.2:0.1:0.1", "0.1:0.2", "1.5", "0", "0.1:0.2:0"):
        with pytest.raises(SennaPruneError, match="--retention"):
            parse_shares(text)


def test_peak_memory_is_shown_where_a_device_tells_it():
    rows = to_rows({"unpruned": [Pass(1.0, 1.0, 0, peak_bytes=7_000_000), Pass(1.0, 1.0, 0, peak_bytes=9_000_000)]}, 10)
    table = settings_table("t", rows, scaled=False)
    assert rows[0].peak_bytes == 9_000_000 and (table.columns[-1], table.rows[0][-1]) == ("peak MB", "9")
    assert "peak MB" not in settings_table("t", to_rows({"unpruned": [Pass(1.0, 1.0, 0)]}, 10), scaled=False).columns


def test_the_causal_bound_counts_the_pairs_that_are_computed():
    result = CliRunner().invoke(command, [*TINY, "--retention", "0.5", "--no-controls", "--bucket", "16"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.output.strip().splitlines()[-1])
    unpruned, pruned = document["rows"]
    assert unpruned["causal_bound"] == 1 and "n (n + 1) / 2" in result.output and "paper's formula" in result.output
    plan = BenchPlan(SHAPE, (0.5,), bucket=16)
    model, (embeds, mask) = build_decoder(SHAPE, torch.float32, "cpu"), build_prompt(SHAPE, torch.float32, "cpu")
    with plan.policies()["autoprune@0.50"](model, visual_mask=mask) as trace, torch.no_grad():
        model(inputs_embeds=embeds)
    assert all(count % 16 == 0 for count in trace[0].tokens_per_layer)

    def work(lengths):  # a sum over pairs and matrices, one by one
        pairs = sum(2 * 32 for length in lengths for row in range(length) for _ in range(row + 1))
        return pairs + sum(length * (4 * 32 * 32 + 3 * 32 * SHAPE.mlp_width) for length in lengths)

    expected = work([276] * 4) / work([count + 20 for count in trace[0].tokens_per_layer])
    assert causal_bound(trace[0], LayerCost.from_config(model.config)) == pytest.approx(expected)
    assert 1 < pruned["causal_bound"] < pruned["flops_bound"]
