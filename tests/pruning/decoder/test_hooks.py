"""True pruning equals a full-length decoder with masked keys, and leaves the model as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from senna_autoprune import AutoPrune, SennaPruneError
from senna_autoprune.pruning.methods.controls import RandomPruning, UniformPruning
from tests.models import six_blocks, tiny_llama
from tests.twins import MaskedDecoder

STEPS = 16


def generate(model, embeds, **options):
    output = model.generate(
        inputs_embeds=embeds, max_new_tokens=STEPS, do_sample=False, return_dict_in_generate=True, output_logits=True, **options
    )
    return output.sequences[0].tolist(), torch.stack([row[0] for row in output.logits]), output


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("groups", [4, 2])
@pytest.mark.parametrize("policy", [AutoPrune, RandomPruning, UniformPruning])
def test_prefill_and_decode_equal_the_masked_twin(policy, groups, attention):
    model = tiny_llama(groups=groups, attention=attention)
    embeds, mask = six_blocks()
    with policy(retention=0.3)(model, visual_mask=mask) as trace, torch.no_grad():
        prefill = model(inputs_embeds=embeds, use_cache=True).logits[0, -1]
        tokens, logits, _ = generate(model, embeds)
    visual = mask[0].nonzero().flatten()
    twin = MaskedDecoder(model)
    assert trace[0].average_tokens == pytest.approx(0.3 * 96, abs=0.5)
    assert min(trace[0].tokens_per_layer) < 96
    assert (twin.logits(embeds[0], trace[0].kept, visual)[-1] - prefill).abs().max() <= 1e-5 * prefill.abs().max().clamp_min(1)
    expected_tokens, expected = twin.generate(embeds[0], trace[1].kept, visual, STEPS)
    assert tokens == expected_tokens
    assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max().clamp_min(1)


FLEX = """
import torch
from senna_autoprune import AutoPrune
from tests.models import six_blocks, tiny_llama
from tests.twins import MaskedDecoder
model = tiny_llama(hidden=64, attention="flex_attention")
embeds, mask = six_blocks(hidden=64)
with AutoPrune(retention=0.3)(model, visual_mask=mask) as trace, torch.no_grad():
    logits = model(inputs_embeds=embeds, use_cache=True).logits[0, -1]
expected = MaskedDecoder(model).logits(embeds[0], trace[0].kept, mask[0].nonzero().flatten())[-1]
assert min(trace[0].tokens_per_layer) < 96
assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max().clamp_min(1)
"""


def test_flex_attention_stays_the_kernel():
    """Uncompiled, in a process of its own: compiling the kernel takes minutes on a CPU."""
    environment = {**os.environ, "TORCHDYNAMO_DISABLE": "1"}
    subprocess.run([sys.executable, "-c", FLEX], check=True, env=environment, cwd=Path(__file__).parents[3], capture_output=True)


def test_autoprune_keeps_the_tokens_that_full_attention_ranks_highest():
    from senna_autoprune.pruning.budget import solve_tokens
    from senna_autoprune.pruning.parts.curves import CurveParameters, retention_curve

    model = tiny_llama()
    embeds, mask = six_blocks()
    with AutoPrune(retention=0.4)(model, visual_mask=mask) as trace, torch.no_grad():
        model(inputs_embeds=embeds)

    def schedule(information):
        eq8 = CurveParameters.for_depth(8)
        total = int(0.4 * 96 * 8 + 0.5)
        curve = retention_curve("logistic", eq8.steepness(information), eq8.inflexion(information), 8, total)
        return [96, *solve_tokens([float(curve(layer)) for layer in range(1, 8)], 96, total)]

    kept, information = MaskedDecoder(model).paper_schedule(embeds[0], mask[0].nonzero().flatten(), schedule)
    assert trace[0].mutual_information == pytest.approx(information, rel=1e-4)
    assert [layer.tolist() for layer in trace[0].kept] == [layer.tolist() for layer in kept]


@pytest.mark.parametrize("policy", [AutoPrune(retention=1.0), RandomPruning(retention=1.0), UniformPruning(tokens=96)])
def test_everything_kept_is_token_identical(policy):
    model = tiny_llama()
    embeds, mask = six_blocks()
    plain, plain_logits, _ = generate(model, embeds)
    with policy(model, visual_mask=mask) as trace:
        pruned, pruned_logits, _ = generate(model, embeds)
    assert pruned == plain
    assert torch.equal(pruned_logits, plain_logits)
    assert trace[0].tokens_per_layer == [96] * 8
    assert trace[0].flops_pruned == trace[0].flops_full


def test_cache_of_a_layer_holds_only_what_survived():
    model = tiny_llama()
    embeds, mask = six_blocks()
    with AutoPrune(retention=0.25)(model, visual_mask=mask) as trace, torch.no_grad():
        cache = model(inputs_embeds=embeds, use_cache=True).past_key_values
    text = int((~mask).sum())
    assert [layer.keys.shape[2] for layer in cache.layers] == [count + text for count in trace[0].tokens_per_layer]
    assert trace[0].kv_bytes == sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    assert trace[0].text_tokens == text
    assert trace[0].flops_pruned < 0.6 * trace[0].flops_full


def test_no_cache_works_too():
    model = tiny_llama()
    embeds, mask = six_blocks()
    with AutoPrune(retention=0.25)(model, visual_mask=mask) as trace, torch.no_grad():
        without = model(inputs_embeds=embeds, use_cache=False).logits[0, -1]
        cached = model(inputs_embeds=embeds, use_cache=True).logits[0, -1]
    assert torch.equal(without, cached)
    assert trace[0].kv_bytes == 0


def test_model_is_untouched_afterwards_also_after_an_exception():
    model = tiny_llama()
    embeds, mask = six_blocks()
    before = generate(model, embeds)[0]
    with pytest.raises(RuntimeError, match="stop"), AutoPrune(retention=0.25)(model, visual_mask=mask):
        assert model.config._attn_implementation != "sdpa"
        raise RuntimeError("stop")
    with pytest.raises(SennaPruneError, match="nearest possible"), AutoPrune(tokens=2)(model, visual_mask=mask):
        generate(model, embeds)
    assert model.config._attn_implementation == "sdpa"
    for module in model.modules():
        assert not module._forward_pre_hooks and not module._forward_hooks
    assert generate(model, embeds)[0] == before


def test_failed_prefill_leaves_the_next_one_clean():
    model = tiny_llama()
    embeds, mask = six_blocks()
    with AutoPrune(retention=0.3)(model, visual_mask=mask) as trace:
        with pytest.raises(SennaPruneError, match="but the decoder was given 1 x 125 positions"):
            model(inputs_embeds=embeds[:, :-1])
        model(inputs_embeds=embeds)
    assert len(trace) == 1


@pytest.mark.parametrize("positions", ["original", "compact"])
@pytest.mark.parametrize("policy", [AutoPrune, RandomPruning])
def test_ragged_batch_equals_batch_of_one(policy, positions):
    model = tiny_llama()
    prompts = [six_blocks(after=7, seed=1), six_blocks(views=5, after=12, seed=2), six_blocks(views=2, size=30, after=4, seed=3)]
    method = policy(retention=0.35)
    method.positions = positions
    single = []
    for embeds, mask in prompts:
        with method(model, visual_mask=mask) as trace:
            tokens, logits, _ = generate(model, embeds)
        single.append((tokens, logits, trace[0]))
    longest = max(embeds.shape[1] for embeds, _ in prompts)
    padded = torch.zeros(3, longest, 32)
    masks, valid = torch.zeros(3, longest, dtype=torch.bool), torch.zeros(3, longest, dtype=torch.long)
    for row, (embeds, mask) in enumerate(prompts):
        padded[row, -embeds.shape[1] :] = embeds[0]
        masks[row, -embeds.shape[1] :] = mask[0]
        valid[row, -embeds.shape[1] :] = 1
    with method(model, visual_mask=masks) as trace:
        output = model.generate(
            inputs_embeds=padded,
            attention_mask=valid,
            max_new_tokens=STEPS,
            do_sample=False,
            return_dict_in_generate=True,
            output_logits=True,
        )
    for row, (tokens, logits, alone) in enumerate(single):
        assert output.sequences[row].tolist() == tokens
        assert (torch.stack([step[row] for step in output.logits]) - logits).abs().max() <= 1e-4 * logits.abs().max()
        assert trace[row].tokens_per_layer == alone.tokens_per_layer
        assert [kept.tolist() for kept in trace[row].kept] == [kept.tolist() for kept in alone.kept]


class _CountSynchronisations(TorchDispatchMode):
    """Counts the operators that make the host wait for a device."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            self.count += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("options", [{}, {"scope": "view"}, {"revival": "merge"}])
def test_host_synchronisations_do_not_grow_with_depth(options):
    counts = []
    for layers in (4, 16):
        model = tiny_llama(layers=layers)
        embeds, mask = six_blocks()
        with _CountSynchronisations() as mode, AutoPrune(retention=0.5, **options)(model, visual_mask=mask), torch.no_grad():
            model(inputs_embeds=embeds)
        with _CountSynchronisations() as plain, torch.no_grad():
            model(inputs_embeds=embeds)
        counts.append(mode.count - plain.count)
    assert counts[0] == counts[1]


def test_visual_mask_is_needed_and_text_must_follow():
    model = tiny_llama()
    embeds, mask = six_blocks()
    with pytest.raises(SennaPruneError, match="visual_mask="), AutoPrune(retention=0.5)(model):
        model(inputs_embeds=embeds)
    backwards = torch.zeros_like(mask)
    backwards[:, -4:] = True
    with pytest.raises(SennaPruneError, match="no text token after"), AutoPrune(retention=0.5)(model, visual_mask=backwards):
        model(inputs_embeds=embeds)


def test_prompt_without_visual_tokens_is_left_alone():
    model = tiny_llama()
    embeds, mask = six_blocks()
    with AutoPrune(retention=0.5)(model, visual_mask=torch.zeros_like(mask)) as trace, torch.no_grad():
        pruned = model(inputs_embeds=embeds).logits
    assert torch.equal(pruned, model(inputs_embeds=embeds).logits)
    assert trace[0].tokens_per_layer == [0] * 8


def test_manual_decode_loop_after_a_cut_before_the_decoder():
    """Without generate's position ids the decoder would count from the first layer's shortened cache."""
    model = tiny_llama()
    embeds, mask = six_blocks()
    with RandomPruning(retention=0.2)(model, visual_mask=mask) as trace, torch.no_grad():
        output = model(inputs_embeds=embeds, use_cache=True)
        first = output.logits[:, -1].argmax(-1, keepdim=True)
        second = model(input_ids=first, past_key_values=output.past_key_values, use_cache=True).logits[0, -1]
    twin = MaskedDecoder(model)
    longer = torch.cat([embeds[0], model.get_input_embeddings()(first[0])])
    expected = twin.logits(longer, trace[0].kept, mask[0].nonzero().flatten())[-1]
    assert (second - expected).abs().max() <= 1e-5 * expected.abs().max().clamp_min(1)


def test_several_tokens_in_one_decode_step():
    model = tiny_llama()
    embeds, mask = six_blocks()
    more = torch.tensor([[3, 9, 4]])
    with AutoPrune(retention=0.25)(model, visual_mask=mask) as trace, torch.no_grad():
        cache = model(inputs_embeds=embeds, use_cache=True).past_key_values
        logits = model(input_ids=more, past_key_values=cache, use_cache=True).logits[0]
    longer = torch.cat([embeds[0], model.get_input_embeddings()(more[0])])
    expected = MaskedDecoder(model).logits(longer, trace[0].kept, mask[0].nonzero().flatten())[-3:]
    assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max().clamp_min(1)


def test_per_view_scope_splits_evenly():
    model = tiny_llama()
    embeds, mask = six_blocks()
    with AutoPrune(retention=0.4, scope="view")(model, visual_mask=mask) as trace, torch.no_grad():
        model(inputs_embeds=embeds)
    for views, total in zip(trace[0].per_view, trace[0].tokens_per_layer, strict=True):
        assert sum(views) == total
        assert max(views) - min(views) <= 1


def test_merge_revival_meets_the_budget():
    model = tiny_llama()
    embeds, mask = six_blocks()
    with AutoPrune(retention=0.4, revival="merge")(model, visual_mask=mask) as trace:
        tokens = generate(model, embeds)[0]
    assert len(tokens) == STEPS
    assert trace[0].average_tokens == pytest.approx(0.4 * 96, abs=0.5)
    assert max(trace[0].merged_per_layer) > 0
    for kept, merged, total in zip(trace[0].kept, trace[0].merged_per_layer, trace[0].tokens_per_layer, strict=True):
        assert len(kept) + merged == total
