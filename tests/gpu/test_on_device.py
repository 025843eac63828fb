"""Pruning, batches, decoding, stopwatch and bench on one device: CUDA where there is one, else the CPU. No figure of a GPU is in here:
none was at hand when this was written.
"""

from __future__ import annotations

import json
import os

import pytest
import torch
from click.testing import CliRunner

from senna_autoprune import AutoPrune, build_policy
from senna_autoprune.bench.batches import pad
from senna_autoprune.bench.kernels import picked
from senna_autoprune.bench.shapes import BenchShape
from senna_autoprune.cli.bench import command
from senna_autoprune.device import Marks
from senna_autoprune.evaluation.answering.stopwatch import Stopwatch
from senna_autoprune.pruning.methods.registry import METHODS
from tests.models import six_blocks, tiny_llama
from tests.pruning.decoder.test_ranked import LongWay

LOOSE = {torch.float32: 1e-4, torch.bfloat16: 0.1}


@pytest.fixture(scope="module")
def device():
    there = torch.cuda.is_available()
    if os.environ.get("SENNA_NEEDS_GPU") and not there:
        pytest.fail("make test-gpu: torch finds no CUDA device here; the same tests run on the CPU with `pytest tests/gpu`")
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield "cuda" if there else "cpu"
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def prefill(model, policy, embeds, mask, valid=None):
    with policy(model, visual_mask=mask) as trace, torch.no_grad():
        output = model(inputs_embeds=embeds, attention_mask=valid, use_cache=True)
    return output, trace


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("groups", [4, 2])
def test_the_short_way_is_the_long_one(device, dtype, groups):
    model = tiny_llama(groups=groups).to(device, dtype)
    embeds, mask = (value.to(device) for value in six_blocks(after=9))
    embeds = embeds.to(dtype)
    short, trace = prefill(model, AutoPrune(retention=0.4), embeds, mask)
    long, expected = prefill(model, LongWay(retention=0.4), embeds, mask)
    assert trace[0].tokens_per_layer == expected[0].tokens_per_layer or dtype == torch.bfloat16
    if dtype == torch.float32:
        assert [ids.tolist() for ids in trace[0].ids] == [ids.tolist() for ids in expected[0].ids]
        assert (short.logits - long.logits).abs().max() <= LOOSE[dtype] * long.logits.abs().max()
    assert short.logits.isfinite().all() and short.logits.device.type == device


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_token_kept_is_stock_to_the_bit(device, dtype):
    model = tiny_llama().to(device, dtype)
    embeds, mask = (value.to(device) for value in six_blocks())
    with torch.no_grad():
        stock = model(inputs_embeds=embeds.to(dtype)).logits
    kept, _ = prefill(model, AutoPrune(retention=1.0), embeds.to(dtype), mask)
    assert torch.equal(kept.logits, stock)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("fastervlm", "vispruner", "visionzip", "cdpruner")])
def test_a_batch_answers_as_its_prompts_alone(device, name):
    model = tiny_llama().to(device)
    policy = build_policy(name, retention=0.6)
    prompts = [tuple(value.to(device) for value in six_blocks(after=after, seed=after)) for after in (7, 12, 9)]
    embeds, visual, valid = pad(prompts)
    together, traces = prefill(model, policy, embeds, visual, valid)
    for sample, (one, mask) in enumerate(prompts):
        alone, trace = prefill(model, policy, one, mask)
        if name not in ("random", "random-lengths"):  # drawn for each place in a batch
            assert trace[0].tokens_per_layer == traces[sample].tokens_per_layer
            scale = alone.logits[0, -1].abs().max()
            assert (together.logits[sample, -1] - alone.logits[0, -1]).abs().max() <= 1e-3 * scale


def test_decoding_goes_on_over_a_pruned_cache(device):
    model = tiny_llama().to(device)
    embeds, mask = (value.to(device) for value in six_blocks())
    with AutoPrune(retention=0.4)(model, visual_mask=mask), torch.no_grad(), Stopwatch(model) as watch:
        ids = model.generate(inputs_embeds=embeds, max_new_tokens=5, do_sample=False)
    assert ids.shape == (1, 5) and ids.device.type == device
    assert watch.prefill_ms is not None and watch.decode_ms is not None and watch.prefill_ms > 0 and watch.decode_ms > 0


def test_marks_measure_work_on_the_device(device):
    marks = Marks(torch.device(device))
    large = torch.ones(1024, 1024, device=device)
    first = marks.mark()
    second = marks.mark()
    for _ in range(20):
        large = (large @ large).clamp(0, 1)
    last = marks.mark()
    assert marks.ms(first, last) >= marks.ms(second, last) > 0


def test_bench_measures_here(device):
    tiny = ["--layers", "4", "--hidden", "64", "--heads", "4", "--views", "2", "--text-tokens", "20", "--rounds", "2"]
    result = CliRunner().invoke(
        command, [*tiny, "--retention", "0.5", "--batch-size", "3", "--concurrency", "3", "--batch-rounds", "1", "--device", device]
    )
    assert result.exit_code == 0, result.output
    document = json.loads(result.output.strip().splitlines()[-1])
    assert document["machine"]["device"] == device and len(document["batches"]) == len(document["in_flight"]) == 2
    for row in document["rows"]:
        assert row["prefill_ms"]["median"] > 0 and (row["peak_bytes"] is None) == (device == "cpu")
    shape = BenchShape(layers=4, hidden=64, heads=4, views=2, text_tokens=20)
    dtype = getattr(torch, document["machine"]["dtype"])
    assert document["attention"] == picked(shape, dtype, device)
