"""Labels and rows to keep, counted from the whole prompt: a decoder by hand, or refused (more in tests/pruning/test_options.py)."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from senna_autoprune import SennaPruneError, build_policy
from senna_autoprune.bench.passes import LengthsAlone
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


def test_the_first_visual_token_comes_back_too():
    """Its index is 0, and no other number names a token that was merged."""
    model, (embeds, mask) = tiny_llama(layers=4), six_blocks()
    visual = int(mask.sum())
    policy = LengthsAlone(tokens=visual / 2, entering=(visual, visual // 3, visual // 3, visual // 3))  # keeps the first tokens
    with policy(model, visual_mask=mask), torch.no_grad():
        logits = model(inputs_embeds=embeds, labels=asking_labels(mask)).logits
    there = logits.isfinite().all(-1)[0]
    first = mask[0].nonzero()[0, 0]
    assert there[first : first + visual // 12].all() and there[~mask[0]].all() and int(there.sum()) == int((~mask).sum()) + visual // 3
