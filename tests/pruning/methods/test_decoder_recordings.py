"""FastV, PyramidDrop and SparseVLM against every recorded run of their official code: kept sets, counts, caches, logits."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from senna_autoprune.pruning.methods.registry import build_policy
from tests.fixtures import FIXTURES, shared
from tests.models import recorded_llama

FOLDER = FIXTURES / "baselines"
TOLERANCE = 2e-4  # m12hot's logits are large, and the recordings were made by other kernels


def runs(method):
    files = sorted((FOLDER / method).glob("runs_*.json")) if FOLDER.exists() else []
    return [(method, run) for file in files for run in json.loads(file.read_text()) if "error" not in run]


FASTV, PDROP = runs("fastv"), runs("pdrop")
SPARSE = runs("sparsevlm") + runs("sparsevlm10")


def sixteen_heads(model):
    """The same weights, read as 16 heads: SparseVLM v2.0 was recorded like this."""
    config = type(model.config).from_dict({**model.config.to_dict(), "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 4})
    wide = LlamaForCausalLM(config).eval()
    wide.load_state_dict(model.state_dict())
    return wide


@pytest.fixture(scope="module")
def models():
    models = {name: recorded_llama(name) for name in ("m32", "m12", "m12hot")}
    return {**models, "m32 as 16 heads": sixteen_heads(models["m32"])}


@pytest.fixture(scope="module")
def inputs():
    return load_file(shared("fixtures", "autoprune-release", "inputs.safetensors"))


@pytest.fixture(scope="module")
def starts():
    """Where the visual tokens of each input begin."""
    recorded = json.loads(shared("fixtures", "autoprune-release", "runs.json").read_text())
    return {run["input"]: run["pre"] for run in recorded}


def replay(model, embeds, start, visual, policy):
    mask = torch.zeros(embeds.shape[:2], dtype=torch.bool)
    mask[:, start : start + visual] = True
    with policy(model, visual_mask=mask) as trace, torch.no_grad():
        output = model(inputs_embeds=embeds, use_cache=True)
    return trace[0], output, [layer.keys.shape[2] for layer in output.past_key_values.layers]


def assert_logits(output, expected, argmax):
    logits = output.logits[0, -1].numpy()
    assert np.abs(logits - expected).max() <= TOLERANCE
    assert int(logits.argmax()) == argmax


def test_recordings_are_there():
    shared("fixtures", "baselines")
    assert (len(FASTV), len(PDROP), len(SPARSE)) >= (32, 10, 18)


@pytest.mark.parametrize(("method", "run"), FASTV, ids=[run["run"] for _, run in FASTV])
def test_fastv(method, run, models, inputs, starts):
    arrays = np.load(FOLDER / method / f"{run['run']}.npz")
    policy = build_policy("fastv", tokens=run["avg_visual_tokens"], k=run["K"])  # the budget alone gives the recorded rank
    visual = len(arrays["score"])
    sample, output, cached = replay(models[run["model"]], inputs[f"{run['input']}.inputs_embeds"], starts[run["input"]], visual, policy)
    assert sample.tokens_per_layer == [visual] * run["K"] + [run["attention_rank"]] * (len(cached) - run["K"])
    assert sample.kept[-1].tolist() == run["kept"] == arrays["kept"].tolist()
    if run["inplace"]:  # the mask variant hides the same tokens, and its cache keeps them
        assert cached == run["seq_in_per_layer"]
    assert_logits(output, arrays["next_logits"], run["argmax"])


@pytest.mark.parametrize(("method", "run"), PDROP, ids=[run["run"] for _, run in PDROP])
def test_pyramiddrop(method, run, models, inputs, starts):
    arrays = np.load(FOLDER / method / f"{run['run']}.npz")
    policy = build_policy("pyramiddrop", mode="release", layer_list=run["layer_list"], ratio_list=run["ratio_list"])
    visual = run["visual_in_per_layer"][0]
    sample, output, cached = replay(models[run["model"]], inputs[f"{run['input']}.inputs_embeds"], starts[run["input"]], visual, policy)
    assert sample.tokens_per_layer == run["visual_in_per_layer"]
    assert sample.average_tokens == pytest.approx(run["avg_visual_tokens"])
    for stage, layer in enumerate(run["layer_list"]):
        assert sample.kept[layer].tolist() == arrays[f"kept_stage{stage}"].tolist()
    assert cached == arrays["cache_lens"].tolist()
    assert_logits(output, arrays["next_logits"], run["argmax"])


@pytest.mark.parametrize(("method", "run"), SPARSE, ids=[run["run"] for _, run in SPARSE])
def test_sparsevlm(method, run, models, inputs, starts):
    arrays = np.load(FOLDER / method / f"{run['run']}.npz")
    version = {"sparsevlm10": "v1.0"}.get(method) or ("v2.0" if "_v2_" in run["run"] else "v1.5")
    options = {"scale": run["scale"]} if version == "v1.0" else {"retain": int(run["retain"])}
    model = models["m32 as 16 heads" if version == "v2.0" else run["model"]]
    visual = run["visual_in_per_layer"][0]
    policy = build_policy("sparsevlm", mode=version, **options)
    sample, output, cached = replay(model, inputs[f"{run['input']}.inputs_embeds"], starts[run["input"]], visual, policy)
    assert sample.tokens_per_layer == run["visual_in_per_layer"]
    for stage in run["stages"]:
        entering = stage["layer"] + 1
        assert sample.kept[entering].tolist() == stage["kept_original"]
        chosen = sample.ids[entering][: stage["n_kept"]]
        assert (sample.tokens_per_layer[entering] - len(chosen), len(chosen)) == (stage["n_merged"], stage["n_kept"])
    assert cached == [count + sample.text_tokens for count in run["visual_in_per_layer"]]
    assert output.logits.shape[1] == len(arrays["last_hidden_norms"])
    assert_logits(output, arrays["next_logits"], run["argmax"])


@pytest.mark.parametrize(("method", "run"), SPARSE[:1] + SPARSE[-1:], ids=lambda value: value["run"] if isinstance(value, dict) else value)
def test_sparsevlm_raters_and_merged_tokens(method, run, models, inputs, starts):
    """The intermediate values: who rates, and what the recycled tokens hold."""
    from senna_autoprune.pruning.methods.sparsevlm import text_raters
    from senna_autoprune.pruning.parts.revival import density_peaks

    arrays, embeds = np.load(FOLDER / method / f"{run['run']}.npz"), inputs[f"{run['input']}.inputs_embeds"][0]
    start, visual = starts[run["input"]], run["visual_in_per_layer"][0]
    raters = text_raters(embeds[start : start + visual], embeds[start + visual :])
    assert raters.nonzero().flatten().tolist() == run["stages"][0]["raters"]
    if "merge_in0" in arrays.files:
        merged = density_peaks(*(torch.tensor(arrays["merge_in0"]), len(arrays["merge_out0"]), torch.tensor(arrays["noise0"]))).merged
        np.testing.assert_allclose(merged.numpy(), arrays["merge_out0"], atol=2e-6)
