"""AutoPrune and its lengths alone in lockstep: layers alternate, and both do what they do alone."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from senna_autoprune import AutoPrune
from senna_autoprune.bench.in_flight import over_the_same_weights
from senna_autoprune.bench.passes import lengths_alone
from senna_autoprune.bench.shapes import BenchShape, build_decoder, build_prompt
from tools.maintain import lockstep

SHAPE = BenchShape(layers=4, hidden=48, views=2, text_tokens=20)


def test_layers_alternate_and_the_outputs_are_those_of_each_alone():
    model = build_decoder(SHAPE, torch.float32, "cpu")
    models, (embeds, mask) = over_the_same_weights(model, 2), build_prompt(SHAPE, torch.float32, "cpu")
    policy = AutoPrune(retention=0.4)
    policies = policy, lengths_alone(policy, model, embeds, mask)
    expected = []
    for one in policies:
        with one(model, visual_mask=mask), torch.inference_mode():
            expected.append(model(inputs_embeds=embeds, logits_to_keep=1).logits)
    order, outputs = [], {}
    hooks = []
    for index, one in enumerate(models):
        hooks.append(one.register_forward_hook(lambda module, args, output, index=index: outputs.update({index: output.logits})))
        for depth, layer in enumerate(one.model.layers):
            hooks.append(layer.register_forward_pre_hook(lambda *_, at=(index, depth): order.append(at)))
    runners = [lockstep.Runner(one, policy, embeds, mask) for one, policy in zip(models, policies, strict=True)]
    first, second = lockstep.both(runners[1], runners[0])
    assert order == [(index, depth) for depth in range(4) for index in (1, 0)]
    assert all(torch.equal(outputs[index], expected[index]) for index in (0, 1))
    assert len(first) == len(second) == 6 and min(first + second) > 0  # what comes before the layers, each, what comes after
    for hook in hooks:
        hook.remove()


def test_it_prints_a_line_a_share(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["lockstep.py", "--rounds", "5", "--retention", "0.4,0.6", "--layers", "3", "--hidden", "48"])
    lockstep.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["0.40", "0.60"] and "2 x 2 rounds" in lines[0]
    assert np.array(json.loads(lines[2])["0.60"]).shape == (4, 2, 5)
    monkeypatch.setattr("sys.argv", ["lockstep.py", "--rounds", "3"])
    with pytest.raises(SystemExit):
        lockstep.main()


def test_ratios_by_hand():
    laps = np.array([[[1.0, 3.0], [1.0, 2.0]], [[2.0, 2.0], [4.0, 5.0]]])  # two rounds, two layers
    assert lockstep.ratios_of(laps) == pytest.approx([(3 / 4 * 9 / 4) ** 0.5])
    assert lockstep.fastest(laps) == pytest.approx((1 + 2) / (1 + 2))
    assert lockstep.fastest(laps[:1]) == 3 / 4


def test_what_fails_in_one_is_raised_and_the_other_ends():
    model = build_decoder(SHAPE, torch.float32, "cpu")
    models, (embeds, mask) = over_the_same_weights(model, 2), build_prompt(SHAPE, torch.float32, "cpu")
    policy = AutoPrune(retention=0.4)
    broken = lockstep.Runner(models[1], policy, embeds[..., :16], mask)
    with pytest.raises(RuntimeError):
        lockstep.both(lockstep.Runner(models[0], policy, embeds, mask), broken)
    assert not any(module._forward_pre_hooks for module in models[0].modules())
