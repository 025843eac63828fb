"""The trainer's fast passes against the stock modules: packed questions give the logits each would get alone."""

from pathlib import Path

import numpy as np
import pytest
import torch

from demo_model.keyframes import normalise
from demo_model.mini import (
    EXTRA_QUESTIONS,
    build_config,
    extra_answer,
    initialise,
    kept_patches,
    plan_question,
    train_tokenizer,
)
from demo_model.packing import Packing, decoder_pass, tower_patches
from senna_autoprune.senna.images import SennaImageProcessor
from senna_autoprune.senna.modeling import SennaForConditionalGeneration
from senna_autoprune.senna.tokenization import load_sentencepiece


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    file: Path = tmp_path_factory.mktemp("mini") / "tokenizer.model"
    train_tokenizer(file)
    return load_sentencepiece(file)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    model = SennaForConditionalGeneration(build_config(len(tokenizer))).eval()
    initialise(model)
    return model


def test_special_ids_and_whole_answers(tokenizer):
    assert (tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    text = "ACCELERATE, RIGHT_CHANGE\n"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids) == text and len(ids) <= 8


def test_weights_fit(model):
    assert sum(p.numel() for p in model.parameters()) * 2 <= 12_000_000
    assert model.config.text_config.num_hidden_layers >= 16 and model.config.num_visual_tokens == 128


@torch.no_grad()
def test_adapter_hands_patches_on(model):
    patches = torch.randn(2, 256, 96) * 0.5
    assert (model.img_adapter(patches) - patches[:, kept_patches()]).abs().max() < 1e-3


@torch.no_grad()
def test_packed_questions_equal_single_ones(model, tokenizer):
    packing = Packing(tokenizer, "eval")
    features = torch.randn(1, 6, 128, 96)
    texts = [(plan_question(9, "go straight"), "KEEP, STRAIGHT\n"), *[(q, "yes") for q in list(EXTRA_QUESTIONS.values())[:3]]]
    branches = [packing.branch(q, a, n)[0] for (q, a), n in zip(texts, packing.branches, strict=True)]
    kept = torch.arange(768)[None]
    positions, mask = packing.layout(kept)
    embed = model.get_decoder().embed_tokens
    x = torch.cat([embed(packing.text)[None], features.flatten(1, 2), embed(torch.tensor([[i for branch in branches for i in branch]]))], 1)
    packed = model.lm_head(decoder_pass(model.get_decoder(), x, positions, mask)[:, -sum(packing.branches) :])
    prefix = [i for chunk in packing.prefix for i in [*chunk, model.config.image_token_id]]
    at = 0
    for ids in branches:
        alone = model(input_ids=torch.tensor([prefix + ids]), image_features=features).logits[:, -len(ids) :]
        assert torch.allclose(alone, packed[:, at : at + len(ids)], atol=1e-4)
        at += len(ids)


@torch.no_grad()
def test_pixels_and_tower_equal_the_processor(model):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (126, 224, 3), dtype=np.uint8)
    from PIL import Image

    stock = SennaImageProcessor(224, 14)(Image.fromarray(image))["pixel_values"]
    ours = normalise(image[None])
    assert torch.allclose(stock, ours, atol=1e-5)
    want = model.vision_tower(ours, output_hidden_states=True).hidden_states[-2][:, 1:]
    assert torch.allclose(tower_patches(model.vision_tower, ours), want, atol=1e-5)


def test_answers_of_the_extra_questions():
    row = {
        "night": True,
        "rain": False,
        "signal": "red",
        "ahead": "lorry",
        "brake_lights": True,
        "walker": False,
        "left": "free",
        "right": "taken",
    }
    assert [extra_answer(name, row) for name in EXTRA_QUESTIONS] == ["night", "no", "red", "lorry", "yes", "no", "free", "taken"]
