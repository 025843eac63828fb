"""A window of Mistral counts positions of the prompt as it was, whatever has been pruned out of it."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch
from transformers import DynamicCache, MistralConfig, MistralForCausalLM

from senna_autoprune import AutoPrune, SennaPruneError
from senna_autoprune.pruning.budget import solve_tokens
from senna_autoprune.pruning.decoder import lookahead
from senna_autoprune.pruning.methods.registry import build_policy
from senna_autoprune.pruning.parts.curves import CurveParameters, retention_curve
from tests.models import six_blocks
from tests.twins import MaskedDecoder

STEPS, LAYERS = 12, 6


@lru_cache
def mistral(window, attention="sdpa"):
    torch.manual_seed(0)
    config = MistralConfig(
        hidden_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        vocab_size=64,
        sliding_window=window,
        attn_implementation=attention,
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
    )
    model = MistralForCausalLM(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.mul_(12 if "q_proj" in name or "k_proj" in name else 4)
    return model


def short_prompt():
    """66 positions, 48 of them visual in six blocks."""
    return six_blocks(size=8, between=1, after=7)


def generate(model, embeds, **options):
    output = model.generate(
        inputs_embeds=embeds, max_new_tokens=STEPS, do_sample=False, return_dict_in_generate=True, output_logits=True, **options
    )
    return output.sequences, torch.stack(output.logits, 1)


def close(ours, theirs, tolerance=1e-5):
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max().clamp_min(1)


# narrower than the prompt; crossed while decoding, with what is left in the cache far below it; never reached
@pytest.mark.parametrize("window", [20, 70, 500])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("method", ["autoprune", "fastv", "random"])
def test_masked_full_length_twin_is_equal(method, attention, window):
    model, (embeds, mask) = mistral(window, attention), short_prompt()
    with build_policy(method, retention=0.5)(model, visual_mask=mask) as trace, torch.no_grad():
        first = model(inputs_embeds=embeds, use_cache=True).logits[0, -1]
        tokens, logits = generate(model, embeds)
        by_hand = model(inputs_embeds=embeds, past_key_values=DynamicCache(), use_cache=True).logits[0, -1]  # layers without a window
    visual = mask[0].nonzero().flatten()
    expected_tokens, expected = MaskedDecoder(model, window=window).generate(embeds[0], trace[0].kept, visual, STEPS)
    close(first, expected[0])
    close(by_hand, expected[0])
    assert tokens[0].tolist() == expected_tokens
    close(logits[0], expected)


@pytest.mark.parametrize("window", [20, 50])
def test_scores_see_no_further_than_the_window(window):
    model, (embeds, mask) = mistral(window), short_prompt()
    with AutoPrune(retention=0.4)(model, visual_mask=mask) as trace, torch.no_grad():
        model(inputs_embeds=embeds)

    def schedule(information):
        eq8 = CurveParameters.for_depth(LAYERS)
        total = int(0.4 * 48 * LAYERS + 0.5)
        curve = retention_curve("logistic", eq8.steepness(information), eq8.inflexion(information), LAYERS, total)
        return [48, *solve_tokens([float(curve(layer)) for layer in range(1, LAYERS)], 48, total)]

    twin = MaskedDecoder(model, window=window)
    kept, information = twin.paper_schedule(embeds[0], mask[0].nonzero().flatten(), schedule)
    assert trace[0].mutual_information == pytest.approx(information, rel=1e-4)
    assert [layer.tolist() for layer in trace[0].kept] == [layer.tolist() for layer in kept]


@pytest.mark.parametrize("mode", ["paper", "release"])
def test_lookahead_sees_no_further_than_the_window(mode, monkeypatch):
    """Before anything is dropped: the scores are the last row of the coming layer's whole attention matrix."""
    model, (embeds, mask), seen = mistral(20), short_prompt(), []
    plain = lookahead.next_layer_attention

    def peek(context):
        seen.append((context.hidden.clone(), context.boundary, plain(context)))
        return seen[-1][2]

    monkeypatch.setattr("senna_autoprune.pruning.methods.pyramiddrop.next_layer_attention", peek)
    budget = {"retention": 0.6} if mode == "paper" else {"mode": "release", "layer_list": (2,), "ratio_list": (0.5,)}
    with build_policy("pyramiddrop", **budget)(model, visual_mask=mask), torch.no_grad():
        model(inputs_embeds=embeds)
    hidden, layer, scores = seen[0]
    everything = torch.ones(len(hidden), dtype=torch.bool)
    with torch.no_grad():
        _, attention = MaskedDecoder(model, window=20).layer(layer, hidden, everything, torch.arange(len(hidden)))
    close(scores, attention[:, -1, mask[0]].mean(0))
    assert (scores == 0).sum() == (mask[0, :-20]).sum()


@pytest.mark.parametrize("window", [20, 30, 70])
def test_renumbered_positions_equal_the_stock_model_on_what_is_left(window):
    model, (embeds, mask) = mistral(window), short_prompt()
    with build_policy("divprune", retention=0.5)(model, visual_mask=mask) as trace:
        tokens, logits = generate(model, embeds)
    left = ~mask[0]
    left[mask[0].nonzero().flatten()[trace[0].kept[0]]] = True
    expected_tokens, expected = generate(model, embeds[:, left])
    assert torch.equal(tokens, expected_tokens)
    close(logits, expected)


@pytest.mark.parametrize("window", [20, 70])
@pytest.mark.parametrize("method", ["autoprune", "random", "divprune"])
def test_ragged_batch_equals_batch_of_one(method, window):
    model, prompts = mistral(window), [short_prompt(), six_blocks(views=4, size=9, after=12, seed=2)]
    policy, single = build_policy(method, retention=0.4), []
    for embeds, mask in prompts:
        with policy(model, visual_mask=mask):
            single.append(generate(model, embeds))
    longest = max(embeds.shape[1] for embeds, _ in prompts)
    padded, masks, valid = torch.zeros(2, longest, 32), torch.zeros(2, longest).bool(), torch.zeros(2, longest).long()
    for row, (embeds, mask) in enumerate(prompts):
        padded[row, -embeds.shape[1] :], masks[row, -embeds.shape[1] :], valid[row, -embeds.shape[1] :] = embeds[0], mask[0], 1
    with policy(model, visual_mask=masks):
        tokens, logits = generate(model, padded, attention_mask=valid)
    for row, (alone, alone_logits) in enumerate(single):
        assert torch.equal(tokens[row], alone[0])
        close(logits[row], alone_logits[0], 1e-4)


@pytest.mark.parametrize("window", [20, 70])
def test_everything_kept_is_bit_identical(window):
    model, (embeds, mask) = mistral(window), short_prompt()
    plain = generate(model, embeds)
    with AutoPrune(retention=1.0)(model, visual_mask=mask):
        pruned = generate(model, embeds)
    assert torch.equal(plain[0], pruned[0]) and torch.equal(plain[1], pruned[1])


def test_several_tokens_in_one_step_across_the_window():
    model, (embeds, mask), more = mistral(70), short_prompt(), torch.tensor([[3, 9, 4, 7, 8, 2]])
    with build_policy("random", retention=0.25)(model, visual_mask=mask) as trace, torch.no_grad():
        cache = model(inputs_embeds=embeds, use_cache=True).past_key_values
        logits = model(input_ids=more, past_key_values=cache, use_cache=True).logits[0]
    longer = torch.cat([embeds[0], model.get_input_embeddings()(more[0])])
    expected = MaskedDecoder(model, window=70).logits(longer, trace[0].kept, mask[0].nonzero().flatten())[-6:]
    close(logits, expected)


def test_flash_counts_its_window_otherwise_and_is_refused():
    model, (embeds, mask) = mistral(20), short_prompt()
    policy = AutoPrune(retention=0.5)
    before = model.config._attn_implementation
    model.config._attn_implementation_internal = "flash_attention_2"
    try:
        with pytest.raises(SennaPruneError, match="load it with attn_implementation='sdpa'"), policy(model, visual_mask=mask):
            model(inputs_embeds=embeds)
    finally:
        model.config._attn_implementation_internal = before
