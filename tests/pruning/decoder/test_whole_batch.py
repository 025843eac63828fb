"""An unpruned batch attends prompt by prompt: as each prompt alone, with no mask; what is no such batch runs as it is."""

from __future__ import annotations

import pytest
import torch

from senna_autoprune.bench.batches import pad
from senna_autoprune.pruning.decoder import attention
from senna_autoprune.pruning.decoder.whole_batch import one_prompt_at_a_time
from tests.models import six_blocks, tiny_llama


@pytest.fixture
def alone():
    return [six_blocks(after=after, seed=after) for after in (7, 12, 9)]


@pytest.fixture
def kernels(monkeypatch):
    """Batch sizes and masks that the stock kernel is given."""
    seen = []
    stock = attention._kernel

    def kernel(implementation, module):
        def counted(module, query, key, value, mask, **kwargs):
            seen.append((query.shape[0], query.shape[2], mask is not None))
            return stock(implementation, module)(module, query, key, value, mask, **kwargs)

        return counted

    monkeypatch.setattr(attention, "_kernel", kernel)
    return seen


@pytest.mark.parametrize("groups", [4, 2])
def test_a_batch_is_its_prompts_alone(alone, kernels, groups):
    model = tiny_llama(groups=groups)
    embeds, _, valid = pad(alone)
    with torch.no_grad():
        with one_prompt_at_a_time(model) as there:
            output = model(inputs_embeds=embeds, attention_mask=valid, use_cache=True, logits_to_keep=1)
            prefill = list(kernels)
            step = torch.cat([valid, valid[:, -1:]], dim=1)
            after = model(input_ids=torch.tensor([[5], [5], [5]]), attention_mask=step, past_key_values=output.past_key_values)
        assert there and {(batch, masked) for batch, _, masked in prefill} == {(1, False)}
        assert {length for _, length, _ in prefill} == {one.shape[1] for one, _ in alone}
        assert {(batch, length) for batch, length, _ in kernels[len(prefill) :]} == {(3, 1)}  # a step is one call for all
        for row, (one, _) in enumerate(alone):
            single = model(inputs_embeds=one, use_cache=True)
            assert (output.logits[row, -1] - single.logits[0, -1]).abs().max() <= 1e-5
            next_one = model(input_ids=torch.tensor([[5]]), past_key_values=single.past_key_values)
            assert (after.logits[row] - next_one.logits[0]).abs().max() <= 1e-5
    assert model.config._attn_implementation == "sdpa" and not attention._PADDED


def test_what_is_no_padded_batch_runs_as_it_is(alone, kernels):
    model, (embeds, _, valid) = tiny_llama(), pad(alone)
    with torch.no_grad():
        right = torch.zeros_like(valid)
        for row, (one, _) in enumerate(alone):
            right[row, : one.shape[1]] = 1
        for mask in (right, None, torch.ones_like(valid)):
            stock = model(inputs_embeds=embeds, attention_mask=mask).logits
            with one_prompt_at_a_time(model):
                assert torch.equal(model(inputs_embeds=embeds, attention_mask=mask).logits, stock)
        assert {batch for batch, _, _ in kernels} == {3}
        with one_prompt_at_a_time(tiny_llama(attention="eager")) as there:
            assert not there
        with one_prompt_at_a_time(torch.nn.Linear(2, 2)) as there:
            assert not there
    assert not model._forward_pre_hooks and not model.model._forward_pre_hooks


def test_a_forward_that_failed_leaves_nothing_to_the_next(alone):
    model, (embeds, _, valid) = tiny_llama(), pad(alone)

    def fail(*_):
        raise ValueError("half-way")

    with torch.no_grad(), one_prompt_at_a_time(model):
        hook = model.model.layers[2].register_forward_pre_hook(fail)
        with pytest.raises(ValueError, match="half-way"):
            model(inputs_embeds=embeds, attention_mask=valid)
        hook.remove()
        assert attention._PADDED
        single = model(inputs_embeds=embeds[:1, :6])
    with torch.no_grad():
        assert torch.equal(single.logits, model(inputs_embeds=embeds[:1, :6]).logits)
