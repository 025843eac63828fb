"""What a method and a caller are told, on tensors made by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.context import Asked, AttentionRows, PromptLayout, VisualContext, initial_layouts, runs_of

MASK = torch.tensor([[0, 1, 1, 0, 1, 0], [0, 0, 1, 1, 1, 0]], dtype=torch.bool)


@pytest.mark.parametrize("sizes", [None, (2, 1)])
def test_repeated_prompts_stand_one_after_the_other(sizes: Any) -> None:
    scores, keys = torch.arange(6.0).view(2, 3), torch.arange(12.0).view(2, 3, 2)
    told = VisualContext(MASK, view_sizes=sizes, cls_scores=scores, keys=keys, notes=("seen",), missing={"keys": "why"}).repeated(2)
    order = [0, 0, 1, 1]
    assert torch.equal(told.mask, MASK[order]) and told.view_sizes == sizes
    assert isinstance(told.cls_scores, torch.Tensor) and torch.equal(told.cls_scores, scores[order])
    assert isinstance(told.keys, torch.Tensor) and torch.equal(told.keys, keys[order])
    assert told.notes == ("seen",) and told.missing == {"keys": "why"} and told.views(3) == sizes


def test_repeated_prompts_of_their_own_sizes() -> None:
    scores, keys = [torch.arange(3.0), torch.arange(2.0)], [torch.zeros(3, 2), torch.ones(2, 2)]
    told = VisualContext(MASK, view_sizes=[(2, 1), (3,)], cls_scores=scores, keys=keys).repeated(3)
    assert [told.views(prompt) for prompt in range(6)] == [(2, 1)] * 3 + [(3,)] * 3
    assert told.cls_scores is not None and [len(one) for one in told.cls_scores] == [3, 3, 3, 2, 2, 2]
    assert told.keys is not None and [float(one.sum()) for one in told.keys] == [0, 0, 0, 4, 4, 4]
    bare = VisualContext(MASK).repeated(2)
    assert bare.cls_scores is None and bare.keys is None and bare.views(0) is None


def test_what_a_forwards_caller_asks_for() -> None:
    labels, shifted, ids = torch.tensor([[1, 2]]), torch.tensor([[3]]), torch.tensor([[7, 8]])
    spreads = SimpleNamespace(expand_labels=lambda given, asked: torch.cat([given, asked], dim=1))
    plain = SimpleNamespace()
    spread = Asked.of(spreads, {"labels": labels, "input_ids": ids}).labels
    assert spread is not None and spread.tolist() == [[7, 8, 1, 2]]
    for model, call in ((plain, {"labels": labels, "input_ids": ids}), (spreads, {"labels": labels})):
        assert Asked.of(model, call).labels is labels
    assert Asked.of(spreads, {"input_ids": ids}).labels is None
    asked = Asked.of(plain, {"shift_labels": shifted, "logits_to_keep": 3})
    assert asked.shift_labels is shifted and asked.logits_to_keep == 3 and asked.labels is None
    assert Asked.of(plain, {}).logits_to_keep == 0 and Asked.of(plain, {"logits_to_keep": None}).logits_to_keep == 0
    rows = torch.tensor([4])
    assert Asked.of(plain, {"logits_to_keep": rows}).logits_to_keep is rows


def test_layouts_of_a_padded_batch() -> None:
    valid = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1]], dtype=torch.bool)
    first, second = initial_layouts(MASK, valid)
    assert first.text.tolist() == [0, 3, 5] and first.visual.tolist() == [1, 2, 4] and first.ids.tolist() == [0, 1, 2]
    assert second.text.tolist() == [1, 5] and second.visual.tolist() == [2, 3, 4] and second.length == 5 and second.tokens == 3
    assert first.asking == second.asking == 1 and first.text_rows.tolist() == [5] and first.origin.tolist() == list(range(6))
    assert first.host_text is not None and first.host_text.tolist() == [0, 3, 5]
    hidden = torch.tensor([[1, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]], dtype=torch.bool)
    assert initial_layouts(MASK, hidden)[0].visual.tolist() == [2, 4]  # a visual token that is padding is none
    (no_image,) = initial_layouts(torch.zeros(1, 3, dtype=torch.bool), None)
    assert no_image.asking == 3 and no_image.tokens == 0
    with pytest.raises(SennaPruneError, match="sample 1: no text token after the last visual token"):
        initial_layouts(torch.tensor([[1, 0], [0, 1]], dtype=torch.bool), None)


def test_runs_are_views() -> None:
    assert runs_of(torch.tensor([1, 2, 4])) == (2, 1) and runs_of(torch.tensor([3])) == (1,) and runs_of(torch.tensor([])) == ()
    assert runs_of(torch.tensor([0, 1, 2, 10, 12, 13])) == (3, 1, 2)


@pytest.mark.parametrize("start", [0, 2])
def test_rows_without_their_batchs_padding(start: int) -> None:
    """weights of a prompt alone begin at its first slot; its layout counts the batch's."""
    weights = torch.rand(2, 3, 6, generator=torch.Generator().manual_seed(0))
    slots = torch.tensor([1, 2, 4]) + start
    layout = PromptLayout(torch.tensor([0, 3, 5]) + start, slots, torch.arange(3), torch.arange(6 + start), 1)
    rows = AttentionRows(weights, layout, start)
    visual = weights[:, :, [1, 2, 4]]
    assert torch.equal(rows.to_visual(), visual)
    torch.testing.assert_close(rows.mean_heads_to_visual(), visual.mean(0, keepdim=True))
    torch.testing.assert_close(rows.mean_to_visual(), visual.mean((0, 1)))
    assert rows.mean_to_visual().shape == (3,)
