"""Masks, padding and positions by hand, with a prompt and with later steps, in the with and after it: the twin's numbers, or refused."""

from __future__ import annotations

import pytest
import torch

from senna_autoprune import SennaPruneError, build_policy
from tests.models import six_blocks, tiny_llama
from tests.twins import MaskedDecoder

METHODS = ("autoprune", "random", "divprune")  # cuts inside; before layer 0; before layer 0, renumbered
QUESTION = torch.tensor([[3, 9, 4, 17]])
LENGTH = 126

every_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(scope="module")
def model():
    return tiny_llama(layers=4)


def prefilled(model, method, **batch):
    embeds, mask = six_blocks()
    policy = build_policy(method, retention=0.3)
    with policy(model, visual_mask=mask) as trace, torch.no_grad():
        output = model(inputs_embeds=embeds, use_cache=True, **batch)
    return policy, embeds[0], mask[0], trace[0].kept, output


def twin(model, method, embeds, mask, kept, tokens, positions=None):
    """Logits of the prompt's last token and of ``tokens`` behind it."""
    more = model.get_input_embeddings()(tokens)
    stays = ~mask
    stays[mask.nonzero().flatten()[kept[0]]] = True
    with torch.no_grad():
        if method != "divprune":
            longer = torch.cat([embeds, more])
            return MaskedDecoder(model, positions).logits(longer, kept, mask.nonzero().flatten())[-len(tokens) - 1 :]
        return model(inputs_embeds=torch.cat([embeds[stays], more])[None]).logits[0, -len(tokens) - 1 :]


def close(ours, theirs):
    assert ours.shape == theirs.shape and (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max().clamp_min(1)


def hiding(*columns, length=LENGTH + 4):
    mask = torch.ones(1, length, dtype=torch.long)
    mask[:, list(columns)] = 0
    return mask


STEPS = {  # masks of a four-token question behind a prompt of which all is shown
    "a padded question": (hiding(LENGTH), False),
    "a part of the prompt is hidden": (hiding(0, 1, 2), False),
    "counts another prompt": (hiding(length=LENGTH + 3), False),
    "prepared": (torch.zeros(1, 1, 4, LENGTH + 4), False),
    "by the type of layer": ({"full_attention": None}, False),
    "of ones": (hiding(), True),
    "none": (None, True),
}


@every_method
@pytest.mark.parametrize("step", STEPS)
def test_a_mask_over_a_pruned_prompt_shows_what_the_prefill_did(model, method, step):
    policy, embeds, mask, kept, output = prefilled(model, method)
    given, fits = STEPS[step]
    with policy(model, visual_mask=mask[None]), torch.no_grad():
        call = {"input_ids": QUESTION, "attention_mask": given, "past_key_values": output.past_key_values}
        if not fits:
            with pytest.raises(SennaPruneError, match="attention_mask"):
                model(**call)
            return
        rows = model(**call).logits[0]
    close(rows, twin(model, method, embeds, mask, kept, QUESTION[0])[1:])


@every_method
@pytest.mark.parametrize("hidden", [True, False])
def test_a_mask_after_the_with(model, method, hidden):
    _, embeds, mask, kept, output = prefilled(model, method)
    call = {"input_ids": QUESTION[:, :1], "past_key_values": output.past_key_values}
    with torch.no_grad():
        if hidden:
            with pytest.raises(SennaPruneError, match="outside of a policy's with"):
                model(**call, attention_mask=hiding(0, 1, 2, length=LENGTH + 1))
        call["attention_mask"] = hiding(length=LENGTH + 1)
        close(model(**call).logits[0], twin(model, method, embeds, mask, kept, QUESTION[0, :1])[1:])


@every_method
def test_generate_after_the_with_goes_on_or_is_refused(model, method):
    ids, mask = torch.randint(1, 60, (1, LENGTH), generator=torch.Generator().manual_seed(5)), six_blocks()[1]
    with build_policy(method, retention=0.3)(model, visual_mask=mask) as trace, torch.no_grad():
        cache = model(input_ids=ids, use_cache=True).past_key_values
    longer = torch.cat([ids, QUESTION[:, :1]], 1)
    options = {"past_key_values": cache, "max_new_tokens": 4, "do_sample": False}
    if method == "divprune":
        with pytest.raises(SennaPruneError, match="renumbered"):
            model.generate(longer, **options)
        return
    embeds = model.get_input_embeddings()(longer[0]).detach()
    tokens, _ = MaskedDecoder(model).generate(embeds, trace[0].kept, mask[0].nonzero().flatten(), 4)
    assert model.generate(longer, **options)[0, LENGTH + 1 :].tolist() == tokens


@every_method
def test_a_hole_in_the_prompts_mask_stays_one(model, method):
    """A text token is hidden, without a place of its own: as if it were not there."""
    hidden = hiding(2, length=LENGTH)
    policy, embeds, mask, kept, output = prefilled(model, method, attention_mask=hidden, position_ids=(hidden.cumsum(-1) - 1).clamp_min(0))
    with policy(model, visual_mask=mask[None]), torch.no_grad():
        longer = torch.cat([hidden, torch.ones_like(QUESTION)], 1)
        positions = torch.arange(LENGTH - 1, LENGTH + 3)[None]
        call = {"input_ids": QUESTION, "attention_mask": longer, "position_ids": positions, "past_key_values": output.past_key_values}
        rows = torch.cat([output.logits[0, -1:], model(**call).logits[0]])
    left = hidden[0].bool()
    close(rows, twin(model, method, embeds[left], mask[left], kept, QUESTION[0]))


def test_prompts_padded_on_the_right_are_refused_but_for_their_labels(model):
    embeds, mask = six_blocks()
    padded, shown = torch.cat([embeds, torch.zeros(1, 3, 32)], 1), hiding(-1, -2, -3, length=LENGTH + 3)
    wide = torch.nn.functional.pad(mask, (0, 3))
    labels = torch.full_like(shown, -100)
    labels[:, LENGTH - 3 : LENGTH] = 5
    policy = build_policy("random", retention=0.3)
    with policy(model, visual_mask=wide) as trace, torch.no_grad():
        with pytest.raises(SennaPruneError, match="pad them on the left"):
            model(inputs_embeds=padded, attention_mask=shown)
        loss = model(inputs_embeds=padded, attention_mask=shown, labels=labels).loss
    rows = MaskedDecoder(model).logits(embeds[0], trace[0].kept, mask[0].nonzero().flatten())
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(rows[-4:-1], torch.tensor([5, 5, 5])))


def test_several_prompts_in_one_row_are_refused(model):
    embeds, mask = six_blocks()
    positions = torch.cat([torch.arange(60), torch.arange(66)])[None]
    with build_policy("random", retention=0.3)(model, visual_mask=mask), pytest.raises(SennaPruneError, match="pack several prompts"):
        model(inputs_embeds=embeds, position_ids=positions, use_cache=False)


@pytest.mark.parametrize("method", ["autoprune", "random"])
def test_positions_by_hand_are_those_of_the_prompt_and_of_the_steps(model, method):
    positions = torch.arange(LENGTH + 4) * 2 + 5
    policy, embeds, mask, kept, output = prefilled(model, method, position_ids=positions[None, :LENGTH])
    with policy(model, visual_mask=mask[None]), torch.no_grad():
        step = model(input_ids=QUESTION, position_ids=positions[None, LENGTH:], past_key_values=output.past_key_values)
    close(torch.cat([output.logits[0, -1:], step.logits[0]]), twin(model, method, embeds, mask, kept, QUESTION[0], positions))


@every_method
def test_a_decoder_called_by_position_sees_its_mask(model, method):
    ids, mask = torch.randint(1, 60, (2, LENGTH)), six_blocks()[1].repeat(2, 1)
    shown = torch.ones_like(ids)
    shown[1, :4] = 0
    with build_policy(method, retention=0.3)(model.model, visual_mask=mask), torch.no_grad():
        by_place, by_name = model.model(ids, shown), model.model(input_ids=ids, attention_mask=shown)
    assert torch.equal(by_place.last_hidden_state, by_name.last_hidden_state)


@every_method
def test_a_row_without_visual_tokens_is_left_alone_beside_a_pruned_one(model, method):
    embeds, mask = six_blocks()
    both = torch.cat([embeds, torch.randn(1, LENGTH, 32, generator=torch.Generator().manual_seed(7))])
    masks, rows = torch.cat([mask, torch.zeros_like(mask)]), QUESTION.repeat(2, 1)
    with build_policy(method, retention=0.3)(model, visual_mask=masks) as trace, torch.no_grad():
        output = model(inputs_embeds=both, use_cache=True)
        step = model(input_ids=rows, past_key_values=output.past_key_values).logits
        plain = model.get_input_embeddings()(QUESTION)
    assert trace[1].tokens_per_layer == [0] * 4
    ours = torch.cat([output.logits[:, -1:], step], 1)
    close(ours[0], twin(model, method, embeds[0], mask[0], trace[0].kept, QUESTION[0]))
    with torch.no_grad():
        close(ours[1], model(inputs_embeds=torch.cat([both[1:], plain], 1)).logits[0, -5:])


@pytest.mark.parametrize("mask", ["float", "flat"])
def test_a_visual_mask_of_another_kind_is_refused(model, mask):
    embeds, right = six_blocks()
    wrong = right.float() if mask == "float" else right[0]
    with build_policy("random", retention=0.3)(model, visual_mask=wrong), pytest.raises(SennaPruneError, match=r"pass a \(B, N\) bool"):
        model(inputs_embeds=embeds)
