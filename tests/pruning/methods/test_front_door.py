"""Methods of other packages: found by path and by entry point, and believed only after a look at what they return."""

from __future__ import annotations

import json

import pytest
import torch

import senna_autoprune
from senna_autoprune import SennaPruneError, build_policy
from senna_autoprune.pruning.methods import registry
from senna_autoprune.pruning.methods.facts import method_facts, method_names
from tests.models import six_blocks, tiny_llama

PLUGIN = '''
from dataclasses import dataclass
from typing import Literal, Optional
import torch
from senna_autoprune import Allocation, Policy, Revived, keep_before_decoder

@dataclass(kw_only=True)
class Loudest(Policy):
    """The tokens of the largest norm.

    power: of the norm.
    """

    power: float = 1.0
    strict: bool = False
    rounds: Optional[int] = None
    paper = "arXiv 0000.00000"

    def allocate(self, context):
        return keep_before_decoder(context)

    def score(self, context, layer):
        return context.visual_hidden.norm(dim=-1) ** self.power

@dataclass(kw_only=True)
class Asking(Loudest):
    """Cannot guess."""

    weight: float
    start: int
    mode: Literal["a", "b"] = "a"

class NoMethod: pass

class Bare(Policy):
    pass

class Base(Loudest):
    pass
'''

FAULTS = {
    "Bare: pass": "Bare has no allocate",
    "Listed:\n    def allocate(self, c): return [24] * c.layers": r"Listed.allocate: returned list \[24, 24.*return Allocation",
    "Spends:\n    def allocate(self, c): return Allocation((80,) * c.layers)": "Spends.allocate: spends 0.8333 .*budget is 0.25",
    "Short:\n    def allocate(self, c): return Allocation((24,) * 3)": "Short.allocate: entering has 3 counts for 8 layers",
    "Grows:\n    def allocate(self, c): return Allocation((9, 9, 9, 12, 9, 9, 9, 9))": "Grows.allocate: 12 .* enter layer 3, but only 9",
    "Many:\n    def allocate(self, c): return Allocation((97,) + (5,) * 7)": "Many.allocate: 97 visual tokens enter layer 0, but only 96",
    "Half:\n    def allocate(self, c): return Allocation((24.5,) * 8)": "Half.allocate: entering holds 24.5",
    "Minus:\n    def allocate(self, c): return Allocation((24,) * 7 + (-1,))": "Minus.allocate: entering holds -1",
    "Chosen:\n    def allocate(self, c): return Allocation((24,) * 8, (30,) * 8)": "Chosen.allocate: selects 30 of the 24",
    "Nan:\n    def score(self, c, l): return c.visual_hidden[:, 0] * float('nan')": "Nan.score: gave NaN",
    "OneNan:\n    def score(self, c, l):\n        s = c.visual_hidden[:, 0] + 0; s[3] = float('nan'); return s": "OneNan.score: gave",
    "Mean:\n    def score(self, c, l): return c.visual_hidden.mean()": r"Mean.score: gave \(\) for 96 visual tokens",
    "Floats:\n    def score(self, c, l): return [1.0] * 96": "Floats.score: gave list for 96",
    "Bools:\n    def select(self, c, l, n): return torch.ones(96, dtype=torch.bool)": "Bools.select: returned a torch.bool tensor",
    "Falls:\n    def select(self, c, l, n): return torch.arange(n).flip(0)": "Falls.select: .* that are not ascending",
    "Far:\n    def select(self, c, l, n): return torch.arange(n) + 90": "Far.select: .* within 0..95",
    "Twice:\n    def select(self, c, l, n): return torch.zeros(n, dtype=torch.long)": "Twice.select: .* not ascending",
    "Unrevived:\n    def allocate(self, c): return Allocation((24,) * 8, (20,) + (24,) * 7)": "Unrevived selects fewer .* layer 0",
    "Few:\n    def allocate(self, c): return Allocation((24,) * 8, (20,) + (24,) * 7)\n"
    "    def revive(self, c, l, d, n): return Revived(c.visual_hidden[:1], d[:1])": "Few.revive: made 1 .* where 4 were asked",
    "Raw:\n    def allocate(self, c): return Allocation((24,) * 8, (20,) + (24,) * 7)\n"
    "    def revive(self, c, l, d, n): return c.visual_hidden[:n]": "Raw.revive: returned a torch.float32 tensor",
    "Table:\n    def measure(self, c, l): return torch.ones(2, 2)": "Table.measure: returned a torch.float32 tensor",
    "Rewrites:\n    def probes(self, layers): return (-1, 1)\n"
    "    def allocate(self, c): return Allocation((24 - c.boundary,) * 8)": r"Rewrites.allocate: changed the counts of layers already run",
}


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A package installed for this test, which announces the method ``loudest`` and a module that it has not."""
    (tmp_path / "loud_methods.py").write_text(PLUGIN)
    info = tmp_path / "loud_methods-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loud-methods\nVersion: 1.0\n")
    points = "loudest = loud_methods:Loudest\ngone = no_such_module:Method\nfastv = loud_methods:Loudest\n"
    (info / "entry_points.txt").write_text(f"[{registry.ENTRY_POINTS}]\n{points}")
    monkeypatch.syspath_prepend(tmp_path)
    registry.announced.cache_clear()
    yield
    registry.announced.cache_clear()


@pytest.mark.parametrize("name", ["loudest", "loud_methods:Loudest"])
def test_a_plugin_is_found_and_prunes(plugin, name):
    model, (embeds, mask) = tiny_llama(), six_blocks()
    with build_policy(name, retention=0.25, power=2)(model, visual_mask=mask) as trace, torch.no_grad():
        model(inputs_embeds=embeds)
    visual = embeds[0][mask[0]]
    assert trace[0].kept[0].tolist() == sorted(visual.norm(dim=-1).topk(24).indices.tolist())


def test_options_of_a_plugin_are_checked_though_its_annotations_are_not_text(plugin):
    assert build_policy("loudest", retention=0.5, strict=True, rounds=3).strict is True
    for wrong in ({"power": "2"}, {"strict": 1}, {"rounds": 1.5}, {"rounds": "x"}):
        with pytest.raises(SennaPruneError, match=next(iter(wrong))):
            build_policy("loudest", retention=0.5, **wrong)
    with pytest.raises(SennaPruneError, match="did you mean 'power'"):
        build_policy("loudest", retention=0.5, powr=1)


def test_options_without_a_default_are_asked_for(plugin):
    with pytest.raises(SennaPruneError, match=r"^method 'loud_methods:Asking': give its option weight, start$"):
        build_policy("loud_methods:Asking", retention=0.5)
    with pytest.raises(SennaPruneError, match=r"give its option start$"):
        build_policy("loud_methods:Asking", retention=0.5, weight=1)
    assert build_policy("loud_methods:Asking", retention=0.5, weight=1, start=2, mode="b").mode == "b"
    told = {name: default for name, _, default in method_facts("loud_methods:Asking").options}
    assert told == {
        "scope": "scene",
        "seed": 0,
        "power": 1.0,
        "strict": False,
        "rounds": None,
        "weight": "required",
        "start": "required",
        "mode": "a",
    }


@pytest.mark.parametrize(
    "name, message",
    [
        ("loud_methods:Quiet", "module loud_methods has no Quiet"),
        ("loud_methods:NoMethod", "NoMethod is no class derived from senna_autoprune.Policy"),
        ("loud_methodz:Loudest", "cannot import loud_methodz"),
        ("gone", "cannot import no_such_module"),
        ("loud methods:Loudest", "write package.module:Class"),
        ("loudst", "did you mean 'loudest'"),
    ],
)
def test_what_is_no_method_is_refused_in_one_line(plugin, name, message):
    with pytest.raises(SennaPruneError, match=message):
        build_policy(name, retention=0.5)


def test_a_name_of_ours_means_ours(plugin):
    assert type(build_policy("fastv", retention=0.5)).__module__ == "senna_autoprune.pruning.methods.fastv"
    assert method_names().count("fastv") == 1 and "loudest" in method_names()


def test_a_row_of_a_sweep_may_be_a_plugin(plugin):
    from senna_autoprune.pruning.methods.registry import is_method, split_variant

    assert split_variant("loud_methods:Loudest:power=2") == ("loud_methods:Loudest", ["power=2"])
    assert split_variant("autoprune:mode=release:k0=0.3") == ("autoprune", ["mode=release", "k0=0.3"])
    assert split_variant("loudest:power=2") == ("loudest", ["power=2"])
    assert is_method("loud_methods:Loudest") and is_method("loudest") and not is_method("fasttv") and not is_method("a b:C")


@pytest.mark.parametrize("body", FAULTS)
def test_what_a_method_returns_is_checked(plugin, body):
    name, _, code = body.partition(":")
    scope: dict = {}
    exec("from loud_methods import *", scope)
    exec(f"class {name}({'Policy' if name == 'Bare' else 'Loudest'}):{code}", scope)
    model, (embeds, mask) = tiny_llama(), six_blocks()
    policy = scope[name](retention=0.25)
    with pytest.raises(SennaPruneError, match=FAULTS[body]) as caught, torch.no_grad(), policy(model, visual_mask=mask):
        model(inputs_embeds=embeds)
    assert "\n" not in str(caught.value)
    with torch.no_grad():  # and the model is as before
        assert torch.isfinite(model(inputs_embeds=embeds).logits).all()


def test_a_method_without_score_cannot_rank_the_decoders_input(plugin):
    from loud_methods import Loudest

    policy = type("Scoreless", (Loudest,), {"score": senna_autoprune.Policy.score})(retention=0.25)
    model, (embeds, mask) = tiny_llama(), six_blocks()
    with pytest.raises(SennaPruneError, match=r"Scoreless has no score\(context, layer\)"), policy(model, visual_mask=mask):
        model(inputs_embeds=embeds)


def test_a_share_of_flops_is_not_exceeded(plugin):
    from loud_methods import Loudest

    class Greedy(Loudest):
        def allocate(self, context):
            return senna_autoprune.Allocation((40,) * context.layers)

    model, (embeds, mask) = tiny_llama(), six_blocks()
    message = r"Greedy.allocate: spends .* of the full prefill's FLOPs; the budget is 0\.3"
    with pytest.raises(SennaPruneError, match=message), Greedy(flops=0.3)(model, visual_mask=mask):
        model(inputs_embeds=embeds)


def test_public_names():
    assert set(senna_autoprune.__all__) == {"__version__", *senna_autoprune._LAZY}
    for name in senna_autoprune.__all__:
        assert getattr(senna_autoprune, name) is not None
    for path in registry.METHODS.values():
        assert path.split(":")[1] in senna_autoprune.__all__
    with pytest.raises(AttributeError):
        senna_autoprune.NoSuchName  # noqa: B018


def test_methods_command_lists_and_tells(plugin, capsys, monkeypatch):
    from senna_autoprune import cli

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["senna-prune", "methods", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        return stop.value.code, capsys.readouterr()

    code, said = run()
    assert code == 0 and all(name in said.out for name in (*registry.METHODS, "loudest", "arXiv 2403.06764"))
    assert "method 'gone': cannot import no_such_module" in said.err
    assert max(map(len, said.out.splitlines())) <= 80
    assert "deployable: TensorRT-Edge-LLM --visualPrune, reduction ratio 0.75" in " ".join(said.out.split()) and "options: k=2" in said.out
    code, said = run("loud_methods:Loudest")
    assert code == 0 and "paper: arXiv 0000.00000" in said.out and "power = 1.0  (float)" in said.out
    code, said = run("fastervlm", "--json")
    facts = json.loads(said.out)
    assert facts["needs"] == "the vision tower's CLS attention" and "[CLS]" in facts["acts_on"] and facts["cuts"] == "before the decoder"
    code, said = run("fasttv")
    assert code == 2 and "did you mean 'fastv'" in said.err


def test_every_method_says_where_it_is_from():
    for name in registry.METHODS:
        facts = method_facts(name)
        assert facts.paper and facts.says and facts.cuts in ("between layers", "before the decoder")
        assert all(option not in ("retention", "flops") for option, _, _ in facts.options)
