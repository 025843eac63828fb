"""Senna behind the common interface: the same ids, texts and features as asking it directly."""

from __future__ import annotations

import pytest
import torch

from senna_autoprune import SennaPruneError
from senna_autoprune.adapters import Asked
from senna_autoprune.adapters.schema import adapter_of
from senna_autoprune.adapters.senna import SennaModel
from senna_autoprune.nuscenes.builders import light_question
from senna_autoprune.nuscenes.strings import strings
from senna_autoprune.senna import Senna
from tests.pruning.multimodal.tiny import picture
from tests.senna.tiny import tiny_model, tiny_processor

PLAN = strings()["image_prompt"] + strings()["plan"]["question"].format(speed=3, command="go straight")


@pytest.fixture(scope="module")
def model():
    return SennaModel(Senna(tiny_model(), tiny_processor()))


def asked(text=PLAN, kind="plan", seed=0):
    return Asked(text, kind, tuple(picture(80, 45, seed=seed + index) for index in range(6)))


def test_the_answer_is_that_of_the_model_asked_directly(model):
    one = asked()
    ready = model.prepare(one, model.see(one))
    inputs = model.processor(images=list(one.images), text=PLAN)
    with torch.no_grad():
        ids = model.model.generate(**inputs, max_new_tokens=16, do_sample=False)
    expected = ids[:, inputs["input_ids"].shape[1] :]
    made = model.generate([ready], 16)
    assert torch.equal(made.ids, expected) and made.vision_ms is None and ready.vision_ms > 0
    assert model.answer(made.ids[0]) == model.processor.decode_answers(expected, 0)[0]
    assert ready.text.endswith("ASSISTANT:") and ready.text.count("<image>") == 6
    assert int(ready.visual_mask.sum()) == sum(ready.view_sizes) == 6 * model.processor.num_visual_tokens
    assert ready.visual_mask.shape[1] == inputs["input_ids"].shape[1] + 6 * (model.processor.num_visual_tokens - 1)
    assert model.identity() == {}  # runs made before go on


def test_blind_is_the_models_own_grey_and_batches_equal_single_questions(model):
    first, second = asked(), asked(seed=9)
    ready = [model.prepare(one, model.see(one)) for one in (first, second)]
    assert torch.equal(model.generate(ready[:1], 16, blind=True).ids, model.generate(ready[1:], 16, blind=True).ids)
    together = model.generate(ready, 16).ids
    for row, one in enumerate(ready):
        assert model.answer(together[row]) == model.answer(model.generate([one], 16).ids[0])
    assert ready[0].group == ready[1].group == (6,)


def test_answer_lengths_are_by_question_type(model):
    assert model.new_tokens("plan") >= 16 and model.new_tokens("motion") == 640 and model.new_tokens("choice") == 512


def test_an_adapter_may_choose_views_and_words(model):
    released, user = model, "{view:CAM_FRONT}{question}"
    adapter = adapter_of({"family": "senna", "views": {"cameras": ["CAM_FRONT"]}, "prompt": {"user": user}}, "it")
    model = SennaModel(released.senna, adapter)
    one = Asked(strings()["image_prompt"] + light_question(), "light", tuple(picture(80, 45, seed=index) for index in range(6)))
    ready = model.prepare(one, model.see(one))
    assert ready.text.count("<image>") == 1 and ready.pictures[0].source is one.images[0]
    assert light_question() in ready.text and "VIEW" not in ready.text
    assert model.identity().keys() == {"adapter_sha256"}
    assert model.generate([ready], 4).ids.shape[0] == 1
    with pytest.raises(SennaPruneError, match=r"leave prompt\.system out"):
        SennaModel(released.senna, adapter_of({"prompt": {"system": "Drive."}}, "it"))
    with pytest.raises(SennaPruneError, match="min_pixels and max_pixels"):
        SennaModel(released.senna, adapter_of({"views": {"max_pixels": 9}}, "it"))
