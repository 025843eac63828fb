"""A stock model's tower runs once for the same pictures, and every answer is what it is without that."""

from __future__ import annotations

import logging
from contextlib import nullcontext

import pytest
import torch

from senna_autoprune.adapters import Asked, open_model
from senna_autoprune.adapters.tower import TowerMemory
from senna_autoprune.pruning.methods.registry import build_policy
from tests.adapters import tiny
from tests.adapters.test_models import TEXT
from tests.pruning.multimodal.tiny import picture


@pytest.fixture(scope="module", params=tiny.STOCK)
def folder(request, tmp_path_factory):
    logging.getLogger("transformers").setLevel(logging.ERROR)
    place = tmp_path_factory.mktemp(request.param) / "checkpoint"
    tiny.save(request.param, place)
    return place


def questions(model):
    """Two of one keyframe, two of another, and the first again."""
    first, second = (tuple(picture(64, 36, seed=seed + index) for index in range(2)) for seed in (0, 5))
    asked = [Asked(TEXT, "other", first), Asked(TEXT + " And now?", "other", first)]
    asked += [Asked(TEXT, "other", second), Asked(TEXT + " And now?", "other", second), Asked(TEXT, "other", first)]
    return [model.prepare(one, model.see(one)) for one in asked]


def count(model):
    """Grows with every run of the tower."""
    tower, runs = model._memory._tower, []
    plain = tower.forward

    def forward(*args, **kwargs):
        runs.append(None)
        return plain(*args, **kwargs)

    tower.forward = forward
    return runs


def test_the_tower_runs_once_a_keyframe_and_answers_stay(folder):
    model, plain = open_model(str(folder)), open_model(str(folder))
    assert model._memory._tower is not None
    runs = count(model)
    watched = vars(model._memory._tower)["forward"]
    plain._memory._tower = None  # never remembers
    for index, (one, other) in enumerate(zip(questions(model), questions(plain), strict=True)):
        for policy in (None, build_policy("random", retention=0.6)):
            with policy(model.model) if policy else nullcontext():
                made = model.generate([one], 5)
            with policy(plain.model) if policy else nullcontext():
                expected = plain.generate([other], 5)
            assert torch.equal(made.ids, expected.ids)
            assert made.vision_ms is not None and made.vision_ms > 0
        assert len(runs) == [1, 1, 2, 2, 3][index]
    assert vars(model._memory._tower)["forward"] is watched


@pytest.mark.parametrize("family", ["llava", "llava_next"])
def test_who_watches_inside_sees_it_run(tmp_path, family):
    tiny.save(family, tmp_path / family)
    model = open_model(str(tmp_path / family))
    one, runs = questions(model)[0], count(model)
    policy = build_policy("fastervlm", retention=0.6)
    answers = []
    for _ in range(2):
        with policy(model.model) as trace:
            answers.append(model.generate([one], 5).ids.tolist())
        assert trace[0].tokens_per_layer[0] < trace[0].visual_tokens
    assert len(runs) == 2 and answers[0] == answers[1]
    model.generate([one], 5)
    assert len(runs) == 2  # what was seen then is what would be seen now


def test_what_differs_in_anything_is_looked_at():
    class Base(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.visual = torch.nn.Identity()

    base = Base()
    calls = []
    base.visual.forward = lambda pixels, grid=None, names=(): (calls.append(None), pixels.sum())[1]
    memory, pixels = TowerMemory(base), torch.arange(6.0)
    variants = [
        ((pixels,), {}), ((pixels + 1,), {}), ((pixels.double(),), {}), ((pixels[:5],), {}),
        ((pixels,), {"grid": torch.tensor([1])}), ((pixels,), {"grid": torch.tensor([2])}),
        ((pixels,), {"names": ["a"]}), ((pixels,), {"names": ["b"]}),
    ]  # fmt: skip
    with memory.at_work():
        for number, (args, kwargs) in enumerate(variants, start=1):
            for _ in range(2):
                base.visual(*(one.clone() for one in args), **kwargs)
            assert len(calls) == number and memory.reused
