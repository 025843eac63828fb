"""AutoPrune's options: budgets in FLOPs and views, ablations, counting, errors."""

from __future__ import annotations

import pytest
import torch

from senna_autoprune import AutoPrune, SennaPruneError
from senna_autoprune.pruning.methods.registry import METHODS, build_policy
from tests.models import six_blocks, tiny_llama


def trace_of(policy, layers=8):
    model = tiny_llama(layers=layers)
    embeds, mask = six_blocks()
    with policy(model, visual_mask=mask) as trace, torch.no_grad():
        model(inputs_embeds=embeds, use_cache=True)
    return trace[0]


@pytest.mark.parametrize("share", [0.45, 0.6, 0.9])
def test_flops_budget(share):
    trace = trace_of(AutoPrune(flops=share))
    assert trace.flops_pruned / trace.flops_full == pytest.approx(share, abs=0.01)
    assert trace.flops_pruned <= share * trace.flops_full


def test_tokens_per_view_is_the_same_budget():
    assert trace_of(AutoPrune(tokens_per_view=4)).tokens_per_layer == trace_of(AutoPrune(retention=0.25)).tokens_per_layer


def test_leaving_counts_after_each_cut():
    trace = trace_of(AutoPrune(tokens=24, count="leaving"))
    entering = trace_of(AutoPrune(tokens=24))
    assert trace.tokens_per_layer[0] == 96
    assert trace.average_tokens > entering.average_tokens == 24


@pytest.mark.parametrize("indicator", ["mutual_information", "attention", "cosine", "static"])
@pytest.mark.parametrize("curve", ["logistic", "tanh", "linear", "exponential"])
def test_ablations_meet_the_same_budget(indicator, curve):
    trace = trace_of(AutoPrune(retention=0.3, indicator=indicator, curve=curve))
    assert sum(trace.tokens_per_layer) == round(0.3 * 96 * 8)
    assert (trace.mutual_information is None) == (indicator == "static")
    if indicator == "static":
        assert trace.k == pytest.approx(1.6)  # k0 scaled to 8 layers


def test_indicator_scale_moves_k():
    plain = trace_of(AutoPrune(retention=0.3, indicator="attention"))
    scaled = trace_of(AutoPrune(retention=0.3, indicator="attention", indicator_scale=2.0))
    assert scaled.mutual_information == pytest.approx(2 * plain.mutual_information, rel=1e-6)
    assert scaled.k < plain.k


def test_settings_change_the_schedule():
    low, high = trace_of(AutoPrune(retention=0.3, k0=0.0)), trace_of(AutoPrune(retention=0.3, k0=3.0, gamma=0.0, x0=3.0))
    assert max(low.tokens_per_layer[1:]) - min(low.tokens_per_layer[1:]) <= 1  # k = 0: flat
    assert high.tokens_per_layer[1] > high.tokens_per_layer[-1] + 20


def test_a_quantum_rounds_the_complexity_that_bends_the_curve_not_the_one_that_is_told():
    plain = trace_of(AutoPrune(retention=0.3, indicator="attention"))
    for quantum in (0.05, 0.5):
        trace = trace_of(AutoPrune(retention=0.3, indicator="attention", quantum=quantum))
        level = round(plain.mutual_information / quantum) * quantum
        assert trace.mutual_information == plain.mutual_information and abs(level - plain.mutual_information) > 1e-4
        assert (trace.k, trace.x0) == (max(1.6 - 0.8 * level, 0), pytest.approx(14.9 / 4 + 0.8 * (2 - level)))
        assert sum(trace.tokens_per_layer) == round(0.3 * 96 * 8)


def test_release_on_six_views():
    trace = trace_of(AutoPrune(tokens=24, mode="release"), layers=12)
    assert trace.tokens_per_layer[1] == 60  # 2.5 x 24
    leaving = [*trace.tokens_per_layer[1:], trace.tokens_leaving]
    assert sum(leaving) / 12 == pytest.approx(24, abs=1)
    assert len(trace.view_sizes) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "papre"}, "mode='papre' is unknown"),
        ({"scope": "camera"}, "scope"),
        ({"curve": "sine"}, "curve"),
        ({"indicator": "entropy"}, "indicator"),
        ({"mode": "release", "curve": "tanh"}, "release"),
        ({"mode": "release", "scope": "view"}, "release"),
        ({"quantum": -0.1}, "quantum must be a number of at least 0, got -0.1"),
        ({"quantum": float("inf")}, "quantum must be"),
        ({"quantum": "few"}, "quantum must be"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(SennaPruneError, match=message):
        AutoPrune(retention=0.5, **options)


def test_broken_weights_are_said():
    model = tiny_llama()
    embeds, mask = six_blocks()
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight.fill_(float("nan"))
    with pytest.raises(SennaPruneError, match="not finite"), AutoPrune(retention=0.5)(model, visual_mask=mask):
        model(inputs_embeds=embeds)


def test_registry_builds_and_suggests():
    assert isinstance(build_policy("autoprune", retention=0.5), AutoPrune)
    assert {"autoprune", "random", "uniform"} <= set(METHODS)
    with pytest.raises(SennaPruneError, match="did you mean 'autoprune'"):
        build_policy("autoprun", retention=0.5)
    with pytest.raises(SennaPruneError, match="did you mean 'gamma'"):
        build_policy("autoprune", retention=0.5, gama=1)


def test_trace_summary_is_json_ready():
    import json

    summary = json.loads(json.dumps(trace_of(AutoPrune(retention=0.25)).to_dict()))
    assert summary["average_tokens"] == 24
    assert sum(summary["per_view"]) == pytest.approx(24)


def test_random_is_seeded():
    embeds, mask = six_blocks()
    model = tiny_llama()
    kept = []
    for seed in (0, 0, 1):
        with build_policy("random", retention=0.25, seed=seed)(model, visual_mask=mask) as trace, torch.no_grad():
            model(inputs_embeds=embeds)
        kept.append(trace[0].kept[0].tolist())
    assert kept[0] == kept[1] != kept[2]
    with build_policy("uniform", retention=0.25)(model, visual_mask=mask) as trace, torch.no_grad():
        model(inputs_embeds=embeds)
    assert trace[0].per_view[0] == [4] * 6
    assert trace[0].kept[0][:4].tolist() == [2, 6, 10, 14]
