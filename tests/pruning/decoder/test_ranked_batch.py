"""A padded batch's short way of a cut keeps the same tokens as the long one, and needs few operations."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from senna_autoprune import AutoPrune, SennaPruneError, build_policy
from senna_autoprune.bench.batches import pad
from senna_autoprune.pruning.context import AttentionRows, initial_layouts
from senna_autoprune.pruning.decoder import prefill as prefill_module
from senna_autoprune.pruning.decoder import rows_once
from senna_autoprune.pruning.decoder.gather import cut, gather_batch
from senna_autoprune.pruning.decoder.ranked_batch import RankedBatch
from tests.models import six_blocks, tiny_llama
from tests.pruning.decoder.test_ranked import LongWay, _Operations


@pytest.fixture
def prompts():
    """Three of different lengths, left-padded together."""
    return pad([six_blocks(after=after, seed=after) for after in (7, 12, 9)])


@pytest.fixture
def short(monkeypatch):
    """Boundaries at which a batch took the short way."""
    seen = []
    plain = prefill_module.Prefill._gather_ranked_batch

    def counted(self, ranked, boundary, *args):
        seen.append(boundary)
        return plain(self, ranked, boundary, *args)

    monkeypatch.setattr(prefill_module.Prefill, "_gather_ranked_batch", counted)
    return seen


def prefill(policy, model, embeds, visual, valid, **kwargs):
    with policy(model, visual_mask=visual) as trace, torch.no_grad():
        output = model(inputs_embeds=embeds, attention_mask=valid, use_cache=True, **kwargs)
        after = model(
            input_ids=torch.tensor([[5], [6], [7]]),
            attention_mask=torch.cat([valid, valid[:, :1] * 0 + 1], dim=1),
            past_key_values=output.past_key_values,
        )
    return output, after.logits, trace


@pytest.mark.parametrize("banded", [0, rows_once.BANDED])
@pytest.mark.parametrize("groups", [4, 2])
@pytest.mark.parametrize("options", [{"retention": 0.25}, {"retention": 0.4, "count": "leaving"}, {"flops": 0.5}])
def test_the_short_way_is_the_long_one(prompts, short, options, groups, banded, monkeypatch):
    monkeypatch.setattr(rows_once, "BANDED", banded)
    model = tiny_llama(groups=groups)
    whole, after, traces = prefill(AutoPrune(**options), model, *prompts, logits_to_keep=3)
    assert short
    cuts = len(short)
    long, expected_after, expected = prefill(LongWay(**options), model, *prompts, logits_to_keep=3)
    assert len(short) == cuts
    for trace, other in zip(traces, expected, strict=True):
        assert trace.tokens_per_layer == other.tokens_per_layer and trace.per_view == other.per_view
        assert [ids.tolist() for ids in trace.ids] == [ids.tolist() for ids in other.ids]
        assert [one.visual.tolist() for one in trace.layouts] == [one.visual.tolist() for one in other.layouts]
        assert [one.text.tolist() for one in trace.layouts] == [one.text.tolist() for one in other.layouts]
        assert [one.origin.tolist() for one in trace.layouts] == [one.origin.tolist() for one in other.layouts]
    assert (whole.logits - long.logits).abs().max() <= 1e-5 * long.logits.abs().max()
    assert (after - expected_after).abs().max() <= 1e-5 * expected_after.abs().max()


def test_rows_that_a_caller_asks_for_come_back_to_their_places(prompts, short):
    embeds, visual, valid = prompts
    labels = torch.full(valid.shape, -100)
    labels[:, -3:] = 4
    losses = []
    for policy in (AutoPrune(retention=0.3), LongWay(retention=0.3)):
        model = tiny_llama()
        with policy(model, visual_mask=visual), torch.no_grad():
            losses.append(model(inputs_embeds=embeds, attention_mask=valid, labels=labels).loss)
    assert short and losses[0] == pytest.approx(float(losses[1]), rel=1e-5)


def test_nobody_is_told_what_torch_thinks_of_strides(prompts):
    """What a layout is worked out from may be a column of places, which torch warns of once a process: in every user's terminal."""
    embeds, visual, valid = prompts
    model = tiny_llama()
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for rows, mask in ((slice(None), valid), (slice(1), None)):
                with AutoPrune(retention=0.3)(model, visual_mask=visual[rows]) as traces, torch.no_grad():
                    model(inputs_embeds=embeds[rows], attention_mask=mask)
                assert all(len(layout.visual) == layout.tokens for trace in traces for layout in trace.layouts)
    finally:
        torch.set_warn_always(False)


def test_a_step_by_step_cut_is_that_of_each_prompt():
    """The class by itself, over three cuts, against cut and gather_batch."""
    generator = torch.Generator().manual_seed(1)
    valid = torch.ones(3, 24, dtype=torch.bool)
    valid[0, :5] = valid[2, :2] = False
    visual = (torch.rand(3, 24, generator=generator) < 0.8) & valid
    visual[:, 0] = visual[:, -4:] = False  # what stands at padding is slot 0's, here text: it must not rank as that
    layouts = initial_layouts(visual, valid)
    ranked = RankedBatch(layouts, 24)
    assert ranked.starts == [5, 0, 2]
    hidden = long = torch.rand(3, 24, 6, generator=generator)
    tables = torch.rand(1, 24, 4, generator=generator), torch.rand(1, 24, 4, generator=generator)
    whole, short = tables, layouts
    plan = ((7, 3, 9), (6, 2, 8), (1, 2, 0))
    ranked.plan(list(zip(*plan, strict=True)))
    for boundary, counts in enumerate(plan):
        weights = torch.rand(3, 2, 4, hidden.shape[1], generator=generator)
        weights[..., 4] = weights[..., 3]  # ties
        rows = [AttentionRows(weights[0, :, :, ranked.starts[0] :], layouts[0], ranked.starts[0])]
        rows += [
            AttentionRows(weights[sample] * (torch.arange(hidden.shape[1]) >= ranked.starts[sample]), layouts[sample]) for sample in (1, 2)
        ]
        scores = ranked.rank(rows)
        kept = ranked.keep(scores, boundary)
        short = ranked.layouts(short, boundary, kept, hidden.shape[1])
        hidden, tables = hidden.flatten(0, 1)[kept].view(3, -1, 6), ranked.follow(kept, whole)
        cuts = []
        for one, row, count in zip(layouts, weights, counts, strict=True):
            means = row.mean((0, 1))[one.visual]
            kept = torch.sort(means, descending=True, stable=True).indices[:count].sort().values
            cuts.append(cut(one, long.shape[1], kept, 0))
        gathered = gather_batch(long, [None] * 3, cuts)
        long, layouts = gathered.hidden, gathered.layouts
        assert hidden.shape == long.shape
        for sample, start in enumerate(ranked.starts):
            assert torch.equal(hidden[sample, start:], long[sample, start:])
            assert torch.equal(tables[1][sample, start:], whole[1][0, layouts[sample].origin[start:]])
        for one, other in zip(short, layouts, strict=True):
            assert (one.length, one.tokens) == (other.length, other.tokens)
            assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("text", "visual", "ids", "origin"))
        assert (gathered.valid is None and ranked.there is None) or torch.equal(gathered.valid, ranked.there)


@settings(max_examples=100, deadline=None)
@given(st.integers(3, 12), st.integers(1, 4), st.data())
def test_the_best_of_each_prompt_are_those_of_a_sort(size, batch, data):
    """With ties and infinities; whatever a prompt keeps."""
    number = st.sampled_from([0.0, -0.0, 0.1, 0.2, 0.3, 0.4, 0.5, float("inf"), float("-inf")])
    scores = torch.tensor(data.draw(st.lists(st.lists(number, min_size=size, max_size=size), min_size=batch, max_size=batch)))
    visual = torch.ones(batch, size, dtype=torch.bool)
    visual[:, -1] = False
    counts = data.draw(st.lists(st.integers(0, size - 1), min_size=batch, max_size=batch))
    ranked = RankedBatch(initial_layouts(visual, None), size)
    ranked.plan([[count] for count in counts])
    kept = ranked.keep(scores, 0).view(batch, -1)
    order = torch.sort(scores, descending=True, stable=True).indices
    for sample, count in enumerate(counts):
        padding = max(counts) - count
        assert (kept[sample] - sample * size).tolist() == [0] * padding + sorted(order[sample, : count + 1].tolist())
        assert (ranked.there is None and not padding) or ranked.there[sample].tolist() == [False] * padding + [True] * (count + 1)


def test_scores_are_means_of_rows_that_were_kept():
    """Of each prompt's own last rows, of which the other has more; at text +inf, at padding -inf."""
    generator = torch.Generator().manual_seed(2)
    valid = torch.ones(2, 12, dtype=torch.bool)
    valid[1, :3] = False
    visual = torch.zeros(2, 12, dtype=torch.bool)
    visual[0, 2:8] = visual[1, 5:10] = True  # four rows after the one's tokens, two after the other's
    layouts = initial_layouts(visual, valid)
    whole = torch.rand(2, 3, 6, 12, generator=generator)  # (B, H, R, M)
    whole[1, ..., :3] = 0  # padding
    asking = [layout.asking for layout in layouts]
    assert asking == [4, 2]
    ranked = RankedBatch(layouts, 12)
    rows = [
        AttentionRows(whole[sample, :, -layout.asking :, start:], layout, start)
        for sample, (layout, start) in enumerate(zip(layouts, (0, 3), strict=True))
    ]
    scores = ranked.rank(rows)
    for sample in range(2):
        expected = whole[sample, :, -asking[sample] :].mean((0, 1))
        expected[valid[sample] & ~visual[sample]] = float("inf")
        expected[~valid[sample]] = float("-inf")
        assert torch.allclose(scores[sample], expected)


def test_a_batch_needs_few_operations(prompts):
    """Beyond what attending prompt by prompt costs, a cut of a batch is one cut, not one a prompt."""
    model, (embeds, visual, valid) = tiny_llama(), prompts
    counts = []
    for policy in (AutoPrune(retention=0.25), LongWay(retention=0.25)):
        with policy(model, visual_mask=visual), torch.no_grad(), _Operations() as operations:
            model(inputs_embeds=embeds, attention_mask=valid, use_cache=True, logits_to_keep=1)
        counts.append(operations.count)
    assert counts[0] < 0.75 * counts[1]


def test_what_ranks_otherwise_goes_the_long_way(prompts, short):
    model = tiny_llama()
    for name, options in (("autoprune", {"scope": "view"}), ("autoprune", {"revival": "merge"}), ("random", {}), ("fastv", {})):
        prefill(build_policy(name, retention=0.4, **options), model, *prompts, logits_to_keep=1)
    embeds, visual, valid = prompts
    some = visual.clone()
    some[1] = False  # a prompt without images
    prefill(AutoPrune(retention=0.4), model, embeds, some, valid, logits_to_keep=1)
    prefill(AutoPrune(retention=0.4), tiny_llama(attention="eager"), *prompts, logits_to_keep=1)
    assert not short


def test_the_gradient_flows_where_a_batch_stays_together(prompts):
    model, (embeds, visual, valid) = tiny_llama(), prompts
    gradients = []
    for policy in (AutoPrune(retention=0.3), LongWay(retention=0.3)):
        given = embeds.clone().requires_grad_()
        with policy(model, visual_mask=visual):
            model(inputs_embeds=given, attention_mask=valid, logits_to_keep=1).logits.sum().backward()
        gradients.append(given.grad)
    assert gradients[0].abs().sum() > 0
    assert (gradients[0] - gradients[1]).abs().max() <= 1e-4 * gradients[1].abs().max()


def test_attention_that_is_not_finite_is_refused(prompts):
    model, (embeds, visual, valid) = tiny_llama(), prompts
    with torch.no_grad():
        model.model.layers[2].self_attn.q_proj.weight.fill_(float("nan"))
    with pytest.raises(SennaPruneError, match="gave NaN"), AutoPrune(retention=0.3)(model, visual_mask=visual), torch.no_grad():
        model(inputs_embeds=embeds, attention_mask=valid)


def test_one_prompt_that_is_not_finite_is_refused_wherever_it_stands(prompts):
    model, (embeds, visual, valid) = tiny_llama(), prompts
    for row in range(3):
        given = embeds.clone()
        given[row, -1] = float("inf")
        with (
            pytest.raises(SennaPruneError, match="AutoPrune: the indicator is nan"),
            AutoPrune(retention=0.3)(model, visual_mask=visual),
            torch.no_grad(),
        ):
            model(inputs_embeds=given, attention_mask=valid)
        policy = AutoPrune(retention=0.3, indicator="static")
        with torch.no_grad(), pytest.raises(SennaPruneError, match="NaN"), policy(model, visual_mask=visual):
            model(inputs_embeds=given, attention_mask=valid)


@pytest.mark.parametrize("alone", [True, False])
def test_positions_that_layers_read_follow_the_cuts(prompts, monkeypatch, alone):
    """Of a family that is not known to take them from the rotary table alone."""
    monkeypatch.setattr(prefill_module, "LOOKAHEAD", frozenset())
    embeds, visual, valid = (part[1:2] if alone else part for part in prompts)
    model, found = tiny_llama(), []
    for policy in (AutoPrune(retention=0.3), LongWay(retention=0.3)):
        seen = []

        def look(layer, args, kwargs, seen=seen):
            seen.append(kwargs["position_ids"].expand(len(valid), -1).tolist())

        with policy(model, visual_mask=visual) as trace, torch.no_grad():
            hooks = [layer.register_forward_pre_hook(look, with_kwargs=True) for layer in model.model.layers]
            model(inputs_embeds=embeds, attention_mask=valid)
        for hook in hooks:
            hook.remove()
        lengths = [[one.text_tokens + one.tokens_per_layer[layer] for one in trace] for layer in range(len(seen))]
        # padding may be told anything
        found.append([[row[-length:] for row, length in zip(*layer, strict=True)] for layer in zip(seen, lengths, strict=True)])
    assert found[0] == found[1] and len(found[0][-1][0]) < len(found[0][0][0])
    assert all(row == sorted(row) and row != list(range(row[0], row[0] + len(row))) for row in found[0][-1])


def test_padding_on_the_right_stays_together(prompts, short):
    """Where the caller asks for rows by labels, prompts may end before the batch does; the short way takes them for padded on the left."""
    valid = prompts[2]
    ended = [torch.stack([row.roll(-int((there == 0).sum()), 0) for row, there in zip(part, valid, strict=True)]) for part in prompts]
    labels, alone = torch.full(valid.shape, -100), []
    for row, length in enumerate(valid.sum(1).tolist()):
        labels[row, length - 3 : length] = 4
        with AutoPrune(retention=0.3)(tiny := tiny_llama(), visual_mask=ended[1][row : row + 1, :length]), torch.no_grad():
            alone.append(float(tiny(inputs_embeds=ended[0][row : row + 1, :length], labels=labels[row : row + 1, :length]).loss))
    with AutoPrune(retention=0.3)(model := tiny_llama(), visual_mask=ended[1]), torch.no_grad():
        loss = model(inputs_embeds=ended[0], attention_mask=ended[2], labels=labels).loss
    assert not short and float(loss) == pytest.approx(sum(alone) / 3, rel=1e-5)
