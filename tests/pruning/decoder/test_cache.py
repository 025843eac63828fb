"""The cache of a pruned prefill: copied, pickled, cropped, reordered, used after the with: equal to the twin, or refused."""

from __future__ import annotations

import copy
import io
import pickle

import pytest
import torch
from transformers import DynamicCache

from senna_autoprune import SennaPruneError, build_policy
from tests.models import six_blocks, tiny_llama
from tests.twins import MaskedDecoder

METHODS = ("autoprune", "random", "divprune")  # cuts inside; before layer 0; before layer 0, renumbered
QUESTION = torch.tensor([[3, 9, 4, 17]])

every_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(scope="module")
def model():
    return tiny_llama()


def expected(model, method, embeds, mask, kept, tokens):
    """Logits (q, vocab) of ``tokens`` (q,) behind a prompt, of which layer l sees ``kept[l]``: at full length, or renumbered by hand."""
    visual, more = mask.nonzero().flatten(), model.get_input_embeddings()(tokens)
    if method != "divprune":
        return MaskedDecoder(model).logits(torch.cat([embeds, more]), kept, visual)[-len(tokens) :]
    stays = ~mask
    stays[visual[kept[0]]] = True
    with torch.no_grad():
        return model(inputs_embeds=torch.cat([embeds[stays], more])[None]).logits[0, -len(tokens) :]


def close(ours, theirs):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max().clamp_min(1)


def step(model, tokens, cache):
    with torch.no_grad():
        return model(input_ids=tokens, past_key_values=cache, use_cache=True).logits


def prefilled(model, method, **batch):
    """A pruned prompt: embeds, mask, its open policy, trace and cache."""
    embeds, mask = six_blocks()
    policy = build_policy(method, retention=0.3)
    with policy(model, visual_mask=mask) as trace, torch.no_grad():
        cache = model(inputs_embeds=embeds, use_cache=True).past_key_values
    assert max(trace[0].tokens_per_layer[1:]) < 96
    return embeds[0], mask, policy, trace[0].kept, cache


def pickled(cache):
    buffer = io.BytesIO()
    pickle.dump(cache, buffer)
    return pickle.loads(buffer.getvalue())


def moved(cache):
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys.to("cpu", copy=True), layer.values.to("cpu", copy=True)
    return cache


@every_method
@pytest.mark.parametrize("copied", [copy.deepcopy, pickled, moved])
def test_one_prefill_many_questions(model, method, copied):
    embeds, mask, policy, kept, cache = prefilled(model, method)
    for question in (QUESTION, QUESTION.flip(1)):
        mine = copied(copy.deepcopy(cache))
        with policy(model, visual_mask=mask) as trace:
            first = step(model, question, mine)
            second = step(model, question[:, :1], mine)
        assert len(trace) == 0
        answers = torch.cat([first, second], 1)[0]
        close(answers, expected(model, method, embeds, mask[0], kept, torch.cat([question[0], question[0, :1]])))


@every_method
def test_decoding_goes_on_after_the_with(model, method):
    embeds, mask, _, kept, cache = prefilled(model, method)
    answers = torch.cat([step(model, QUESTION[:, [column]], cache) for column in range(4)], 1)[0]
    close(answers, expected(model, method, embeds, mask[0], kept, QUESTION[0]))


@every_method
def test_a_question_after_the_with_is_right_or_refused(model, method):
    embeds, mask, _, kept, cache = prefilled(model, method)
    if method == "autoprune":
        with pytest.raises(SennaPruneError, match="hold different numbers of tokens"):
            step(model, QUESTION, cache)
        return
    close(step(model, QUESTION, cache)[0], expected(model, method, embeds, mask[0], kept, QUESTION[0]))


def test_a_kernel_that_always_wants_a_mask_is_refused_after_the_with():
    model = tiny_llama(attention="eager")
    *_, cache = prefilled(model, "autoprune")
    with pytest.raises(SennaPruneError, match="outside of a policy's with"):
        step(model, QUESTION[:, :1], cache)


@every_method
def test_tokens_taken_back_leave_no_trace(model, method):
    embeds, mask, policy, kept, cache = prefilled(model, method)
    with policy(model, visual_mask=mask):
        step(model, torch.tensor([[5, 6, 7]]), cache)
        cache.crop(-3)
        answers = step(model, QUESTION, cache)[0]
    close(answers, expected(model, method, embeds, mask[0], kept, QUESTION[0]))
    with pytest.raises(SennaPruneError, match="cannot be cropped into its prompt: 5 tokens are to go, 4"):
        cache.crop(-5)


@every_method
def test_a_cache_cropped_to_a_length_is_that_with_as_many_taken_back(model, method):
    """As older transformers say it: the positive number is what a layer keeps."""
    embeds, mask, policy, kept, cache = prefilled(model, method)
    with policy(model, visual_mask=mask):
        step(model, torch.tensor([[5, 6, 7]]), cache)
        for layer in cache.layers:
            layer.crop(layer.get_seq_length() - 3)
        answers = step(model, QUESTION, cache)[0]
        for layer in cache.layers:
            layer.crop(layer.get_seq_length() + 10)
    close(answers, expected(model, method, embeds, mask[0], kept, QUESTION[0]))


@every_method
def test_rows_of_a_ragged_batch_move_with_their_padding(model, method):
    prompts = [six_blocks(seed=1), six_blocks(views=5, after=4, seed=2)]
    longest = max(embeds.shape[1] for embeds, _ in prompts)
    padded, masks = torch.zeros(2, longest, 32), torch.zeros(2, longest, dtype=torch.bool)
    valid = torch.zeros(2, longest, dtype=torch.long)
    for row, (embeds, mask) in enumerate(prompts):
        padded[row, -embeds.shape[1] :], masks[row, -mask.shape[1] :], valid[row, -mask.shape[1] :] = embeds[0], mask[0], 1
    positions = (valid.cumsum(-1) - 1).clamp_min(0)
    policy, answers = build_policy(method, retention=0.3), []
    with policy(model, visual_mask=masks) as trace, torch.no_grad():
        cache = model(inputs_embeds=padded, attention_mask=valid, position_ids=positions, use_cache=True).past_key_values
        selected, repeated = copy.deepcopy(cache), copy.deepcopy(cache)
        cache.reorder_cache(torch.tensor([1, 0]))
        selected.batch_select_indices(torch.tensor([1]))
        repeated.batch_repeat_interleave(2)
        for moved_cache, rows in ((cache, [1, 0]), (selected, [1]), (repeated, [0, 0, 1, 1])):
            tokens = QUESTION[:, :1].expand(len(rows), 1)
            given = {"position_ids": positions[rows, -1:] + 1, "attention_mask": torch.nn.functional.pad(valid[rows], (0, 1), value=1)}
            logits = model(input_ids=tokens, past_key_values=moved_cache, use_cache=True, **given).logits
            answers += [(sample, logits[row]) for row, sample in enumerate(rows)]
    for sample, logits in answers:
        embeds, mask = prompts[sample]
        close(logits, expected(model, method, embeds[0], mask[0], trace[sample].kept, QUESTION[0, :1]))
    if trace[0].tokens_per_layer != trace[1].tokens_per_layer or longest > prompts[1][0].shape[1]:
        with pytest.raises(SennaPruneError, match="prompts had different lengths"):
            step(model, QUESTION[:, :1].expand(2, 1), cache)


def test_generate_goes_on_from_a_cache_that_counts_dropped_tokens(model):
    ids = torch.randint(1, 60, (1, 126), generator=torch.Generator().manual_seed(5))
    mask = six_blocks()[1]
    for method in ("autoprune", "random"):
        with build_policy(method, retention=0.3)(model, visual_mask=mask) as trace, torch.no_grad():
            cache = model(input_ids=ids, use_cache=True).past_key_values
            more = torch.cat([ids, QUESTION], 1)
            tokens = model.generate(more, past_key_values=cache, max_new_tokens=5, do_sample=False)[0, more.shape[1] :]
        embeds = model.get_input_embeddings()(more[0])
        twin, _ = MaskedDecoder(model).generate(embeds, trace[0].kept, mask[0].nonzero().flatten(), 5)
        assert tokens.tolist() == twin


def test_a_cache_of_one_policy_is_decoded_under_another(model):
    embeds, mask, _, kept, cache = prefilled(model, "divprune")
    with build_policy("fastv", retention=0.5)(model, visual_mask=mask):
        answers = step(model, QUESTION, cache)[0]
    close(answers, expected(model, "divprune", embeds, mask[0], kept, QUESTION[0]))


def test_what_was_put_together_by_hand_is_refused(model):
    _, mask, policy, _, cache = prefilled(model, "autoprune")
    rebuilt = DynamicCache([(layer.keys, layer.values) for layer in cache.layers])
    mixed = copy.deepcopy(cache)
    mixed.layers[0] = rebuilt.layers[0]
    cut = copy.deepcopy(cache)
    for layer in cut.layers:
        layer.keys, layer.values = layer.keys[:, :, :-1], layer.values[:, :, :-1]
    with policy(model, visual_mask=mask):
        for broken, message in ((rebuilt, "put together"), (mixed, "put together"), (cut, "changed by hand")):
            with pytest.raises(SennaPruneError, match=message):
                step(model, QUESTION, broken)
    with pytest.raises(SennaPruneError, match="changed by hand"):
        step(model, QUESTION[:, :1], cut)


def test_new_visual_tokens_over_a_filled_cache_are_refused(model):
    embeds, mask, policy, _, cache = prefilled(model, "random")
    with policy(model, visual_mask=mask), pytest.raises(SennaPruneError, match="come after a filled cache"):
        model(inputs_embeds=embeds[None], past_key_values=cache, use_cache=True)
    with torch.no_grad():
        plain = model(input_ids=QUESTION, use_cache=True).past_key_values
    with policy(model, visual_mask=mask), pytest.raises(SennaPruneError, match="come after a filled cache"):
        model(inputs_embeds=embeds[None], past_key_values=plain, use_cache=True)


def test_a_cache_that_was_reset_is_an_empty_one(model):
    embeds, mask, policy, kept, cache = prefilled(model, "autoprune")
    cache.reset()
    assert cache.get_seq_length() == 0
    close(step(model, QUESTION, cache), step(model, QUESTION, None))
    cache.reset()
    with policy(model, visual_mask=mask) as trace, torch.no_grad():
        again = model(inputs_embeds=embeds[None], past_key_values=cache, use_cache=True).past_key_values
    assert [one.tolist() for one in trace[0].kept] == [one.tolist() for one in kept] and again.layers[7].left.cut


@every_method
def test_a_tuple_of_outputs_holds_the_cache_too(model, method):
    embeds, mask = six_blocks()
    policy = build_policy(method, retention=0.3)
    with policy(model, visual_mask=mask) as trace, torch.no_grad():
        _, cache = model(inputs_embeds=embeds, use_cache=True, return_dict=False)[:2]
        answers = step(model, QUESTION, cache)[0]
    close(answers, expected(model, method, embeds[0], mask[0], trace[0].kept, QUESTION[0]))


def test_a_cache_of_a_whole_prompt_is_a_stock_one(model):
    embeds, mask = six_blocks()
    with build_policy("autoprune", retention=1.0)(model, visual_mask=mask), torch.no_grad():
        cache = model(inputs_embeds=embeds, use_cache=True).past_key_values
    assert {type(layer).__name__ for layer in cache.layers} == {"DynamicLayer"}


class Broken(Exception):
    pass


def broken_at(model, layer):
    def fail(*_):
        raise Broken

    return model.model.layers[layer].register_forward_hook(fail)


@every_method
def test_a_prefill_that_failed_half_way_leaves_an_empty_cache(model, method):
    embeds, mask = six_blocks()
    policy, cache = build_policy(method, retention=0.3), DynamicCache(config=model.config)
    with policy(model, visual_mask=mask) as trace, torch.no_grad():
        handle = broken_at(model, 5)
        with pytest.raises(Broken):
            model(inputs_embeds=embeds, past_key_values=cache, use_cache=True)
        handle.remove()
        assert cache.get_seq_length() == 0 and all(layer.keys is None for layer in cache.layers)
        model(inputs_embeds=embeds, past_key_values=cache, use_cache=True)
        answers = step(model, QUESTION, cache)[0]
    close(answers, expected(model, method, embeds[0], mask[0], trace[0].kept, QUESTION[0]))


@every_method
@pytest.mark.parametrize(
    ("change", "inside"),
    [*((change, inside) for change in ("failed step", "swapped", "twice") for inside in (True, False)), ("one less", True)],
)
def test_layers_out_of_step_are_refused(model, method, change, inside):
    _, mask, policy, _, cache = prefilled(model, method)
    if change == "failed step":
        handle = broken_at(model, 5)
        with pytest.raises(Broken):
            step(model, QUESTION[:, :1], cache)
        handle.remove()
    elif change == "swapped":
        cache.layers.reverse()
    elif change == "twice":
        cache.layers[1] = cache.layers[0]
    else:
        cache.layers.pop()
    with pytest.raises(SennaPruneError, match=r"out of step|put together"):
        if inside:
            with policy(model, visual_mask=mask):
                step(model, QUESTION, cache)
        else:
            step(model, QUESTION[:, :1], cache)
