"""A cache made by hand of a pruned one's tensors: refused wherever it is used, in the with and after it. They may be measured."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from transformers import DynamicCache, StaticCache

from senna_autoprune import SennaPruneError, build_policy
from senna_autoprune.pruning.decoder.states import PrunedStates
from tests.models import six_blocks, tiny_llama

METHODS = ("random", "prune2drive", "dart", "autoprune")  # all layers of one length; and of different lengths
QUESTION = torch.tensor([[3, 9, 4, 17]])


@pytest.fixture(scope="module")
def model():
    return tiny_llama(layers=4)


def prefilled(model, method):
    embeds, mask = six_blocks()
    policy = build_policy(method, retention=0.3)
    with policy(model, visual_mask=mask), torch.no_grad():
        return policy, mask, model(inputs_embeds=embeds, use_cache=True).past_key_values


def pairs(cache):
    return [(layer.keys, layer.values) for layer in cache.layers]


def filled(states, cache=None):
    cache = DynamicCache() if cache is None else cache
    for layer, (keys, values) in enumerate(states):
        cache.update(keys, values, layer)
    return cache


def saved(states):
    buffer = io.BytesIO()
    torch.save(states, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def each(states, change):
    return [(change(keys), change(values)) for keys, values in states]


BY_HAND = {
    "update": lambda states: filled(states),
    "legacy tuples": lambda states: DynamicCache(states),
    "iterated": lambda states: filled(states),
    "deep copies": lambda states: filled(copy.deepcopy(states)),
    "saved and loaded": lambda states: filled(saved(states)),
    "two users": lambda states: filled(each(states, lambda one: torch.cat([one, one]))),
    "one of two": lambda states: filled(each(each(states, lambda one: one.repeat(2, 1, 1, 1)), lambda one: one.split(1)[1])),
    "shorter": lambda states: filled(each(states, lambda one: one[:, :, :-2])),
    "half and back": lambda states: filled(each(states, lambda one: one.half().float())),
    "moved": lambda states: filled(each(states, lambda one: one.cpu().clone().detach().contiguous())),
    "flat and back": lambda states: filled(each(states, lambda one: one.transpose(1, 2).flatten(2).unflatten(2, (4, -1)).transpose(1, 2))),
    "rotated": lambda states: filled(each(states, lambda one: one * 1.0 + 0)),
}


def foreign(states):
    """Through numpy: no tensor of it knows whose it was."""
    return filled(each(states, lambda one: torch.from_numpy(one.numpy().copy())))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("change", [lambda one: one, lambda one: torch.cat([one, one]), lambda one: one.half().float()])
def test_what_says_nothing_is_known_again_in_the_with(model, method, change):
    policy, mask, cache = prefilled(model, method)
    broken = foreign(each(pairs(cache), change))
    rows = QUESTION.expand(broken.layers[0].keys.shape[0], -1)
    with policy(model, visual_mask=mask), pytest.raises(SennaPruneError, match="put together from tensors"):
        model(input_ids=rows, past_key_values=broken)


def test_a_mask_for_another_prompt_is_seen_over_any_cache(model):
    """A cache that no pruned prefill of this process left: its mask says that it held more."""
    _, mask = six_blocks()
    short = model(input_ids=torch.ones(1, 30, dtype=torch.long), use_cache=True).past_key_values
    with build_policy("random", retention=0.3)(model, visual_mask=mask), torch.no_grad():
        call = {"input_ids": QUESTION, "past_key_values": short}
        with pytest.raises(SennaPruneError, match="attention_mask counts 130 tokens, but the cache and this step hold 34"):
            model(**call, attention_mask=torch.ones(1, 130))
        assert model(**call, attention_mask=torch.ones(1, 34)).logits.isfinite().all()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("made", BY_HAND)
def test_a_cache_made_by_hand_is_refused(model, method, made):
    policy, mask, cache = prefilled(model, method)
    states = [pair[:2] for pair in cache] if made == "iterated" else pairs(cache)
    for inside in (False, True):
        broken = BY_HAND[made](states)
        rows = QUESTION.expand(broken.layers[0].keys.shape[0], -1)
        with pytest.raises(SennaPruneError, match="put together from tensors of a pruned one"), torch.no_grad():
            if inside:
                with policy(model, visual_mask=mask.expand(len(rows), -1)):
                    model(input_ids=rows, past_key_values=broken)
            else:
                model(input_ids=rows[:, :1], past_key_values=broken)


def test_a_preallocated_cache_takes_none_of_it(model):
    *_, cache = prefilled(model, "random")
    with pytest.raises(SennaPruneError, match="put together from tensors"):
        filled(pairs(cache), StaticCache(model.config, max_cache_len=100))
    room = torch.zeros(1, 4, 100, cache.layers[0].keys.shape[-1])
    with pytest.raises(SennaPruneError, match="put together from tensors"):
        room[:, :, : cache.layers[0].keys.shape[2]] = cache.layers[0].keys
    with pytest.raises(SennaPruneError, match="put together from tensors"):
        torch.nn.functional.scaled_dot_product_attention(room[:, :, :1], *pairs(cache)[0])


def test_a_part_of_a_pruned_cache_beside_another_is_refused(model):
    """Users of a server: one pruned, one not, in one batch."""
    *_, cache = prefilled(model, "random")
    length = cache.layers[0].keys.shape[2]
    plain = model(input_ids=torch.ones(1, length, dtype=torch.long), use_cache=True).past_key_values
    with pytest.raises(SennaPruneError, match="put together from tensors"):
        torch.cat([cache.layers[0].keys, plain.layers[0].keys])


def test_the_tensors_may_be_measured(model):
    *_, cache = prefilled(model, "random")
    keys = cache.layers[0].keys
    assert isinstance(keys, PrunedStates) and keys.shape[2] < 126 and keys.nbytes == keys.numel() * 4
    norms = torch.zeros(4, keys.shape[2])
    norms[:] = keys.norm(dim=-1)[0]
    assert type(keys.mean()) is torch.Tensor and type((keys @ keys.mT).softmax(-1)) is torch.Tensor
    torch.testing.assert_close(norms[0], torch.tensor([float(row.norm()) for row in keys[0, 0]]))
    assert keys.numpy().shape == tuple(keys.shape) and "PrunedStates" in repr(keys)


def test_the_cache_itself_and_unpruned_ones_hold_plain_tensors(model):
    *_, cache = prefilled(model, "random")
    assert type(vars(cache.layers[0])["keys"]) is torch.Tensor
    with torch.no_grad():
        model(input_ids=QUESTION[:, :1], past_key_values=cache)
        assert type(vars(cache.layers[0])["keys"]) is torch.Tensor
        embeds, mask = six_blocks()
        with build_policy("random", retention=1.0)(model, visual_mask=mask):
            whole = model(inputs_embeds=embeds, use_cache=True).past_key_values
        ours = model(input_ids=QUESTION, past_key_values=filled(pairs(whole))).logits
        assert torch.equal(ours, model(input_ids=QUESTION, past_key_values=whole).logits)
    cache.reset()
    assert cache.layers[0].keys is None
