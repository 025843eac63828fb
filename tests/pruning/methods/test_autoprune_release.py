"""AutoPrune(mode="release") against the released decoder: every recorded run, and its pure functions."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from senna_autoprune import AutoPrune
from senna_autoprune.pruning.methods import autoprune_release as release
from senna_autoprune.pruning.parts.curves import CurveParameters
from senna_autoprune.pruning.parts.revival import density_peaks
from senna_autoprune.pruning.parts.selection import top_tokens
from tests.fixtures import FIXTURES, shared
from tests.models import recorded_llama

FOLDER = FIXTURES / "autoprune-release"
RUNS = json.loads((FOLDER / "runs.json").read_text()) if FOLDER.exists() else []


@pytest.fixture(scope="module")
def models():
    return {name: recorded_llama(name) for name in ("m32", "m12", "m12hot")}


@pytest.fixture(scope="module")
def inputs():
    return load_file(shared("fixtures", "autoprune-release", "inputs.safetensors"))


def test_recordings_are_there():
    shared("fixtures", "autoprune-release")
    assert len(RUNS) >= 22


@pytest.mark.parametrize("run", RUNS, ids=[run["run"] for run in RUNS])
def test_run_equals_the_recording(run, models, inputs):
    model, arrays = models[run["model"]], np.load(FOLDER / "runs" / f"{run['run']}.npz")
    embeds, scores = inputs[f"{run['input']}.inputs_embeds"], inputs[f"{run['input']}.image_attns"]
    mask = torch.zeros(embeds.shape[:2], dtype=torch.bool)
    mask[:, run["pre"] : run["pre"] + run["nv"]] = True
    policy = AutoPrune(tokens=run["target"], mode="release", k0=run["k0"], gamma=run["gamma"], x0=run["x0"], seed=run["torch_seed"])
    with policy(model, visual_mask=mask, cls_scores=scores) as trace, torch.no_grad():
        output = model(inputs_embeds=embeds, use_cache=True)
    sample = trace[0]
    assert sample.mutual_information == pytest.approx(sum(run["mi_layer1_heads"]), abs=1e-4)
    assert sample.k == pytest.approx(run["dynamic_k"], abs=1e-5)
    assert sample.tokens_per_layer == run["visual_in_per_layer"]
    assert [*sample.tokens_per_layer[1:], sample.tokens_leaving] == run["visual_out_per_layer"]
    assert [layer.keys.shape[2] for layer in output.past_key_values.layers] == arrays["cache_lens"].tolist()
    assert sample.flops_pruned == pytest.approx(run["flops_counted"], rel=1e-9)
    assert sample.flops_full == pytest.approx(run["flops_unpruned"], rel=1e-9)
    for layer in run["layers"]:
        entering = layer["layer"] + 1
        if entering < len(sample.kept):
            assert sample.kept[entering].tolist() == layer["kept_original"]
            if layer.get("tags"):
                assert sample.ids[entering].tolist() == layer["tags"]
    tolerance = 5e-4 if run["model"] == "m12hot" else 2e-5  # sharp attention magnifies float32 rounding
    assert np.abs(output.logits[0, -1].numpy() - arrays["next_logits"]).max() <= tolerance
    if "gen_step_logits" in arrays:
        with policy(model, visual_mask=mask, cls_scores=scores):
            generated = model.generate(
                inputs_embeds=embeds, max_new_tokens=8, do_sample=False, return_dict_in_generate=True, output_logits=True
            )
        assert generated.sequences[0].tolist() == run["generated_ids"][1:]
        steps = torch.stack([row[0] for row in generated.logits]).numpy()
        assert np.abs(steps - arrays["gen_step_logits"]).max() <= 2 * tolerance


def test_recorded_noise_gives_what_the_seed_gives(models, inputs):
    run = next(run for run in RUNS if run["run"] == "m12_i768a_t192")
    arrays = np.load(FOLDER / "runs" / "m12_i768a_t192.npz")
    noise = {int(name.rsplit("_L", 1)[1]): torch.tensor(arrays[name]) for name in arrays.files if name.startswith("noise_L")}
    embeds, scores = inputs["i768a.inputs_embeds"], inputs["i768a.image_attns"]
    mask = torch.zeros(embeds.shape[:2], dtype=torch.bool)
    mask[:, run["pre"] : run["pre"] + run["nv"]] = True
    outputs = []
    for options in ({"noise": noise, "seed": 99}, {"seed": 0}):
        with AutoPrune(tokens=192, mode="release", **options)(models["m12"], visual_mask=mask, cls_scores=scores), torch.no_grad():
            outputs.append(models["m12"](inputs_embeds=embeds).logits[0, -1])
    assert torch.equal(*outputs)


def test_missing_cls_scores_are_said(models, inputs):
    embeds = inputs["i576a.inputs_embeds"]
    mask = torch.zeros(embeds.shape[:2], dtype=torch.bool)
    mask[:, 35:611] = True
    with AutoPrune(tokens=128, mode="release")(models["m12"], visual_mask=mask) as trace, torch.no_grad():
        models["m12"](inputs_embeds=embeds)
    assert any("CLS" in note for note in trace[0].notes)


def recorded(name):
    return json.loads(shared("fixtures", "autoprune-release", "pure", f"{name}.json").read_text())


def arrays_of(name):
    return np.load(shared("fixtures", "autoprune-release", "pure", f"{name}.npz"))


def test_mutual_information_table():
    arrays = arrays_of("mutual_information_inputs")
    rows = [row for row in recorded("mutual_information") if row["name"] in arrays.files]
    assert len(rows) >= 40
    for row in rows:
        attention = torch.tensor(arrays[row["name"]])[None]
        assert release.mutual_information_release(attention).item() == pytest.approx(row["mi_f32_eps1e-06"], abs=1e-6)
        assert release.mutual_information_release(attention, 1e-12).item() == pytest.approx(row["mi_f32_eps1e-12"], abs=1e-6)
        assert release.mutual_information_release(attention.double()).item() == pytest.approx(row["mi_f64"], abs=1e-12)


def test_dynamic_k_table():
    rows = [row for row in recorded("calculate_dynamic_k") if "linear" in row]  # "logistic" and "discrete" are never called
    assert len(rows) >= 200
    for row in rows:
        eq8 = CurveParameters(row["k0"], row["gamma"], 14.9, 0)
        assert eq8.steepness(row["mi"]) == pytest.approx(row["linear"], abs=1e-12, nan_ok=True)


def test_keep_percent_table():
    for row in recorded("generate_keep_percent_abs"):
        raw, cap = release.raw_shares(row["L"], row["k"], row["x0"]), min(int(2.5 * row["budget"]), row["ori"])
        shares = release.solve_shares(raw, row["v"], row["budget"], cap)
        assert release.predicted_total(shares, row["v"], cap) == row["cal_sum"]
        if row["keep_percent"]:
            np.testing.assert_allclose(shares, row["keep_percent"], rtol=0, atol=1e-12)
        if row["raw"]:
            np.testing.assert_allclose(raw, row["raw"], rtol=0, atol=1e-12)


def test_predicted_total_table():
    for row in recorded("cal_sum_tokens_no_membership"):
        cap = min(int(2.5 * row["target_token_num"]), row["ori_token_num"])
        assert release.predicted_total(row["keep_percent"], row["token_num"], cap) == row["out"]


def test_float32_ceiling_table():
    examples = recorded("ceil_f32_vs_f64")["examples"]
    assert len(examples) >= 40
    for first, share, single, double in examples:  # the table's grid points where the two precisions differ
        assert single != double
        assert release.leaving_counts([share], first)[0][0] == single


def test_cluster_and_merge_table():
    arrays = arrays_of("cluster_and_merge")
    rows = [row for row in recorded("cluster_and_merge") if f"{row['name']}.x" in arrays.files]
    assert len(rows) >= 20
    for row in rows:
        tokens, noise = (torch.tensor(arrays[f"{row['name']}.{part}"]) for part in ("x", "noise_before_1e-6"))
        merged = density_peaks(tokens, row["cluster_num"], noise).merged.numpy()
        np.testing.assert_allclose(merged, arrays[f"{row['name']}.out"], atol=2e-6)


def test_ranking_table():
    arrays = arrays_of("attn_postprocess_rank_inputs")
    for row in recorded("attn_postprocess_rank"):
        if row["name"] not in arrays.files:
            continue
        scores = torch.tensor(arrays[f"{row['name']}.relation"])
        share, first = np.float32(row["keep_percent"]), np.float32(row["image_shape"] - 1)
        assert min(math.ceil(first * share), len(scores)) == row["n_kept"]
        assert top_tokens(scores, row["n_kept"]).tolist() == row["kept"]
