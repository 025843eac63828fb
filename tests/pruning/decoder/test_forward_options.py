"""What else forward and generate take: labels, rows to keep, hidden states, attentions, checkpointing, processors. Twin, or refused."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import LogitsProcessor, LogitsProcessorList

from senna_autoprune import SennaPruneError, build_policy
from tests.models import six_blocks, tiny_llama
from tests.twins import MaskedDecoder

METHODS = ("autoprune", "random", "divprune")  # cuts inside; before layer 0; before layer 0, renumbered
every_method = pytest.mark.parametrize("method", METHODS)


def close(ours, theirs, tolerance=1e-5):
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max().clamp_min(1)


def expected(model, method, embeds, mask, kept, grad=False):
    """Logits (N, vocab) of the twin; NaN at tokens that the renumbered one never sees."""
    visual = mask.nonzero().flatten()
    if method != "divprune":
        twin = MaskedDecoder(model).logits
        return (twin.__wrapped__ if grad else twin)(*([MaskedDecoder(model)] if grad else []), embeds, kept, visual)
    stays = ~mask
    stays[visual[kept[0]]] = True
    rows = model(inputs_embeds=embeds[stays][None]).logits[0]
    full = rows.new_full((len(embeds), rows.shape[1]), float("nan"))
    full[stays] = rows
    return full


def asking_labels(mask, first=3):
    """(1, N) labels of the last text, all but its first ``first`` tokens."""
    labels = torch.full(mask.shape, -100)
    labels[:, -7 + first :] = torch.tensor([[11, 5, 23, 8, 40, 2, 17]])[:, first:]
    return labels


@every_method
def test_loss_over_the_text_labels_and_its_gradients(method):
    model, (embeds, mask) = tiny_llama(), six_blocks()
    labels = asking_labels(mask)
    with build_policy(method, retention=0.3)(model, visual_mask=mask) as trace:
        output = model(inputs_embeds=embeds, labels=labels)
        output.loss.backward()
    ours = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    rows = expected(model, method, embeds[0], mask[0], trace[0].kept, grad=True)
    loss = cross_entropy(rows[:-1][labels[0, 1:] != -100], labels[0, 1:][labels[0, 1:] != -100])
    loss.backward()
    close(output.loss.detach(), loss.detach())
    for name, weight in model.named_parameters():
        if weight.grad is not None:
            close(ours[name], weight.grad, 1e-4)
    assert output.logits.shape[1] == mask.shape[1]
    dropped = mask[0].nonzero().flatten()[sorted(set(range(96)) - set(trace[0].kept[-1].tolist()))]
    assert output.logits[0, dropped].isnan().all() and output.logits[0, -7:].isfinite().all()


def test_a_label_behind_a_dropped_token_is_refused():
    model, (embeds, mask) = tiny_llama(), six_blocks()
    with build_policy("random", retention=0.1)(model, visual_mask=mask), pytest.raises(SennaPruneError, match="token that was dropped"):
        model(inputs_embeds=embeds, labels=torch.ones_like(mask, dtype=torch.long))
    with build_policy("random", retention=0.1)(model, visual_mask=mask), pytest.raises(SennaPruneError, match="labels have shape"):
        model(inputs_embeds=embeds, labels=torch.ones(1, 5, dtype=torch.long))


@every_method
@pytest.mark.parametrize("keep", [1, 7, 10, torch.tensor([0, 2, 120, 125])])
def test_logits_to_keep_counts_rows_of_the_prompt(method, keep):
    """The last 10 are three text tokens between the views and seven after them."""
    model, (embeds, mask) = tiny_llama(), six_blocks()
    with build_policy(method, retention=0.3)(model, visual_mask=mask) as trace, torch.no_grad():
        logits = model(inputs_embeds=embeds, logits_to_keep=keep).logits[0]
    with torch.no_grad():
        rows = expected(model, method, embeds[0], mask[0], trace[0].kept)
    close(logits, rows[keep] if isinstance(keep, torch.Tensor) else rows[-keep:])


def test_rows_of_dropped_tokens_cannot_be_kept():
    model, (embeds, mask) = tiny_llama(), six_blocks()
    for keep in (30, torch.arange(126)):
        with build_policy("random", retention=0.1)(model, visual_mask=mask), pytest.raises(SennaPruneError, match="was dropped"):
            model(inputs_embeds=embeds, logits_to_keep=keep)


@every_method
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_hidden_states_are_those_of_the_tokens_that_are_left(method, attention):
    model, (embeds, mask) = tiny_llama(attention=attention), six_blocks()
    with build_policy(method, retention=0.3)(model, visual_mask=mask) as trace, torch.no_grad():
        states = model(inputs_embeds=embeds, output_hidden_states=True).hidden_states
    text = int((~mask).sum())
    assert len(states) == 9
    assert [one.shape[1] for one in states[1:]] == [count + text for count in trace[0].tokens_per_layer]
    with torch.no_grad():
        rows = expected(model, method, embeds[0], mask[0], trace[0].kept)
        close(model.lm_head(states[-1])[0, -7:], rows[-7:])


@every_method
def test_attentions_are_those_among_the_tokens_that_are_left(method):
    model, (embeds, mask) = tiny_llama(attention="eager"), six_blocks()
    with build_policy(method, retention=0.3)(model, visual_mask=mask) as trace, torch.no_grad():
        attentions = model(inputs_embeds=embeds, output_attentions=True).attentions
    lengths = [count + int((~mask).sum()) for count in trace[0].tokens_per_layer]
    assert [tuple(one.shape) for one in attentions] == [(1, 4, length, length) for length in lengths]
    for one in attentions:
        close(one.sum(-1), torch.ones(one.shape[:-1]))
        assert one.triu(1).abs().max() == 0


def test_gradient_checkpointing_gives_the_same_gradients():
    model, (embeds, mask) = tiny_llama().train(), six_blocks()
    labels, grads = asking_labels(mask), []
    for checkpointing in (False, True):
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.zero_grad()
        with build_policy("autoprune", retention=0.3)(model, visual_mask=mask) as trace:
            loss = model(inputs_embeds=embeds, labels=labels, use_cache=not checkpointing).loss
        loss.backward()  # after the with, when the hooks are gone
        grads.append([weight.grad.clone() for weight in model.model.layers.parameters()])
        assert trace[0].average_tokens < 30
    for ours, theirs in zip(*grads, strict=True):
        close(ours, theirs, 1e-4)


class Watching(LogitsProcessor):
    """Sees the prompt, and forbids its tokens."""

    def __init__(self):
        self.seen = []

    def __call__(self, input_ids, scores):
        self.seen.append(input_ids.clone())
        return scores.scatter(1, input_ids, float("-inf"))


@pytest.mark.parametrize("method", ["autoprune", "random"])
@pytest.mark.parametrize("options", [{"repetition_penalty": 1.7}, {"no_repeat_ngram_size": 2}, {"logits_processor": True}])
def test_processors_see_the_whole_prompt(method, options):
    model, mask = tiny_llama(), six_blocks()[1]
    ids = torch.randint(1, 40, mask.shape, generator=torch.Generator().manual_seed(3))
    watching = Watching()
    given = {"logits_processor": LogitsProcessorList([watching])} if "logits_processor" in options else options
    with build_policy(method, retention=0.3)(model, visual_mask=mask) as trace:
        tokens = model.generate(ids, max_new_tokens=6, do_sample=False, **given)[0, ids.shape[1] :].tolist()
    twin, visual = MaskedDecoder(model), mask[0].nonzero().flatten()
    words = ids[0].tolist()
    for token in tokens:
        row = twin.logits(model.get_input_embeddings()(torch.tensor(words)), trace[0].kept, visual)[-1]
        seen = sorted(set(words))
        if "repetition_penalty" in options:
            row[seen] = torch.where(row[seen] < 0, row[seen] * 1.7, row[seen] / 1.7)
        elif "no_repeat_ngram_size" in options:
            row[[after for before, after in zip(words[:-1], words[1:], strict=True) if before == words[-1]]] = float("-inf")
        else:
            row[seen] = float("-inf")
        assert int(row.argmax()) == token
        words.append(token)
    if watching.seen:
        assert torch.equal(watching.seen[0], ids)
