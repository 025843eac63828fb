"""The benchmark measures what it says: settings in turn, a FLOPs bound from the trace, KV bytes from the cache."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner

from senna_autoprune import SennaPruneError
from senna_autoprune.cli.bench import command
from senna_autoprune.cli.values import parse_shares
from senna_autoprune.evaluation.bench import BenchShape, build_decoder, build_prompt

TINY = ["--layers", "4", "--hidden", "32", "--heads", "4", "--views", "2", "--text-tokens", "20", "--rounds", "3", "--decode-steps", "2"]


def test_last_line_is_json_and_holds_what_was_measured():
    result = CliRunner().invoke(command, [*TINY, "--retention", "0.5"])
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


def test_prompt_has_the_views_and_the_text_asked_for():
    shape = BenchShape(layers=2, hidden=32, heads=4, views=6, text_tokens=200)
    embeds, mask = build_prompt(shape, torch.float32, "cpu")
    assert embeds.shape == (1, 968, 32)
    assert int(mask.sum()) == 768 and int((~mask).sum()) == 200
    assert not mask[0, -66:].any()
    model = build_decoder(shape, torch.bfloat16, "cpu")
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    assert torch.get_default_dtype() == torch.float32


def test_bad_shapes_and_shares_are_refused():
    with pytest.raises(SennaPruneError, match="multiple of --heads"):
        BenchShape(hidden=30, heads=4)
    assert parse_shares("0.20:0.40:0.05") == [0.2, 0.25, 0.3, 0.35, 0.4]
    assert parse_shares("0.2,1") == [0.2, 1.0]
    for text in ("a", "0.2:0.1:0.1", "0.1:0.2", "1.5", "0", "0.1:0.2:0"):
        with pytest.raises(SennaPruneError, match="--retention"):
            parse_shares(text)
