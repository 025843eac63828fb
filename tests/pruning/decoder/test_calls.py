"""Who may call a pruned model and how: patched forwards, threads, nesting, generate's ways. Equal to the twin, or refused."""

from __future__ import annotations

import asyncio
import copy
import functools
import pickle
import threading
import warnings

import pytest
import torch
from torch import nn
from transformers import TextIteratorStreamer

from senna_autoprune import SennaPruneError, build_policy
from senna_autoprune.pruning.decoder.unwrap import running_model
from tests.models import six_blocks, tiny_llama
from tests.pruning.decoder.test_wrappers import Forwarding, answer
from tests.pruning.multimodal import tiny
from tests.pruning.multimodal.tiny import SQUARE, prompt
from tests.twins import MaskedDecoder


def louder(part):
    """A user's patch of one instance."""
    before = part.forward

    def forward(*args, **kwargs):
        return before(*args, **kwargs)

    part.forward = forward


def as_accelerate_does(part):
    before = part.forward
    part.forward = functools.update_wrapper(functools.partial(lambda *args, **kwargs: before(*args, **kwargs)), before)


@pytest.mark.parametrize("where", ["decoder", "layer", "attention", "class"])
def test_a_patched_forward_is_another_decoder(where, monkeypatch):
    model, (embeds, mask) = tiny_llama(layers=3), six_blocks()
    decoder, policy = model.model, build_policy("random", retention=0.3)
    if where == "class":
        monkeypatch.setattr(type(decoder.layers[0].self_attn), "forward", lambda self, states, **_: (states, None))
    else:
        louder({"decoder": decoder, "layer": decoder.layers[1], "attention": decoder.layers[1].self_attn}[where])
    with pytest.raises(SennaPruneError, match="whose forward is not transformers' own"), policy(model, visual_mask=mask):
        pass
    if where != "class":  # this one changes nothing, which the check finds
        with policy(model, visual_mask=mask, allow_unproven=True) as trace:
            model(inputs_embeds=embeds)
        assert trace[0].average_tokens < 30
        return
    with pytest.raises(SennaPruneError, match="does not prune rightly"), policy(model, visual_mask=mask, allow_unproven=True):
        pass


def test_forwards_that_move_tensors_between_devices_are_transformers_own():
    model, (embeds, mask) = tiny_llama(layers=3), six_blocks()
    with build_policy("autoprune", retention=0.5)(model, visual_mask=mask), torch.no_grad():
        expected = model(inputs_embeds=embeds).logits
    for part in list(model.modules()):
        as_accelerate_does(part)
    with build_policy("autoprune", retention=0.5)(model, visual_mask=mask), torch.no_grad():
        assert torch.equal(model(inputs_embeds=embeds).logits, expected)


def test_what_cannot_be_unwrapped_is_refused():
    two = nn.ModuleList([tiny_llama(layers=2), tiny_llama(layers=2)])
    with pytest.raises(SennaPruneError, match="wraps several models"):
        running_model(two)
    copies = nn.DataParallel(tiny_llama(layers=2))
    copies.device_ids = [0, 1]
    with pytest.raises(SennaPruneError, match="DataParallel copies the model"):
        running_model(copies)
    with pytest.raises(SennaPruneError, match="no Llama-family decoder"), build_policy("random", retention=0.5)(nn.Linear(2, 2)):
        pass


def test_a_with_that_pruned_nothing_says_so():
    model, (embeds, mask) = tiny_llama(layers=2), six_blocks()
    policy = build_policy("random", retention=0.5)
    with pytest.warns(UserWarning, match="nothing was pruned"), policy(model, visual_mask=mask):
        pass

    class Elsewhere(Forwarding):
        def forward(self, **kwargs):
            return other(**kwargs)

    other = tiny_llama(layers=2)
    wrapped = Elsewhere(model)
    with pytest.raises(SennaPruneError, match="Elsewhere ran, but not through the decoder"), policy(wrapped, visual_mask=mask):
        wrapped(inputs_embeds=embeds)
    with warnings.catch_warnings(), policy(model, visual_mask=mask):
        warnings.simplefilter("error")
        model(inputs_embeds=embeds)
    with pytest.raises(ZeroDivisionError), policy(model, visual_mask=mask):
        raise ZeroDivisionError  # and no second error hides it


def test_a_decoder_called_behind_its_model_is_refused():
    model, inputs = tiny.model("llava"), prompt("llava", [SQUARE])
    embeds, _ = tiny.decoder_inputs(model, inputs)
    with build_policy("random", retention=0.5)(model), pytest.raises(SennaPruneError, match="without LlavaForConditionalGeneration's own"):
        model.model.language_model(inputs_embeds=embeds[None])


@pytest.mark.parametrize("method", ["autoprune", "random"])
def test_a_kernel_changed_in_the_with_is_refused(method):
    model, (embeds, mask) = tiny_llama(layers=4), six_blocks()
    with build_policy(method, retention=0.3)(model, visual_mask=mask):
        model.set_attn_implementation("eager")
        with pytest.raises(SennaPruneError, match="kernel was changed to 'eager' inside the with"):
            model(inputs_embeds=embeds)


@pytest.mark.parametrize("copied", [copy.deepcopy, pickle.dumps])
def test_a_model_in_the_with_is_not_copied_with_its_hooks(copied):
    model, mask = tiny_llama(layers=2), six_blocks()[1]
    with pytest.raises(SennaPruneError, match="before or after the with"), build_policy("random", retention=0.5)(model, visual_mask=mask):
        copied(model)
    copied(model)


def test_one_policy_at_a_time():
    model, (embeds, mask) = tiny_llama(layers=4), six_blocks()
    policy, other = build_policy("random", retention=0.3), build_policy("fastv", retention=0.7)
    with policy(model, visual_mask=mask) as trace:
        with pytest.raises(SennaPruneError, match="already inside the with of RandomPruning"), other(Forwarding(model), visual_mask=mask):
            pass
        model(inputs_embeds=embeds)
    assert trace[0].average_tokens == pytest.approx(0.3 * 96, abs=0.5)
    with other(model, visual_mask=mask) as trace:
        model(inputs_embeds=embeds)
    assert len(trace) == 1


def test_one_policy_on_two_models():
    embeds, mask = six_blocks()
    models, policy, alone = [tiny_llama(layers=4, seed=seed) for seed in (0, 1)], build_policy("autoprune", retention=0.3), []
    for model in models:
        with policy(model, visual_mask=mask), torch.no_grad():
            alone.append(model(inputs_embeds=embeds).logits)
    with policy(models[0], visual_mask=mask), policy(models[1], visual_mask=mask), torch.no_grad():
        together = [model(inputs_embeds=embeds).logits for model in models]
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(together, alone, strict=True))


def in_thread(function):
    """The function's value, or what it raised, from a thread of its own."""
    found = []

    def run():
        try:
            found.append(function())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    return found[0]


def test_another_thread_is_refused_and_disturbs_nobody():
    model, (embeds, mask) = tiny_llama(layers=4), six_blocks()
    policy = build_policy("autoprune", retention=0.3)
    with policy(model, visual_mask=mask), torch.no_grad():
        expected = model(inputs_embeds=embeds).logits
    refusals = []
    with policy(model, visual_mask=mask) as trace, torch.no_grad():
        # in the middle of a prefill of this thread
        hook = model.model.layers[2].register_forward_hook(
            lambda *_: refusals.append(in_thread(lambda: model(inputs_embeds=embeds))) if not refusals else None
        )
        logits = model(inputs_embeds=embeds).logits
        hook.remove()
        refusals.append(in_thread(lambda: policy(model, visual_mask=mask).__enter__()))
        refusals.append(in_thread(lambda: model.generate(inputs_embeds=embeds, max_new_tokens=2)))
    assert torch.equal(logits, expected) and len(trace) == 1
    for error, message in zip(refusals, ("another thread prunes", "already inside", "another thread prunes"), strict=True):
        assert isinstance(error, SennaPruneError) and message in str(error)


def test_another_task_of_the_same_thread_is_refused():
    """A server: one request waits inside its with while another calls the model; what a request starts itself is its own."""
    model, (embeds, mask) = tiny_llama(layers=4), six_blocks()

    async def ask():
        return model(inputs_embeds=embeds).logits

    async def pruned(entered, leave):
        with build_policy("random", retention=0.3)(model, visual_mask=mask) as trace:
            entered.set()
            await leave.wait()
            await asyncio.gather(ask(), asyncio.create_task(ask()))
        return len(trace)

    async def both():
        entered, leave = asyncio.Event(), asyncio.Event()
        one = asyncio.create_task(pruned(entered, leave))
        await entered.wait()
        with pytest.raises(SennaPruneError, match="another task prunes this model"):
            await ask()
        leave.set()
        return await one, await ask()

    with torch.no_grad():
        prompts, plain = asyncio.run(both())
        assert prompts == 2 and torch.equal(plain, model(inputs_embeds=embeds).logits)
        with build_policy("random", retention=0.3)(model, visual_mask=mask) as trace:
            asyncio.run(ask())
    assert len(trace) == 1


def test_a_thread_of_the_with_may_stream():
    class Tokenizer:
        def decode(self, ids, **_):
            return " ".join(map(str, ids)) + " "

    model, inputs = tiny.model("llava"), prompt("llava", [SQUARE])
    policy = build_policy("autoprune", retention=0.4)
    with policy(model):
        expected = answer(model, inputs)[0, inputs["input_ids"].shape[1] :].tolist()
    streamer = TextIteratorStreamer(Tokenizer(), skip_prompt=True, timeout=60)
    with policy(model) as trace:
        options = {**inputs, "max_new_tokens": 4, "do_sample": False, "streamer": streamer}
        thread = threading.Thread(target=model.generate, kwargs=options)
        thread.start()
        words = "".join(streamer).split()
        thread.join(60)
    assert [int(word) for word in words] == expected and len(trace) == 1


@pytest.mark.parametrize(
    "option", [{"prompt_lookup_num_tokens": 3}, {"prefill_chunk_size": 16}, {"assistant_model": None}, {"use_cache": False}]
)
def test_a_first_forward_that_is_not_the_prompt_is_refused(option):
    model, mask = tiny_llama(layers=4), six_blocks()[1]
    if "assistant_model" in option:
        option = {"assistant_model": tiny_llama(layers=2)}
    ids = torch.randint(1, 60, mask.shape)
    with build_policy("autoprune", retention=0.3)(model, visual_mask=mask), pytest.raises(SennaPruneError, match=next(iter(option))):
        model.generate(ids, max_new_tokens=4, do_sample=False, **option)
    config = model.generation_config
    for name, value in option.items():
        if name != "assistant_model":
            setattr(config, name, value)
            with build_policy("random", retention=0.3)(model, visual_mask=mask), pytest.raises(SennaPruneError, match=name):
                model.generate(ids, max_new_tokens=4)


@pytest.mark.parametrize("option", [{"prompt_lookup_num_tokens": 3}, {"prefill_chunk_size": 16}, {"use_cache": False}])
def test_a_generate_that_was_taken_hold_of_before_is_watched_too(option):
    model, inputs = tiny.model("llava"), prompt("llava", [SQUARE])
    inputs["input_ids"][0, -3:] = inputs["input_ids"][0, -6:-3]  # something to look up
    before = model.generate
    with build_policy("autoprune", retention=0.4)(model) as trace:
        with pytest.raises(SennaPruneError, match="leave "):
            before(**inputs, max_new_tokens=4, do_sample=False, **option)
        assert len(trace) == 0
        answer = before(**inputs, max_new_tokens=4, do_sample=False)
        assert torch.equal(answer, model.generate(**inputs, max_new_tokens=4, do_sample=False))
    assert not {"generate", "_prefill", "_get_candidate_generator"} & set(vars(model))


@pytest.mark.parametrize(
    "options", [{"num_beams": 3}, {"num_beams": 2, "num_return_sequences": 2}, {"do_sample": True, "num_return_sequences": 3}]
)
def test_beams_share_their_samples_seed_and_mask(options):
    model, (embeds, mask) = tiny_llama(layers=4), six_blocks()
    both, masks = torch.cat([embeds, embeds]), torch.cat([mask, mask])
    times = max(options.get("num_beams", 1), options.get("num_return_sequences", 1))
    policy, alone = build_policy("random", retention=0.3), []
    for seed in (7, 8):
        with policy(model, visual_mask=mask, seeds=[seed]) as trace:
            model(inputs_embeds=embeds)
        alone.append(trace[0].kept[0].tolist())
    assert alone[0] != alone[1]
    with policy(model, visual_mask=masks, seeds=[7, 8]) as trace:
        model.generate(inputs_embeds=both, max_new_tokens=3, **options)
    assert [sample.kept[0].tolist() for sample in trace] == [kept for kept in alone for _ in range(times)]
    with policy(model, visual_mask=masks, seeds=[7, 8, 9]), pytest.raises(SennaPruneError, match="3 seeds were given for a batch of 2"):
        model(inputs_embeds=both)


def test_beam_search_equals_beam_search_over_the_twin():
    """Beams by hand: at each step the two best continuations of both, each scored by the masked full-length decoder."""
    model, (embeds, mask) = tiny_llama(layers=4), six_blocks()
    with build_policy("autoprune", retention=0.3)(model, visual_mask=mask) as trace:
        tokens = model.generate(inputs_embeds=embeds, max_new_tokens=5, num_beams=2, do_sample=False, length_penalty=0.0)[0]
    twin, visual, table = MaskedDecoder(model), mask[0].nonzero().flatten(), model.get_input_embeddings()
    beams = [((), 0.0)]
    for _ in range(5):
        grown = []
        for words, score in beams:
            row = twin.logits(torch.cat([embeds[0], table(torch.tensor(words, dtype=torch.long))]), trace[0].kept, visual)[-1]
            best = row.log_softmax(-1).topk(4)
            grown += [((*words, int(word)), score + float(value)) for value, word in zip(best.values, best.indices, strict=True)]
        beams = sorted(grown, key=lambda beam: -beam[1])[:2]
    assert tuple(tokens.tolist()) == beams[0][0]
