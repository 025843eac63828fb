"""Whose forward runs: wrappers of every kind, graphs compiled before and in the hooks. Equal to the model itself, or refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

from senna_autoprune import build_policy
from senna_autoprune.pruning.decoder.unwrap import running_model
from tests.models import six_blocks, tiny_llama
from tests.pruning.multimodal import tiny
from tests.pruning.multimodal.tiny import SQUARE, prompt


class Forwarding(nn.Module):
    """A user's wrapper that hands everything on, in the style of PEFT and of everybody."""

    def __init__(self, model):
        super().__init__()
        self.inner = model

    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)


class Model(PreTrainedModel):
    """A wrapper that is itself a model of transformers."""

    _supports_sdpa = True

    def __init__(self, model):
        super().__init__(model.config)
        self.chauffeur = model

    def forward(self, *args, **kwargs):
        return self.chauffeur(*args, **kwargs)

    def generate(self, *args, **kwargs):
        return self.chauffeur.generate(*args, **kwargs)


class Holder:
    """No module at all."""

    def __init__(self, model):
        self.model = model

    def __call__(self, **kwargs):
        return self.model(**kwargs)

    def generate(self, **kwargs):
        return self.model.generate(**kwargs)


WRAPPERS = {
    "forwarding": Forwarding,
    "twice": lambda model: Forwarding(Forwarding(model)),
    "a model": Model,
    "an object": Holder,
    "data parallel": nn.DataParallel,
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "compiled inside": lambda model: Forwarding(torch.compile(model, backend="eager")),
}


def answer(model, inputs):
    return model.generate(**inputs, max_new_tokens=4, do_sample=False)


@pytest.mark.parametrize("family", ["llava", "qwen"])
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapped_model_is_pruned_as_the_model_itself(wrapper, family):
    model, inputs = tiny.model(family), prompt(family, [SQUARE])
    policy = build_policy("autoprune", retention=0.4)
    with policy(model) as trace, torch.no_grad():
        expected, logits = answer(model, inputs), model(**inputs).logits
    wrapped = WRAPPERS[wrapper](model)
    assert running_model(wrapped) is model
    with policy(wrapped) as found, torch.no_grad():
        through = wrapped(**inputs).logits
        if hasattr(wrapped, "generate"):
            assert torch.equal(answer(wrapped, inputs), expected)
    assert torch.equal(through, logits)
    assert {tuple(one.tokens_per_layer) for one in found} == {tuple(trace[0].tokens_per_layer)}
    assert "generate" not in vars(model) and "get_image_features" not in vars(model.model)


def test_a_graph_compiled_before_is_not_run():
    model, (embeds, mask) = tiny_llama(layers=4), six_blocks()
    with build_policy("random", retention=0.3)(model, visual_mask=mask), torch.no_grad():
        expected = model(inputs_embeds=embeds).logits
    compiled = torch.compile(model, backend="eager")
    with torch.no_grad():
        plain = compiled(inputs_embeds=embeds).logits
        with build_policy("random", retention=0.3)(compiled, visual_mask=mask) as trace:
            pruned = compiled(inputs_embeds=embeds).logits
        again = compiled(inputs_embeds=embeds).logits
    assert len(trace) == 1
    torch.testing.assert_close(pruned, expected)
    torch.testing.assert_close(again, plain)


def in_place(model):
    model.compile(backend="eager")


def forward_only(model):
    model.forward = torch.compile(model.forward, backend="eager")


def by_layer(model):
    for layer in model.model.layers:
        layer.compile(backend="eager")


@pytest.mark.parametrize("compile_it", [in_place, forward_only, by_layer])
def test_any_compiled_part_runs_with_the_hooks(compile_it):
    model, (embeds, mask) = tiny_llama(layers=4), six_blocks()
    policy = build_policy("autoprune", retention=0.3)
    with policy(model, visual_mask=mask), torch.no_grad():
        expected = model(inputs_embeds=embeds).logits
    compile_it(model)
    with torch.no_grad():
        model(inputs_embeds=embeds)  # the graph is made without hooks
        with policy(model, visual_mask=mask) as trace:
            pruned = model(inputs_embeds=embeds).logits
    assert len(trace) == 1
    torch.testing.assert_close(pruned, expected)
