"""Every method x what a method must do. A new method costs one row in METHODS and, in twins.py, one slow rule."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch

from senna_autoprune import SennaPruneError
from senna_autoprune.pruning.methods.registry import METHODS, build_policy
from tests.models import six_blocks, tiny_llama
from tests.pruning.methods.twins import SLOW, dart_inside, slow_run

LAYERS, VISUAL = 8, 48
RETENTIONS = (0.3, 0.45, 0.7)
LAYOUTS = ("six blocks", "one block", "one view")


def prompt(layout):
    """Embeddings (1, N, 32), visual mask (1, N), view sizes."""
    if layout == "one view":
        return *six_blocks(views=1, size=VISUAL, after=9), (VISUAL,)
    if layout == "one block":  # six views, no text between
        return *six_blocks(views=1, size=VISUAL, after=9), (8,) * 6
    return *six_blocks(views=6, size=8, after=9), (8,) * 6


@lru_cache
def model():
    return tiny_llama(layers=LAYERS)


@lru_cache
def run(name, layout, retention, **options):
    """Trace, output, and the input of every layer."""
    embeds, mask, sizes = prompt(layout)
    cls_scores = torch.rand(1, VISUAL, generator=torch.Generator().manual_seed(5))
    policy, inputs = build_policy(name, retention=retention, **options), []
    with policy(model(), visual_mask=mask, cls_scores=cls_scores, view_sizes=sizes) as trace, torch.no_grad():
        handles = [
            layer.register_forward_pre_hook(lambda module, args, kwargs: inputs.append(args[0][0]), with_kwargs=True)
            for layer in model().model.layers
        ]
        output = model()(inputs_embeds=embeds, use_cache=True)
        for handle in handles:
            handle.remove()
    return trace[0], output, inputs


def test_every_method_has_its_slow_twin():
    assert set(SLOW) == set(METHODS)


every_method = pytest.mark.parametrize("name", METHODS)
every_layout = pytest.mark.parametrize("layout", LAYOUTS)
every_retention = pytest.mark.parametrize("retention", RETENTIONS)


@every_retention
@every_layout
@every_method
def test_budget_is_met(name, layout, retention):
    sample, _, _ = run(name, layout, retention)
    assert sample.average_tokens == pytest.approx(retention * VISUAL, abs=0.5)
    assert sample.visual_tokens == VISUAL and sample.view_sizes == prompt(layout)[2]
    assert all(before >= now for before, now in zip(sample.tokens_per_layer, sample.tokens_per_layer[1:], strict=False))


@every_layout
@every_method
def test_text_is_never_dropped(name, layout):
    embeds, mask, _ = prompt(layout)
    sample, output, inputs = run(name, layout, 0.3)
    text = embeds[0, ~mask[0]]
    assert [len(states) - count for states, count in zip(inputs, sample.tokens_per_layer, strict=True)] == [len(text)] * LAYERS
    assert output.logits.shape[1] == len(text) + sample.tokens_leaving
    rows = [row for row in inputs[0] if any(torch.equal(row, word) for word in text)]
    assert torch.equal(torch.stack(rows), text)  # all of it, in its order


@every_layout
@every_method
def test_order_is_kept(name, layout):
    sample, _, inputs = run(name, layout, 0.45)
    embeds, mask, _ = prompt(layout)
    for kept in sample.kept:
        assert kept.tolist() == sorted(set(kept.tolist()))
    for above, kept in zip(sample.kept, sample.kept[1:], strict=False):
        assert set(kept.tolist()) <= set(above.tolist())
    visual, first = embeds[0, mask[0]], iter(inputs[0])
    for index in sample.kept[0].tolist():  # a subsequence of layer 0's input, unchanged
        assert any(torch.equal(row, visual[index]) for row in first)


@every_layout
@every_method
def test_cache_really_shrinks(name, layout):
    sample, output, _ = run(name, layout, 0.3)
    layers = output.past_key_values.layers
    assert [layer.keys.shape[2] for layer in layers] == [count + sample.text_tokens for count in sample.tokens_per_layer]
    assert sample.kv_bytes == sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)
    assert sample.flops_pruned < 0.75 * sample.flops_full


@every_retention
@every_layout
@every_method
def test_slow_twin_is_equal(name, layout, retention):
    embeds, mask, sizes = prompt(layout)
    sample, output, _ = run(name, layout, retention)
    scores = torch.rand(1, VISUAL, generator=torch.Generator().manual_seed(5))[0].tolist()
    compact = build_policy(name, retention=retention).positions == "compact"
    names, logits = slow_run(
        model(), embeds[0], mask[0], SLOW[name], counts=sample.tokens_per_layer, compact=compact, sizes=sizes, scores=scores
    )
    assert [[max(int(name), -1) for name in ids] for ids in sample.ids] == names
    scale = logits.abs().max()
    assert (output.logits[0, -1] - logits).abs().max() <= 2e-4 * scale


@every_layout
def test_dart_inside_the_decoder_is_its_twin(layout):
    embeds, mask, sizes = prompt(layout)
    sample, output, _ = run("dart", layout, 0.45, layer=2)
    assert sample.tokens_per_layer[:3] == [VISUAL, VISUAL, sample.tokens_per_layer[-1]] and sample.tokens_per_layer[2] < VISUAL
    assert sample.average_tokens == pytest.approx(0.45 * VISUAL, abs=0.5)
    names, logits = slow_run(
        model(), embeds[0], mask[0], dart_inside, counts=sample.tokens_per_layer, compact=False, sizes=sizes, scores=[0.0] * VISUAL
    )
    assert [ids.tolist() for ids in sample.ids] == names
    assert (output.logits[0, -1] - logits).abs().max() <= 2e-4 * logits.abs().max()


@every_layout
@every_method
def test_everything_kept_is_token_identical(name, layout):
    embeds, mask, sizes = prompt(layout)
    options = {"inputs_embeds": embeds, "max_new_tokens": 8, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    plain = model().generate(**options)
    cls_scores = torch.rand(1, VISUAL)
    with build_policy(name, retention=1.0)(model(), visual_mask=mask, cls_scores=cls_scores, view_sizes=sizes) as trace:
        pruned = model().generate(**options)
    assert pruned.sequences.tolist() == plain.sequences.tolist()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(pruned.logits, plain.logits, strict=True))
    assert trace[0].tokens_per_layer == [VISUAL] * LAYERS


@every_method
def test_batch_equals_batch_of_one(name):
    """Two questions about two scenes, padded on the left: same tokens, same logits as one by one."""
    prompts = [(*six_blocks(size=8, after=9, seed=1)[:2],), (*six_blocks(size=8, after=4, seed=2)[:2],)]
    scores = torch.rand(2, VISUAL, generator=torch.Generator().manual_seed(3))
    options = {"max_new_tokens": 6, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}
    single = []
    for row, (embeds, mask) in enumerate(prompts):
        with build_policy(name, retention=0.4)(model(), visual_mask=mask, cls_scores=scores[row : row + 1]) as trace:
            single.append((model().generate(inputs_embeds=embeds, **options), trace[0]))
    longest = max(embeds.shape[1] for embeds, _ in prompts)
    padded, masks, valid = torch.zeros(2, longest, 32), torch.zeros(2, longest).bool(), torch.zeros(2, longest).long()
    for row, (embeds, mask) in enumerate(prompts):
        padded[row, -embeds.shape[1] :], masks[row, -embeds.shape[1] :], valid[row, -embeds.shape[1] :] = embeds[0], mask[0], 1
    with build_policy(name, retention=0.4)(model(), visual_mask=masks, cls_scores=scores) as trace:
        both = model().generate(inputs_embeds=padded, attention_mask=valid, **options)
    for row, (alone, sample) in enumerate(single):
        assert both.sequences[row].tolist() == alone.sequences[0].tolist()
        assert [ids.tolist() for ids in trace[row].ids] == [ids.tolist() for ids in sample.ids]
        for ours, theirs in zip(both.logits, alone.logits, strict=True):
            assert (ours[row] - theirs[0]).abs().max() <= 1e-4 * theirs.abs().max()


def prefill(policy):
    embeds, mask, sizes = prompt("six blocks")
    with policy(model(), visual_mask=mask, cls_scores=torch.rand(1, VISUAL), view_sizes=sizes) as trace, torch.no_grad():
        model()(inputs_embeds=embeds)
    return trace[0]


@every_method
def test_flops_budget_is_met_from_below(name):
    sample = prefill(build_policy(name, flops=0.7))
    assert 0.66 < sample.flops_pruned / sample.flops_full <= 0.7


@pytest.mark.parametrize("budget", ["retention", "flops"])
@every_method
def test_impossible_budget_names_the_nearest_and_that_works(name, budget):
    with pytest.raises(SennaPruneError, match="nearest") as error:
        prefill(build_policy(name, **{budget: 0.005}))
    nearest = float(str(error.value).rstrip(")").split()[-1])
    sample = prefill(build_policy(name, **{budget: nearest}))
    if budget == "retention":
        assert sample.average_tokens == pytest.approx(nearest * VISUAL, abs=0.5)
    assert sample.tokens_per_layer[-1] == 1
