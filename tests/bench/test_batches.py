"""Throughput of batches: prompts of different lengths, padded on the left, timed together and alone."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner

from senna_autoprune.bench.batches import build_prompts, measure_batches, pad
from senna_autoprune.bench.shapes import BenchShape, build_decoder
from senna_autoprune.cli.bench import command
from senna_autoprune.pruning.methods.registry import build_policy
from tests.bench.test_passes import TINY

SHAPE = BenchShape(layers=2, hidden=32, heads=4, views=2, text_tokens=30)


def test_prompts_differ_in_length_and_are_padded_on_the_left():
    prompts = build_prompts(SHAPE, 4, torch.float32, "cpu")
    lengths = [embeds.shape[1] for embeds, _ in prompts]
    assert lengths == [286, 285, 284, 283]
    embeds, visual, valid = pad(prompts)
    assert embeds.shape == (4, 286, 32)
    assert visual.sum(-1).tolist() == [256] * 4
    assert valid.sum(-1).tolist() == lengths
    assert torch.equal(embeds[3, 3:], prompts[3][0][0])
    assert not embeds[3, :3].any() and not valid[3, :3].any()


def test_every_prompt_is_run_together_and_alone_and_counted():
    model = build_decoder(SHAPE, torch.float32, "cpu")
    prompts = build_prompts(SHAPE, 3, torch.float32, "cpu")
    shapes: list[tuple[int, int]] = []
    model.register_forward_pre_hook(lambda module, args, kwargs: shapes.append(kwargs["inputs_embeds"].shape[:2]), with_kwargs=True)
    done: list[int] = []
    policies = {"uniform": build_policy("uniform", retention=0.5)}
    rows = measure_batches(model, prompts, policies, rounds=2, warmup=1, on_round=done.append)
    assert done == [0, 1, 2]
    assert len(shapes) == 3 * 2 * (1 + 3)  # rounds, settings, together and alone
    assert {shape[0] for shape in shapes} == {1, 3}
    unpruned, uniform = rows
    assert (unpruned.setting, unpruned.batch_size, unpruned.tokens_per_layer) == ("unpruned", 3, (256, 256))
    assert uniform.tokens_per_layer == (128, 128)
    for row in rows:
        assert row.alone.p10 <= row.alone.median <= row.alone.p90
        assert row.gain > 0 and row.together.median > 0


def test_the_command_prints_throughput_in_batches_of_eight():
    result = CliRunner().invoke(command, [*TINY, "--retention", "0.5", "--batch-size", "8", "--batch-rounds", "1"])
    assert result.exit_code == 0, result.output
    assert "prefill throughput, 8 prompts" in result.output and "batches took" in result.output
    batches = json.loads(result.output.strip().splitlines()[-1])["batches"]
    assert [batch["setting"] for batch in batches] == ["unpruned", "autoprune@0.50"]
    assert [batch["batch_size"] for batch in batches] == [8, 8]
    assert batches[1]["tokens_per_layer"] == pytest.approx([128, 128], abs=0.5)
    assert batches[0]["prompts_per_s_together"]["median"] > 0


def test_at_batch_size_one_nothing_is_said_of_batches():
    result = CliRunner().invoke(command, [*TINY, "--retention", "0.5", "--batch-size", "1"])
    assert "batches" not in json.loads(result.output.strip().splitlines()[-1])
