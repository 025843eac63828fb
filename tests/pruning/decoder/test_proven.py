"""Every text model type of transformers: pruned like its full-length twin, or refused in one line; none silently different."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaModel

from senna_autoprune import AutoPrune, SennaPruneError
from senna_autoprune.pruning.decoder.check import check_decoder, proof_of
from senna_autoprune.pruning.decoder.full_length import full_length, hidden_tokens
from senna_autoprune.pruning.decoder.proven import LOOKAHEAD, PROVEN, REFUSED
from senna_autoprune.pruning.methods.registry import build_policy
from tests.models import six_blocks, tiny_llama
from tests.pruning.decoder.zoo import TYPES, tiny_model
from tests.twins import MaskedDecoder

VISION = {"qwen2_5_vl_text", "qwen3_vl_text"}  # proved with their images: tests/pruning/multimodal/


@pytest.mark.parametrize("kind", TYPES)
def test_equal_or_refused(kind):
    try:
        model = tiny_model(kind)
    except Exception as error:  # each configuration has its own way of not being buildable
        assert kind not in PROVEN, error
        return
    if kind not in PROVEN:
        with pytest.raises(SennaPruneError) as refused, AutoPrune(retention=0.4)(model):
            pass
        assert "\n" not in str(refused.value)
        return
    assert kind not in REFUSED
    check = check_decoder(model.get_decoder())
    assert check.passed and check.difference < 1e-5, check
    assert check.tokens_per_layer[0] == 27 and check.tokens_per_layer[-1] == 9
    assert check.model_type == kind and check.proven
    assert check.looks_ahead == (kind in LOOKAHEAD)


def test_the_table_holds_nothing_else():
    assert set(PROVEN) - VISION <= set(TYPES) and set(PROVEN) >= LOOKAHEAD
    assert not set(PROVEN) & set(REFUSED)


def test_the_twin_on_the_same_model_is_the_twin_written_out():
    """The stock model under masks equals the layers in plain arithmetic (tests/twins.py)."""
    model = tiny_llama(groups=2)
    embeds, mask = six_blocks()
    with AutoPrune(retention=0.3)(model, visual_mask=mask) as trace, torch.no_grad():
        model(inputs_embeds=embeds)
    with full_length(model.model, hidden_tokens(list(trace), mask, embeds.shape[1])), torch.no_grad():
        ours = model(inputs_embeds=embeds, use_cache=False).logits[0]
    written = MaskedDecoder(model).logits(embeds[0], trace[0].kept, mask[0].nonzero().flatten())
    assert (ours - written).abs().max() <= 1e-5 * written.abs().max()
    assert model.config._attn_implementation == "sdpa" and not any(layer._forward_pre_hooks for layer in model.model.layers)


class Llama2(LlamaModel):
    """Another decoder, since it has a ``forward`` of its own."""

    def forward(self, input_ids=None, inputs_embeds=None, **kwargs):
        embeds = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        return super().forward(inputs_embeds=embeds, **kwargs)


def with_decoder(cls):
    model = tiny_llama(layers=4)
    model.model.__class__ = cls
    return model


def test_a_type_that_nobody_proved_is_checked_first():
    model, (embeds, mask) = with_decoder(Llama2), six_blocks()
    with pytest.raises(SennaPruneError, match=r"\(Llama2\).*was not proved.*allow_unproven=True"), AutoPrune(retention=0.3)(model):
        pass
    with pytest.raises(SennaPruneError, match="was not proved"), AutoPrune(retention=0.3)(model, visual_mask=mask):
        pass
    said = proof_of(model)["self_check"]  # as at the beginning of a run
    assert said.startswith("llama is not proven; in the short check it differs by") and proof_of(tiny_llama(layers=2)) == {}
    with AutoPrune(retention=0.3)(model, visual_mask=mask, allow_unproven=True) as trace, torch.no_grad():
        model(inputs_embeds=embeds)
    assert min(trace[0].tokens_per_layer) < 96


class Shifted(Llama2):
    """Its layers count the tokens that they see, as no pruned sequence may be counted."""


@contextmanager
def shifting(model):
    def shift(layer, args, kwargs):
        places = torch.arange(args[0].shape[1], dtype=args[0].dtype)[None, :, None]
        return (args[0] + 0.1 * places, *args[1:]), kwargs

    handle = model.model.layers[2].register_forward_pre_hook(shift, with_kwargs=True)
    yield
    handle.remove()


def test_one_that_prunes_wrongly_is_refused():
    model = with_decoder(Shifted)
    with shifting(model):
        with pytest.raises(SennaPruneError, match=r"does not prune rightly: .* differs from its full-length twin"):
            AutoPrune(retention=0.3)(model, allow_unproven=True).__enter__()
        assert not check_decoder(model.model).passed
        with pytest.raises(SennaPruneError, match="does not prune rightly"):
            proof_of(model)


def test_known_ones_are_refused_whatever_is_allowed():
    model = tiny_llama(layers=2)
    model.config.model_type = "paligemma"
    with pytest.raises(SennaPruneError, match="'paligemma' cannot be pruned: its image tokens see each other in both directions"):
        AutoPrune(retention=0.5)(model, allow_unproven=True).__enter__()


@pytest.mark.parametrize("extra", [{"per_layer_inputs": torch.ones(1, 120, 2)}, {"states": [torch.ones(2)]}])
def test_what_is_not_cut_with_the_tokens_is_refused(extra):
    model, (embeds, mask) = tiny_llama(layers=2), six_blocks()
    with pytest.raises(SennaPruneError, match=f"was given {next(iter(extra))}"), AutoPrune(retention=0.5)(model, visual_mask=mask):
        model(inputs_embeds=embeds, **extra)


def test_a_mask_of_two_directions_is_refused():
    model, (embeds, mask) = tiny_llama(layers=2), six_blocks()
    length = embeds.shape[1]
    both = {"full_attention": torch.ones(1, 1, length, length, dtype=torch.bool)}
    for prepared in (both, both["full_attention"]):
        with pytest.raises(SennaPruneError, match="prepared"), AutoPrune(retention=0.5)(model, visual_mask=mask):
            model(inputs_embeds=embeds, attention_mask=prepared)


def test_looking_ahead_is_refused_where_layers_do_otherwise():
    model, (embeds, mask) = tiny_model("smollm3"), six_blocks()
    policy = build_policy("pyramiddrop", retention=0.5)
    with pytest.raises(SennaPruneError, match="cannot be told before it runs in 'smollm3'"), policy(model, visual_mask=mask):
        model(inputs_embeds=embeds)


def test_encoders_of_llamas_class_are_refused():
    model = tiny_model("gemma3_text")
    model.config.use_bidirectional_attention = True
    with pytest.raises(SennaPruneError, match="was not proved"):
        AutoPrune(retention=0.5)(model).__enter__()
