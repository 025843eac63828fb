"""The short way of a cut keeps the same tokens as the long one, computes text rows once, and needs few operations."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from senna_autoprune import AutoPrune, SennaPruneError
from senna_autoprune.bench.shapes import BenchShape, build_decoder, build_prompt
from senna_autoprune.pruning.context import AttentionRows, PromptLayout, ShortLayout, initial_layouts
from senna_autoprune.pruning.decoder import rows_once
from senna_autoprune.pruning.decoder.gather import cut
from senna_autoprune.pruning.decoder.ranked import Ranked, can_rank
from tests.models import six_blocks, tiny_llama

# they hand out another look at the same numbers, and launch nothing
VIEWS = (
    "view slice unsqueeze select t transpose _unsafe_view expand alias detach unbind permute as_strided split reshape squeeze lift_fresh"
)


class _Operations(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names[str(function).split(".")[1]] += 1
        return function(*args, **(kwargs or {}))

    @property
    def count(self) -> int:
        return sum(count for name, count in self.names.items() if name not in VIEWS.split())


@pytest.mark.parametrize("heads", [2, 12])
def test_a_pruned_prefill_needs_at_most_a_quarter_more_operations_than_stock(heads, monkeypatch):
    """At the depth of the benchmark; operators other than views, under no_grad, where composite ones are taken apart.

    Where scores are larger than its cache a CPU computes the rows in two bands: five operations more in such a layer, which cost it
    nothing. This is about launches, so there it is counted as on a device that launches.
    """
    if heads == 12:
        monkeypatch.setattr(rows_once, "BANDED", 1 << 62)
    shape = BenchShape(layers=24, hidden=16 * heads, heads=heads, vocabulary=16)
    model = build_decoder(shape, torch.float32, "cpu")
    embeds, mask = build_prompt(shape, torch.float32, "cpu")

    def count(policy):
        with policy(model, visual_mask=mask) if policy else nullcontext(), torch.no_grad(), _Operations() as operations:
            model(inputs_embeds=embeds, use_cache=True, logits_to_keep=1)
        return operations.count

    stock, pruned = count(None), count(AutoPrune(retention=0.25))
    assert stock > 24 * 30
    assert stock < pruned <= 1.25 * stock
    if heads == 12:
        monkeypatch.undo()
        assert 0 < count(AutoPrune(retention=0.25)) - pruned <= 24 * 5


@dataclass(kw_only=True)
class LongWay(AutoPrune):
    """The twin: a ``select`` of its own, so that the decoder asks it, and cuts by gather.py."""

    def select(self, context, layer, count):
        return super().select(context, layer, count)


def _prefill(policy, model, embeds, mask):
    with policy(model, visual_mask=mask) as trace, torch.no_grad():
        output = model(inputs_embeds=embeds, use_cache=True)
    return output, trace[0]


@pytest.mark.parametrize("banded", [0, rows_once.BANDED])
@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("groups", [4, 2])
@pytest.mark.parametrize("options", [{"retention": 0.25}, {"retention": 0.4, "count": "leaving"}, {"flops": 0.5}, {"retention": 1.0}])
def test_the_short_way_is_the_long_one(options, groups, kernel, banded, monkeypatch):
    monkeypatch.setattr(rows_once, "BANDED", banded)
    model = tiny_llama(groups=groups, attention=kernel)
    embeds, mask = six_blocks(after=9)
    short, trace = _prefill(AutoPrune(**options), model, embeds, mask)
    long, expected = _prefill(LongWay(**options), model, embeds, mask)
    assert trace.tokens_per_layer == expected.tokens_per_layer
    assert [ids.tolist() for ids in trace.ids] == [ids.tolist() for ids in expected.ids]
    assert trace.per_view == expected.per_view
    assert trace.mutual_information == pytest.approx(expected.mutual_information, rel=1e-4)
    assert (short.logits - long.logits).abs().max() <= 1e-5 * long.logits.abs().max()
    for one, other in zip(short.past_key_values.layers, long.past_key_values.layers, strict=True):
        assert one.keys.shape == other.keys.shape
        assert (one.keys - other.keys).abs().max() <= 1e-4 * other.keys.abs().max()


def test_only_a_method_that_ranks_as_stock_goes_the_short_way():
    class Own(AutoPrune):
        def score(self, context, layer):
            return super().score(context, layer)

    patched = AutoPrune(retention=0.3)
    patched.score = lambda context, layer: None  # type: ignore[method-assign]
    ways = [AutoPrune(retention=0.3), AutoPrune(retention=0.3, indicator="static"), LongWay(retention=0.3), Own(retention=0.3), patched]
    ways += [AutoPrune(retention=0.3, scope="view"), AutoPrune(retention=0.3, revival="merge"), AutoPrune(retention=0.3, mode="release")]
    assert [policy.ranks_by_mean_attention(3) for policy in ways] == [True, True, False, False, False, False, False, False]
    assert not AutoPrune(retention=0.3).ranks_by_mean_attention(0)


def test_rows_are_kept_where_more_is_asked_for_than_their_ranks(monkeypatch):
    """A probe reads its layer's rows; every layer above it whose next one cuts is asked for ranks alone."""
    asked = []
    plain = rows_once.attend

    def attend(*args):
        asked.append(args[-1] is not None)
        return plain(*args)

    monkeypatch.setattr(rows_once, "attend", attend)
    embeds, mask = six_blocks(after=9)
    policy = AutoPrune(retention=0.3)
    _, trace = _prefill(policy, tiny_llama(), embeds, mask)
    cuts = sum(one != other for one, other in pairwise([*trace.tokens_per_layer, trace.tokens_leaving]))
    assert policy.probes(8) == (0,) and cuts > 3
    assert asked == [False] + [True] * (cuts - 1)
    asked.clear()
    _prefill(LongWay(retention=0.3), tiny_llama(), embeds, mask)
    assert not asked


def test_what_is_worked_out_later_is_what_a_cut_says_at_once():
    generator = torch.Generator().manual_seed(3)
    mask = torch.rand(1, 60, generator=generator) < 0.6
    mask[:, -5:] = False
    layout = long = initial_layouts(mask, None)[0]
    for tokens in (20, 9, 9, 2):
        kept = torch.randperm(long.tokens, generator=generator)[:tokens].sort().values
        one = cut(long, long.length, kept, 0)
        layout, long = ShortLayout(layout, one.source, tokens), one.layout
    assert (layout.tokens, layout.length, layout.asking) == (2, long.length, long.asking)
    for name in ("text", "visual", "ids", "origin", "text_rows"):
        assert getattr(layout, name).tolist() == getattr(long, name).tolist(), name
    assert not {"text", "visual"} & vars(ShortLayout(long, torch.arange(long.length), 2)).keys()


def test_ranks_follow_text_and_ties_go_to_the_lower_slot():
    layout = PromptLayout(torch.tensor([0, 3, 6, 7]), torch.tensor([1, 2, 4, 5]), torch.arange(4), torch.arange(8), 2)
    weights = torch.tensor([0.1, 0.2, 0.1, 0.3, 0.1, 0.2, 0.0, 0.0]).expand(3, 2, 8)
    tables = torch.rand(1, 8, 4), torch.rand(1, 8, 4)
    for dtype in (torch.float32, torch.bfloat16):
        ranked, rotary = Ranked(layout, 8, once=True), tuple(table.to(dtype) for table in tables)
        scores = ranked.rank(AttentionRows(weights, layout))
        assert scores[0].tolist() == pytest.approx([torch.inf, 0.2, 0.1, torch.inf, 0.1, 0.2, torch.inf, torch.inf])
        source = ranked.keep(scores, 3)
        assert source.tolist() == [0, 1, 2, 3, 5, 6, 7]
        followed = ranked.follow(source, rotary)
        assert all(torch.equal(one, table.index_select(1, source)) for one, table in zip(followed, rotary, strict=True))
        again = ranked.rank(AttentionRows(weights[..., source], layout))
        assert again[0].isinf().tolist() == [True, False, False, True, False, True, True]
        second = ranked.follow(torch.tensor([0, 3, 5, 6]), rotary)
        assert torch.equal(second[1], rotary[1].index_select(1, torch.tensor([0, 3, 6, 7])))


def test_the_gradient_flows_as_in_the_stock_model():
    model = tiny_llama()
    embeds, mask = six_blocks()
    gradients = []
    for policy in (AutoPrune(retention=0.3), LongWay(retention=0.3)):
        given = embeds.clone().requires_grad_()
        with policy(model, visual_mask=mask):
            model(inputs_embeds=given, logits_to_keep=1).logits.sum().backward()
        gradients.append(given.grad)
    assert gradients[0].abs().sum() > 0
    assert (gradients[0] - gradients[1]).abs().max() <= 1e-4 * gradients[1].abs().max()


def test_attention_that_is_not_finite_is_refused_on_the_short_way_too():
    model = tiny_llama()
    embeds, mask = six_blocks()
    with torch.no_grad():
        model.model.layers[2].self_attn.q_proj.weight.fill_(float("nan"))
    with pytest.raises(SennaPruneError, match="gave NaN"), AutoPrune(retention=0.3)(model, visual_mask=mask), torch.no_grad():
        model(inputs_embeds=embeds)


@pytest.mark.parametrize(
    ("shapes", "batch", "fits"),
    [
        (((1, 9, 4), (1, 9, 4)), 1, True),
        (((1, 9, 4), (1, 9, 4)), 3, True),
        (((3, 9, 4), (3, 9, 4)), 3, True),
        (((2, 9, 4), (2, 9, 4)), 3, False),
        (((1, 9, 4), (2, 9, 4)), 1, False),
        (((1, 1, 9, 4), (1, 1, 9, 4)), 1, False),
        (((1, 9, 4),) * 3, 1, False),
        (((1, 9, 4),), 1, False),
    ],
)
def test_rotary_tables_that_can_be_followed(shapes, batch, fits):
    tables = tuple(torch.zeros(shape) for shape in shapes)
    assert can_rank({"position_embeddings": tables}, batch) is fits
    assert not can_rank({"position_embeddings": list(tables)}, batch) and not can_rank({}, batch)


def test_a_method_is_shown_the_tables_of_its_layer_and_of_the_one_below():
    """Of a decoder whose layers rotate differently, though the short way showed it nothing meanwhile."""
    model, (embeds, mask) = tiny_llama(layers=6), six_blocks()
    given, seen = {}, []

    def own(index):
        def before(layer, args, kwargs):
            given[index] = tuple(table.clone() for table in kwargs["position_embeddings"])
            return args, {**kwargs, "position_embeddings": given[index]}

        return before

    class Looks(AutoPrune):
        def ranks_by_mean_attention(self, layer):
            return layer != 4 and AutoPrune(retention=0.4).ranks_by_mean_attention(layer)

        def score(self, context, layer):
            seen.append((layer, context.boundary, context.tables is given[layer], context.tables_below is given[layer - 1]))
            return super().score(context, layer)

    hooks = [layer.register_forward_pre_hook(own(index), with_kwargs=True) for index, layer in enumerate(model.model.layers)]
    with Looks(retention=0.4)(model, visual_mask=mask), torch.no_grad():
        model(inputs_embeds=embeds, use_cache=True)
    for hook in hooks:
        hook.remove()
    assert seen == [(layer, layer, True, True) for layer in (4, 5)]  # after one long way all are
