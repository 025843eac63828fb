"""The self-check passes where pruning is right, fails where it is not, and is never empty."""

from __future__ import annotations

import pytest
import torch

from senna_autoprune import SennaPruneError, self_check
from senna_autoprune.pruning.methods.registry import build_policy
from tests.models import six_blocks, tiny_llama
from tests.pruning.multimodal import tiny
from tests.pruning.multimodal.tiny import BAND, NEWER, SQUARE, batch, build, decoder_inputs, prompt
from tests.twins import MaskedDecoder

IMAGES = (SQUARE, BAND, SQUARE)


@pytest.mark.parametrize("family", ["llava", "next-window", "qwen", *NEWER])
@pytest.mark.parametrize("method", ["autoprune", "random", "divprune"])
def test_passes(method, family):
    model = tiny.model(family)
    check = self_check(model, prompt(family, IMAGES), build_policy(method, retention=0.5))
    assert check.passed and check.difference < 1e-5 and check.steps == 4 and check.reason is None
    assert check.proven and (check.kernel, check.dtype, check.device) == ("sdpa", "float32", "cpu")
    assert min(check.tokens_per_layer) < check.visual_tokens
    assert not any(layer._forward_pre_hooks for layer in model.get_decoder().layers)


@pytest.mark.parametrize("family", NEWER)
@pytest.mark.parametrize("method", ["fastv", "pyramiddrop"])
def test_newer_families_with_padding(method, family):
    """Two prompts of different lengths at once."""
    together = batch(family, [prompt(family, [SQUARE], seed=1), prompt(family, [SQUARE, BAND], seed=2, after=5)])
    check = self_check(tiny.model(family), together, build_policy(method, retention=0.5))
    assert check.passed and check.difference < 1e-5


@pytest.mark.parametrize("family", NEWER)
def test_newer_families_keep_everything_bit_for_bit(family):
    model, inputs = tiny.model(family), prompt(family, IMAGES)
    with torch.no_grad():
        plain = model(**inputs).logits
        with build_policy("autoprune", retention=1.0)(model):
            pruned = model(**inputs).logits
    assert torch.equal(plain, pruned)


@pytest.mark.parametrize(("family", "reason"), [("qwen3", "Qwen3-VL's"), ("internvl", "of four patches"), ("onevision", r"no \[CLS\]")])
def test_newer_families_without_cls_say_so(family, reason):
    model, inputs = tiny.model(family), prompt(family, [SQUARE])
    with pytest.raises(SennaPruneError, match=reason), build_policy("fastervlm", retention=0.5)(model):
        model(**inputs)


def test_agrees_with_the_twin_written_out():
    model, inputs, policy = tiny.model("llava"), prompt("llava", IMAGES), build_policy("autoprune", retention=0.5)
    embeds, positions = decoder_inputs(model, inputs)
    visual = (inputs["input_ids"][0] == tiny.IMAGE).nonzero().flatten()
    with policy(model) as trace, torch.no_grad():
        model(**inputs)
    _, written = MaskedDecoder(model, positions).generate(embeds, trace[0].kept, visual, 4)
    assert self_check(model, inputs, policy).scale == pytest.approx(float(written.abs().max()), rel=1e-5)


def test_merged_tokens_are_checked_by_a_probe():
    check = self_check(tiny.model("llava"), prompt("llava", [SQUARE]), build_policy("tome", retention=0.5))
    assert check.passed and check.method == "Probe (in place of ToMe, whose tokens no mask can show)"


def test_what_a_caller_marks_is_checked_too():
    embeds, mask = six_blocks()
    check = self_check(tiny_llama(), {"inputs_embeds": embeds}, build_policy("random", tokens=20), visual_mask=mask)
    assert check.passed and check.visual_tokens == 96 and set(check.tokens_per_layer) == {20}


@pytest.mark.parametrize("family", ["llava", "qwen3"])
def test_fails_on_a_model_broken_on_purpose(family):
    """A layer that shifts each token by its place in the sequence it is given."""
    model = build(family)

    def shift(layer, args, kwargs):
        states = args[0] if args else kwargs["hidden_states"]
        states = states + 0.1 * torch.arange(states.shape[1], dtype=states.dtype)[None, :, None]
        return ((states, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": states})

    model.get_decoder().layers[3].register_forward_pre_hook(shift, with_kwargs=True)
    check = self_check(model, prompt(family, IMAGES), build_policy("autoprune", retention=0.5))
    assert not check.passed and check.difference > 10 * check.tolerance
    assert "differs from its full-length twin" in check.reason


def test_features_left_out_between_layers_are_noticed(monkeypatch):
    monkeypatch.setattr("senna_autoprune.pruning.decoder.deepstack.DeepStack.add", lambda self, boundary, hidden, layouts: hidden)
    assert not self_check(tiny.model("qwen3"), prompt("qwen3", IMAGES), build_policy("autoprune", retention=0.5)).passed


def test_nothing_pruned_is_nothing_checked():
    check = self_check(tiny.model("llava"), prompt("llava", [SQUARE]), build_policy("autoprune", retention=1.0))
    assert not check.passed and "nothing was pruned" in check.reason


def test_other_dtypes_have_their_tolerance():
    model, inputs = build("llava").to(torch.bfloat16), prompt("llava", IMAGES)
    check = self_check(model, {**inputs, "pixel_values": inputs["pixel_values"].bfloat16()}, build_policy("random", retention=0.5))
    assert check.passed and check.dtype == "bfloat16" and check.tolerance == 0.1
