"""Every family behind one interface: tiny random checkpoints of the stock classes, saved to disk and opened by their folder."""

from __future__ import annotations

import json
import logging

import pytest
import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer

from senna_autoprune import SennaPruneError
from senna_autoprune.adapters import Asked, open_model
from senna_autoprune.adapters.schema import adapter_of
from senna_autoprune.adapters.stock import ROWS, collate
from senna_autoprune.lmms.stock import load_stock
from senna_autoprune.pruning.methods.registry import build_policy
from tests.adapters import tiny
from tests.pruning.multimodal.tiny import picture

TEXT = "<FRONT VIEW>:\n<image>\n<BACK VIEW>:\n<image>\nYour current speed is 4 m/s. Is the road free?"
PRUNABLE = ("llava", "llava_next", "qwen2_5_vl")


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """family -> the model; loaded on first use."""
    folder, found = tmp_path_factory.mktemp("checkpoints"), {}
    logging.getLogger("transformers").setLevel(logging.ERROR)

    def get(family, adapter=None):
        if not (folder / family).exists():
            tiny.save(family, folder / family)
        if adapter is not None:
            return open_model(str(folder / family), adapter)
        if family not in found:
            found[family] = open_model(str(folder / family))
        return found[family]

    return get


def asked(seed=0, sizes=((64, 36), (64, 36)), text=TEXT, **more):
    return Asked(text, "other", tuple(picture(*size, seed=seed + index) for index, size in enumerate(sizes)), **more)


def prepared(model, one):
    return model.prepare(one, model.see(one))


@pytest.mark.parametrize("family", tiny.STOCK)
def test_a_question_is_asked_as_the_chat_template_writes_it(opened, family):
    model = opened(family)
    one = prepared(model, asked())
    assert "Your current speed is 4 m/s. Is the road free?" in one.text
    assert one.text.index("<FRONT VIEW>:") < one.text.index("<BACK VIEW>:")
    mask = one.inputs["inputs"]["input_ids"] == model.model.config.image_token_id
    assert torch.equal(one.visual_mask, mask) and sum(one.view_sizes) == int(mask.sum())
    with torch.no_grad():
        pixels = {name: value for name, value in one.inputs["inputs"].items() if name not in ROWS}
        features = model.model.base_model.get_image_features(**pixels).pooler_output
    total = sum(len(image.reshape(-1, image.shape[-1])) for image in features)
    assert total == sum(one.view_sizes) and len(set(one.view_sizes)) == 1 and len(one.view_sizes) == 2
    assert one.spans == [(0, one.view_sizes[0]), (one.view_sizes[0], total)]


@pytest.mark.parametrize("family", tiny.STOCK)
def test_a_batch_answers_as_its_questions_alone(opened, family):
    model = opened(family)
    sizes = ((64, 36), (64, 36)) if family == "llava_onevision" else ((64, 36), (30, 60))
    questions = [prepared(model, asked()), prepared(model, asked(5, sizes, "<image>and <image>" + "word " * 7))]
    alone = [model.generate([one], 6) for one in questions]
    assert all(one.vision_ms > 0 for one in alone)
    together = model.generate(questions, 6)
    assert questions[0].group == questions[1].group
    for row, one in enumerate(alone):
        assert together.ids[row].tolist() == one.ids[0].tolist()


@pytest.mark.parametrize("family", tiny.STOCK)
def test_collated_inputs_are_those_of_the_processor(opened, family):
    model = opened(family)
    questions = [prepared(model, asked()), prepared(model, asked(5, text="<image>and <image>" + "word " * 7))]
    images = [one.inputs["images"] for one in questions]
    extra = {"add_special_tokens": False} if questions[0].text.startswith("<|im_start|>") else {}
    whole = model.processor(text=[one.text for one in questions], images=images, padding=True, return_tensors="pt", **extra)
    ours = collate([one.inputs["inputs"] for one in questions], model.processor.tokenizer.pad_token_id)
    for name, value in ours.items():
        assert torch.equal(value, whole[name]), name


@pytest.mark.parametrize("family", tiny.STOCK)
def test_blind_shows_as_many_tokens_of_one_colour(opened, family):
    model = opened(family)
    first, second = prepared(model, asked(0)), prepared(model, asked(7))
    seen = [model.generate([one], 6).ids.tolist() for one in (first, second)]
    blind = [model.generate([one], 6, blind=True).ids.tolist() for one in (first, second)]
    assert blind[0] == blind[1]
    assert seen[0] != blind[0] or seen[1] != blind[1]
    other, words = prepared(model, asked(0, ((36, 64), (36, 64)))), prepared(model, asked(0, text="<image>or <image>" + "word " * 3))
    assert model.blind_key(first) == model.blind_key(second)
    assert model.blind_key(first) != model.blind_key(other) and model.blind_key(first) != model.blind_key(words)


@pytest.mark.parametrize("family", PRUNABLE)
def test_a_policy_acts_and_the_tower_is_left_as_it_was(opened, family):
    model = opened(family)
    one = prepared(model, asked())
    plain = model.generate([one], 6).ids
    with build_policy("autoprune", retention=0.5)(model.model) as trace:
        model.generate([one], 6)
    assert trace[0].visual_tokens == sum(one.view_sizes) and tuple(trace[0].view_sizes) == one.view_sizes
    assert min(trace[0].tokens_per_layer) < sum(one.view_sizes)
    assert "get_image_features" not in vars(model.model.base_model)
    assert torch.equal(model.generate([one], 6).ids, plain)


def test_a_question_cannot_pretend_to_hold_a_control_token(opened):
    model = opened("qwen2_5_vl")
    with pytest.raises(SennaPruneError, match=r"question 4 holds '<\|im_end\|>'"):
        prepared(model, asked(text="<image><image>free?<|im_end|>", where="question 4"))


def test_cameras_in_prompt_order_and_frames_in_time(opened):
    user = "left {view:CAM_FRONT_LEFT@-0.5}|{view:CAM_FRONT_LEFT@0} front {view:CAM_FRONT@-0.5}|{view:CAM_FRONT@0} {question} at {speed}"
    adapter = adapter_of(
        {
            "views": {"cameras": ["CAM_FRONT_LEFT", "CAM_FRONT"], "frames": [-0.5, 0.0]},
            "prompt": {"system": "Drive.", "user": user},
            "generation": {"max_new_tokens": 5},
        },
        "it",
    )
    model = opened("qwen2_5_vl", adapter)
    front, left, before = picture(64, 36, 1), picture(64, 36, 2), picture(64, 36, 3)
    text = "<FRONT VIEW>:\n<image>\n<FRONT LEFT VIEW>:\n<image>\nIs the road free?"
    one = Asked(text, "other", (front, left), "question 1", {"speed": "4"}, {("CAM_FRONT", -0.5): before})
    seen = model.see(one)
    ready = model.prepare(one, seen)
    assert [picture.source for picture in ready.pictures] == [left, left, before, front]
    assert [picture.missing for picture in ready.pictures] == [True, False, False, False] and ready.missing_frames == 1
    mark = "<|vision_start|><|image_pad|><|vision_end|>"
    said = f"left {mark}|{mark} front {mark}|{mark} Is the road free? at 4"
    assert ready.text == f"<|im_start|>system\nDrive.<|im_end|>\n<|im_start|>user\n{said}<|im_end|>\n<|im_start|>assistant\n"
    assert len(ready.view_sizes) == 4 and model.new_tokens("other") == 5
    with pytest.raises(SennaPruneError, match="question 2 has no image of CAM_FRONT_LEFT"):
        model.see(Asked("<FRONT VIEW>:\n<image>\nFree?", "other", (front,), "question 2"))


def test_pixel_budgets_are_kept_or_refused(opened):
    model = opened("qwen2_5_vl", adapter_of({"views": {"min_pixels": 64, "max_pixels": 256}}, "it"))
    assert max(prepared(model, asked()).view_sizes) * 64 <= 256
    assert opened("qwen2_5_vl").processor.image_processor.size["longest_edge"] == 401408
    with pytest.raises(SennaPruneError, match="has no pixel budget"):
        opened("llava", adapter_of({"views": {"max_pixels": 256}}, "it"))


def test_answers_are_greedy_whatever_the_checkpoint_samples(opened, tmp_path):
    source = opened("llava")
    source.processor.save_pretrained(tmp_path)
    source.model.save_pretrained(tmp_path)
    path = tmp_path / "generation_config.json"
    own = json.loads(path.read_text())
    path.write_text(json.dumps({**own, "do_sample": True, "temperature": 0.7, "top_k": 3}))
    model = open_model(str(tmp_path))
    one = prepared(model, asked())
    assert model.generate([one], 8).ids.tolist() == source.generate([prepared(source, asked())], 8).ids.tolist()
    assert model.identity() == source.identity() and "repetition_penalty" not in model.provenance
    path.write_text(json.dumps({**own, "repetition_penalty": 1.5}))
    penal = open_model(str(tmp_path))
    assert penal.provenance["repetition_penalty"] == "1.5"
    assert penal.identity()["generation_config_sha256"] != source.identity()["generation_config_sha256"]
    assert penal.identity()["adapter_sha256"] == source.identity()["adapter_sha256"]


def test_a_begin_mark_that_the_tokenizer_adds_is_there_once(opened, tmp_path):
    """LLaVA-1.5's template writes none; its tokenizer does."""
    source = opened("llava")
    source.processor.save_pretrained(tmp_path)
    source.model.save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    begin = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(f"{begin} $A", special_tokens=[(begin, tokenizer.bos_token_id)])
    tokenizer.save_pretrained(tmp_path)
    model, image = open_model(str(tmp_path)), picture(40, 40)
    assert model.processor.tokenizer("").input_ids == [tokenizer.bos_token_id]
    one = Asked("<image>Free?", "other", (image,))
    ids = model.prepare(one, model.see(one)).inputs["inputs"]["input_ids"]
    assert (ids == tokenizer.bos_token_id).sum() == 1 and ids[0, 0] == tokenizer.bos_token_id
    benchmark = load_stock(str(tmp_path), device="cpu").encode([("Free?", [image]), ("Free? <image>", [image])])["input_ids"]
    assert benchmark[0][benchmark[0] != tokenizer.pad_token_id].tolist() == ids[0].tolist()
    assert (benchmark == model.model.config.image_token_id).sum(1).tolist() == [16, 16]


def test_answers_end_at_a_stop_string(opened):
    plain = opened("llava")
    one = prepared(plain, asked())
    ids = plain.generate([one], 8).ids[0]
    text = plain.processor.tokenizer.decode(ids[:3].tolist(), skip_special_tokens=True)
    stop = text[-1]
    model = opened("llava", adapter_of({"generation": {"stop": [stop]}}, "it"))
    made = model.generate([prepared(model, asked())], 8)
    assert model.answer(made.ids[0]) == plain.answer(ids).split(stop)[0].strip()


def test_adapters_of_another_family_and_unknown_families_are_refused(opened, tmp_path):
    opened("llava")
    folder = opened("llava").provenance["checkpoint"]
    with pytest.raises(SennaPruneError, match=r"adapter qwen3_vl is for qwen3_vl, but .* of the family llava"):
        open_model(folder, "qwen3_vl")
    with pytest.raises(SennaPruneError, match="prompt template 'train' is Senna's"):
        open_model(folder, prompt_template="train")
    (tmp_path / "config.json").write_text('{"model_type": "paligemma"}')
    with pytest.raises(SennaPruneError, match="family 'paligemma', for which no adapter is built in"):
        open_model(str(tmp_path))
