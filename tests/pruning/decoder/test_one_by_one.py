"""A padded batch attends prompt by prompt on the CPU: as each prompt alone, without a mask, its text rows computed once."""

from __future__ import annotations

import pytest
import torch

from senna_autoprune import AutoPrune, build_policy
from senna_autoprune.bench.batches import pad
from senna_autoprune.pruning.context import PromptLayout
from senna_autoprune.pruning.decoder import attention, one_by_one, rows_once
from tests.models import six_blocks, tiny_llama


@pytest.fixture
def prompts():
    """Three of different lengths, left-padded together."""
    return [six_blocks(after=after, seed=after) for after in (7, 12, 9)]


@pytest.fixture
def calls(monkeypatch):
    """What attended prompt by prompt: starts of the padding, and whether rows came with it."""
    seen = []
    plain = one_by_one.attend

    def attend(kernel, module, states, padding, *args):
        output, rows = plain(kernel, module, states, padding, *args)
        seen.append((list(padding.starts), rows is not None))
        return output, rows

    monkeypatch.setattr(one_by_one, "attend", attend)
    return seen


def prefill(model, policy, embeds, visual, valid):
    with policy(model, visual_mask=visual) as trace, torch.no_grad():
        output = model(inputs_embeds=embeds, attention_mask=valid, use_cache=True, logits_to_keep=1)
    return output, trace


@pytest.mark.parametrize("block", [1, rows_once.BLOCK])
@pytest.mark.parametrize("groups", [4, 2])
@pytest.mark.parametrize(("name", "options"), [("autoprune", {}), ("autoprune", {"revival": "merge"}), ("fastv", {}), ("random", {})])
def test_a_batch_is_its_prompts_alone(prompts, calls, groups, name, options, block, monkeypatch):
    """Prompts this short are computed without the kernel, unless blocks are shorter."""
    monkeypatch.setattr(rows_once, "BLOCK", block)
    model = tiny_llama(groups=groups)
    policy = build_policy(name, retention=0.4, **options)
    embeds, visual, valid = pad(prompts)
    together, traces = prefill(model, policy, embeds, visual, valid)
    assert len(calls) == 8 and calls[0][0] == [5, 0, 3]
    assert all(min(starts) == 0 for starts, _ in calls)
    by_product = [rows for _, rows in calls]
    assert any(by_product) == (groups == 4 and name == "autoprune")
    for sample, (one, mask) in enumerate(prompts):
        alone, trace = prefill(model, policy, one, mask, None)
        assert [ids.tolist() for ids in trace[0].ids] == [ids.tolist() for ids in traces[sample].ids]
        scale = alone.logits.abs().max()
        assert (together.logits[sample] - alone.logits[0]).abs().max() <= 1e-5 * scale
        for layer, single in zip(together.past_key_values.layers, alone.past_key_values.layers, strict=True):
            own = layer.values[sample, :, layer.values.shape[2] - single.values.shape[2] :]
            assert (own - single.values[0]).abs().max() <= 1e-4 * single.values.abs().max()
    assert len(calls) == 8  # a prompt alone goes its own way


def test_no_kernel_is_given_a_mask(prompts, monkeypatch):
    monkeypatch.setattr(rows_once, "BLOCK", 1)
    masks = []
    stock = attention._kernel

    def kernel(implementation, module):
        plain = stock(implementation, module)

        def counted(module, query, key, value, mask, **kwargs):
            masks.append((mask, query.shape[0]))
            return plain(module, query, key, value, mask, **kwargs)

        return counted

    monkeypatch.setattr(attention, "_kernel", kernel)
    prefill(tiny_llama(), AutoPrune(retention=0.4), *pad(prompts))
    assert len(masks) == 8 * 3 and all(mask is None and batch == 1 for mask, batch in masks)


@pytest.mark.parametrize("banded", [0, rows_once.BANDED])
@pytest.mark.parametrize("block", [1, 2, 6, 32])
def test_the_weights_are_of_each_prompt_alone(block, banded, monkeypatch):
    monkeypatch.setattr(rows_once, "BANDED", banded)
    monkeypatch.setattr(rows_once, "BLOCK", block)
    torch.manual_seed(0)
    module = tiny_llama().model.layers[0].self_attn
    states = tuple(torch.randn(2, 4, 20, 8) for _ in range(3))
    padding = one_by_one.Padding([6, 0], rows_once.future(5, 20, "cpu"))
    kernel = attention._kernel("sdpa", module)
    layouts = [PromptLayout(torch.arange(3), torch.arange(0), torch.arange(0), torch.arange(0), asking) for asking in (3, 5)]
    torch.use_deterministic_algorithms(True)  # memory that nobody wrote to is NaN
    try:
        output, rows = one_by_one.attend(kernel, module, states, padding, {"scaling": 0.3}, layouts)
    finally:
        torch.use_deterministic_algorithms(False)
    assert rows is not None and [one.layout for one in rows] == layouts
    assert [(tuple(one.weights.shape), one.start) for one in rows] == [((4, 3, 14), 6), ((4, 5, 20), 0)]
    again, ranks = one_by_one.attend(
        kernel, module, states, padding, {"scaling": 0.3}, layouts, None, rows_once.Means(torch.zeros(2, 20), (3, 5))
    )
    assert isinstance(ranks, torch.Tensor) and ranks.shape == (2, 20)
    for sample, start in enumerate(padding.starts):
        assert torch.allclose(ranks[sample, start:], rows[sample].weights.mean((0, 1)), atol=1e-6)
        assert torch.allclose(again[sample, start:], output[sample, start:], atol=1e-6)
    assert output[0, :6].isfinite().all()
    for sample, start in enumerate(padding.starts):
        query, key, value = (part[sample, :, start:].double() for part in states)
        scores = query @ key.transpose(1, 2) * 0.3
        future = torch.ones(scores.shape[1:], dtype=torch.bool).triu(1)
        weights = scores.masked_fill(future, float("-inf")).softmax(-1)
        assert (rows[sample].weights - weights[:, -rows[sample].weights.shape[1] :]).abs().max() <= 1e-6
        assert (output[sample, start:].transpose(0, 1) - weights @ value).abs().max() <= 1e-5


def test_what_is_not_plain_stays_together(prompts, calls):
    embeds, visual, valid = pad(prompts)
    model = tiny_llama()
    with torch.no_grad():
        stock = model(inputs_embeds=embeds, attention_mask=valid, use_cache=True, logits_to_keep=1).logits
    kept, _ = prefill(model, AutoPrune(retention=1.0), embeds, visual, valid)
    assert torch.equal(kept.logits, stock) and not calls  # every token stays: as stock, to the bit
    prefill(tiny_llama(attention="eager"), AutoPrune(retention=0.4), embeds, visual, valid)
    with AutoPrune(retention=0.4)(model, visual_mask=visual):
        model(inputs_embeds=embeds.clone().requires_grad_(), attention_mask=valid).logits.sum().backward()
    assert not calls
    right, marks = torch.zeros_like(embeds), torch.zeros_like(visual)
    there, labels = torch.zeros_like(valid), torch.full_like(valid, -100)
    for row, (one, mask) in enumerate(prompts):
        right[row, : one.shape[1]], marks[row, : one.shape[1]], there[row, : one.shape[1]] = one[0], mask[0], 1
        labels[row, one.shape[1] - 3 : one.shape[1]] = 3
    with AutoPrune(retention=0.4)(model, visual_mask=marks), torch.no_grad():
        model(inputs_embeds=right, attention_mask=there, labels=labels)
    assert not calls
