"""Methods at their borders: what AutoPrune measures, options that just pass and those that just do not, and what is said of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from senna_autoprune import (
    DART,
    AutoPrune,
    FasterVLM,
    FastV,
    Prune2Drive,
    PyramidDrop,
    SennaPruneError,
    SparseVLM,
    VisionZip,
    VisPruner,
    build_policy,
)
from senna_autoprune.pruning.cost import LayerCost
from senna_autoprune.pruning.method import Method, _ranges
from senna_autoprune.pruning.methods import autoprune, sparsevlm
from senna_autoprune.pruning.methods import autoprune_release as release
from senna_autoprune.pruning.methods.cdpruner import instruction_relevance
from senna_autoprune.pruning.methods.facts import method_facts
from senna_autoprune.pruning.methods.registry import is_method
from senna_autoprune.pruning.parts.curves import CurveParameters
from senna_autoprune.pruning.parts.revival import split_for_merge
from tests import twins


def asked(**known: Any) -> Any:
    """A prompt of 8 layers, 40 visual and 10 text tokens."""
    budget = SimpleNamespace(flops=known.pop("flops", None))
    values = {
        "layers": 8,
        "visual": 40,
        "text": 10,
        "budget": budget,
        "cost": LayerCost(8, 8, 8, 16),
        "scratch": {},
        "measured": [0.5],
        "notes": [],
    }
    context = SimpleNamespace(**{**values, **known})
    context.average_tokens, context.note = lambda: known.get("average", 12.0), context.notes.append
    return context


def test_autoprune_measures_the_indicator_that_it_names() -> None:
    generator = torch.Generator().manual_seed(3)
    rows = (4 * torch.randn(3, 7, 25, generator=generator)).softmax(-1)[..., :20]
    attention = SimpleNamespace(mean_heads_to_visual=lambda: rows.mean(0, keepdim=True))
    visual, text = torch.randn(20, 6, generator=generator), torch.randn(5, 6, generator=generator)
    context = SimpleNamespace(attention=attention, visual_hidden=visual, text_hidden=text)
    cosine = float(visual.mean(0) @ text.mean(0) / visual.mean(0).norm() / text.mean(0).norm())
    expected = {"mutual_information": twins.mutual_information(rows), "attention": float(rows.mean()) * 20, "cosine": cosine}
    for indicator, value in expected.items():
        policy = AutoPrune(retention=0.5, indicator=indicator)
        assert policy.measure(context, 0).tolist() == pytest.approx([value], abs=1e-5), indicator
        assert policy.probes(8) == ((-1,) if indicator == "cosine" else (0,))
    static = AutoPrune(retention=0.5, indicator="static")
    assert static.measure(context, 0) is None and static.probes(8) == (-1,) and AutoPrune(retention=0.5, mode="release").probes(8) == (0, 1)


def test_the_two_modes_of_autoprune_differ_in_what_they_ask_of_the_decoder() -> None:
    paper, leaving, released = AutoPrune(retention=0.5), AutoPrune(retention=0.5, count="leaving"), AutoPrune(retention=0.5, mode="release")
    assert (paper.positions, paper.needs, paper.spends, leaving.spends) == ("original", frozenset(), "entering", "leaving")
    assert (released.positions, released.needs, released.spends) == ("compact", {"cls_scores"}, "released")
    options = {"indicator": "static", "curve": "linear", "scope": "view", "bucket": 2, "quantum": 0.5}
    for option, value in options.items():
        with pytest.raises(SennaPruneError, match=f"without {option}; use mode='paper'"):
            AutoPrune(retention=0.5, mode="release", **{option: value})
    with pytest.raises(SennaPruneError, match="without indicator, curve, flops; use"):
        AutoPrune(flops=0.5, mode="release", indicator="static", curve="linear")
    for option in ("revival", "count"):
        with pytest.raises(SennaPruneError, match=f"AutoPrune: {option}='both' is unknown; choose one of (drop, merge|entering, leaving)$"):
            AutoPrune(retention=0.5, **{option: "both"})


def test_merged_tokens_are_a_part_of_the_same_schedule() -> None:
    plain, merging = (AutoPrune(tokens=12, revival=revival).allocate(asked()) for revival in ("drop", "merge"))
    assert merging.entering == plain.entering and plain.selected is None
    assert merging.selected == (40, *(split_for_merge(b, n)[0] for b, n in zip(plain.entering[:-1], plain.entering[1:], strict=True)))
    assert any(chosen < entering for chosen, entering in zip(merging.selected, merging.entering, strict=True))


def test_every_constant_of_eq_8_reaches_the_curve() -> None:
    for options in ({"k0": 0.9}, {"gamma": 0.5}, {"x0": 2.0}, {"beta": 3.0}):
        context = asked()
        AutoPrune(tokens=12, **options).allocate(context)
        eq8 = CurveParameters.for_depth(8, **options)
        assert context.scratch["curve"] == {"mutual_information": 0.5, "k": eq8.steepness(0.5), "x0": eq8.inflexion(0.5)}
    assert AutoPrune(tokens=12).describe(asked()) == {}
    for budget in ({"tokens": 12.0}, {"flops": 0.5}):
        context = asked(flops=budget.get("flops"))
        entering = AutoPrune(**budget, min_keep=7, k0=3.0).allocate(context).entering
        assert min(entering) == 7 and all(count % 5 == 0 for count in AutoPrune(**budget, bucket=5).allocate(context).entering)


def test_when_the_decoder_may_rank_by_itself() -> None:
    """Only where a method's score and selection are the stock ones."""
    assert AutoPrune(retention=0.5).ranks_by_mean_attention(1) and not AutoPrune(retention=0.5).ranks_by_mean_attention(0)
    for options in ({"revival": "merge"}, {"mode": "release"}, {"scope": "view"}):
        assert not AutoPrune(retention=0.5, **options).ranks_by_mean_attention(1)

    class Stock(AutoPrune):
        pass

    class Scored(AutoPrune):
        def score(self, context: Any, layer: int) -> Any:
            return super().score(context, layer)

    class Selected(AutoPrune):
        def select(self, context: Any, layer: int, count: int) -> Any:
            return super().select(context, layer, count)

    own = Stock(retention=0.5)
    assert own.ranks_by_mean_attention(1)
    own.score = lambda context, layer: None  # type: ignore[method-assign]
    found = [own, Scored(retention=0.5), Selected(retention=0.5), FastV(retention=0.5), PyramidDrop(retention=0.5)]
    assert not any(policy.ranks_by_mean_attention(1) for policy in found)
    assert not Method.scores_from_attention(own, 0) and Method.scores_from_attention(own, 1)


def test_ranges_of_views_and_of_merged_tokens() -> None:
    assert [one.tolist() for one in _ranges([2, 1], 3, "cpu")] == [[0, 1], [2]]
    assert [one.tolist() for one in _ranges([2, 1], 5, "cpu")] == [[0, 1], [2], [3, 4]]


def test_a_released_budget_that_the_curve_cannot_reach_is_said_with_its_numbers() -> None:
    missed: list[tuple[int, int]] = []
    counts = release.release_schedule(8, 96, 24, 0.4, 4.0, lambda spent, budget: missed.append((spent, budget)))
    assert missed == [] and sum(map(sum, counts)) == pytest.approx(8 * 24, abs=4)
    context = asked(visual=96, boundary=2, measured=[0.0], average=24.0)
    release.allocate(context, 9.0, 0.2, 0.1)  # a cliff: nothing is left after layer 1
    spent = sum(map(sum, release.release_schedule(8, 96, 24, 9.0, 0.1)))
    assert context.notes == [f"release: the curve cannot spend 192 token-layers, it spends {spent} (an average of {spent / 8:.1f} tokens)"]


def test_relevance_is_scaled_from_the_least_to_the_most_alike() -> None:
    text = torch.tensor([[1.0, 0.0], [3.0, 0.0]])
    visual = torch.tensor([[1.0, 0.0], [-2.0, 0.0], [0.0, 1.0]])
    assert instruction_relevance(visual, text).tolist() == pytest.approx([1.0, 5e-7, 0.5], abs=1e-6)
    assert instruction_relevance(visual[:1], text).tolist() == pytest.approx([1.0], abs=1e-5)


@pytest.mark.parametrize(
    ("make", "good", "bad", "message"),
    [
        (FastV, {"k": 1}, {"k": 0}, "FastV: k=0 must be a layer >= 1"),
        (DART, {"image_pivots": 0, "text_pivots": 1}, {"image_pivots": 0, "text_pivots": 0}, "DART: 0 image and 0 text pivots"),
        (DART, {"image_pivots": 1, "text_pivots": 0}, {"image_pivots": 4, "text_pivots": -1}, "DART: 4 image and -1 text pivots"),
        (DART, {"layer": 0}, {"layer": -1}, "DART: layer=-1"),
        (Prune2Drive, {"view_ratios": (0.0, 0.5)}, {"view_ratios": (0, 0)}, "not all 0"),
        (VisPruner, {"important_share": 0}, {"important_share": 1}, "VisPruner: important_share=1 must be"),
        (VisionZip, {"contextual_share": 0}, {"contextual_share": 1}, "VisionZip: contextual_share=1 must be"),
        (VisionZip, {"contextual_share": 0.99}, {"contextual_share": -0.1}, "VisionZip: contextual_share=-0.1 must be"),
        (Prune2Drive, {"view_ratios": (3,)}, {"view_ratios": (2, -0.1)}, "numbers >= 0"),
    ],
)
def test_options_that_just_pass(make: Any, good: dict[str, Any], bad: dict[str, Any], message: str) -> None:
    make(retention=0.5, **good)
    with pytest.raises(SennaPruneError, match=message):
        make(retention=0.5, **bad)


def test_lists_of_a_released_pyramid() -> None:
    one = PyramidDrop(mode="release", layer_list=(1,), ratio_list=(1.0,))
    assert one.allocate(asked()).entering[:8] == (40,) * 8
    for layers, ratios in (
        ((1,), (1.01,)),
        ((0,), (0.5,)),
        ((1, 1), (0.5, 0.5)),
        ((1, 2), (0.5, 0.6)),
        ((1,), (0.0,)),
        ((), ()),
        ((1,), (0.5, 0.2)),
    ):
        with pytest.raises(SennaPruneError, match="PyramidDrop: layer_list"):
            PyramidDrop(mode="release", layer_list=layers, ratio_list=ratios)
    fits, beyond = asked(), asked()
    assert PyramidDrop(mode="release", layer_list=(2, 7), ratio_list=(0.5, 0.25)).allocate(fits).entering[:8] == (
        40,
        40,
        20,
        20,
        20,
        20,
        20,
        10,
    )
    PyramidDrop(mode="release", layer_list=(2, 8), ratio_list=(0.5, 0.25)).allocate(beyond)
    assert fits.notes == [] and len(beyond.notes) == 1 and "in a decoder of 8 layers" in beyond.notes[0]


def test_dart_inside_the_decoder_keeps_all_before_its_layer() -> None:
    assert DART(tokens=12, layer=2).allocate(asked(average=14.0)).entering[:8] == (40, 40, *[5] * 6)
    assert DART(tokens=12, layer=1).allocate(asked()).entering[0] == 40 > DART(tokens=12).allocate(asked()).entering[0]


def test_sparsevlm_looks_before_each_cut_that_the_decoder_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cuts at 3, 7, 16 and 20; the noise that was given is that of the layer below the cut."""
    released = SparseVLM(mode="v1.0", noise={15: torch.ones(2)})
    probes = [released.probes(layers) for layers in (32, 20, 16, 7, 3)]
    assert probes == [(-1, 2, 6, 15, 19), (-1, 2, 6, 15), (-1, 2, 6), (-1, 2), (-1,)]
    assert SparseVLM(retention=0.5).probes(32) == (-1,)
    for policy, module in ((released, sparsevlm), (AutoPrune(retention=0.5, noise={15: torch.ones(2)}), autoprune)):
        given: list[Any] = []
        monkeypatch.setattr(module, "merge_dropped", lambda *args, given=given: given.append(args))
        policy.revive("context", 16, "dropped", 3)  # type: ignore[arg-type]
        policy.revive("context", 7, "dropped", 3)  # type: ignore[arg-type]
        assert given == [("context", "dropped", 3, policy.noise[15]), ("context", "dropped", 3, None)]


def test_what_is_told_of_a_method() -> None:
    random, seen, maybe = method_facts("random"), method_facts("fastervlm"), method_facts("autoprune")
    assert (random.needs, random.acts_on) == ("nothing", "every decoder that can be pruned")
    assert random.path == "senna_autoprune.pruning.methods.controls:RandomPruning"
    assert (seen.needs, seen.acts_on) == ("the vision tower's CLS attention", "models whose vision tower has a [CLS] token")
    assert (maybe.needs, maybe.acts_on) == ("the vision tower's CLS attention where there is one", "every decoder that can be pruned")
    assert is_method("a.b:C") and is_method("a.b.c:C") and not is_method("a..b:C") and not is_method("a.b:C.D")


def test_kinds_of_options() -> None:
    for value in (None, 0.3, 2):
        build_policy("autoprune", retention=0.5, k0=value)
    for wrong in ({"k0": True}, {"k0": "a"}, {"k0": float("inf")}, {"min_keep": None}, {"min_keep": 1.0}, {"mode": 1}, {"noise": 3}):
        with pytest.raises(SennaPruneError, match=f"method 'autoprune': {next(iter(wrong))} is .*, not "):
            build_policy("autoprune", retention=0.5, **wrong)


def test_without_cls_scores_the_method_is_named() -> None:
    context = asked(cls_scores=None, missing={"cls_scores": "no tower"})
    for make, part in ((FasterVLM, "score"), (VisPruner, "select"), (VisionZip, "select")):
        with pytest.raises(SennaPruneError, match=rf"^{make.__name__} .*no tower"):
            getattr(make(retention=0.5), part)(context, 0, *[4] * (part == "select"))
