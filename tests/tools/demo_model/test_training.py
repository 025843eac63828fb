"""The trainer's fast passes against the stock modules: packed questions give the logits each would get alone."""

import numpy as np
import pytest
import torch

from demo_model.keyframes import normalise
from demo_model.mini import EXTRA_QUESTIONS, LAYERS, SHALLOW, WIDTH, build_config, extra_answer, initialise, kept_patches, plan_question
from demo_model.packing import Packing, decoder_pass, tower_patches
from demo_model.training import Schedule
from senna_autoprune.nuscenes import builders
from senna_autoprune.senna.images import SennaImageProcessor
from senna_autoprune.senna.modeling import SennaForConditionalGeneration
from senna_autoprune.senna.tokenization import load_sentencepiece


@pytest.fixture(scope="module")
def tokenizer(tokenizer_file):
    return load_sentencepiece(tokenizer_file)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    model = SennaForConditionalGeneration(build_config(len(tokenizer), layers=3)).eval()
    initialise(model)
    with torch.no_grad():
        for layer in model.get_decoder().layers:  # all of them write
            torch.nn.init.normal_(layer.self_attn.o_proj.weight, std=0.1)
            torch.nn.init.normal_(layer.mlp.down_proj.weight, std=0.1)
    return model


def test_special_ids_and_whole_answers(tokenizer):
    assert (tokenizer.unk_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id) == (0, 1, 2)
    for text, most in (("ACCELERATE, RIGHT_CHANGE\n", 8), ("Object 1: KEEP, STRAIGHT\nObject 2: STOP, STRAIGHT\n", 24)):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        assert tokenizer.decode(ids) == text and len(ids) <= most


def test_weights_fit(model):
    layer = sum(p.numel() for p in model.get_decoder().layers[0].parameters())
    assert (sum(p.numel() for p in model.parameters()) + (LAYERS - 3) * layer) * 2 <= 12_000_000
    assert build_config(2000).text_config.num_hidden_layers == LAYERS == 32 and model.config.num_visual_tokens == 128


@torch.no_grad()
def test_adapter_hands_patches_on(model):
    patches = torch.randn(2, 256, 96) * 0.5
    assert (model.img_adapter(patches) - patches[:, kept_patches()]).abs().max() < 1e-3


def packed(model, packing, branches, features, kept):
    """Logits of the branches when the visual tokens ``kept`` (1, K) of ``features`` (1, 768, d) are there."""
    ids, _, owner = packing.batch([branches])
    order, positions, mask = packing.layout(kept, owner)
    embed = model.get_decoder().embed_tokens
    prefix = torch.cat([embed(packing.text)[None], features[:, kept[0]]], 1)[:, order[0]]
    return model.lm_head(decoder_pass(model.get_decoder(), torch.cat([prefix, embed(ids)], 1), positions, mask)[:, prefix.shape[1] :])


@torch.no_grad()
def test_the_shallow_model_is_the_whole_one_at_first():
    torch.manual_seed(0)
    deep = SennaForConditionalGeneration(build_config(64, layers=2 * SHALLOW))
    initialise(deep)
    x, seen = torch.randn(2, 9, WIDTH), torch.ones(2, 1, 4, 9, dtype=torch.bool).tril(5)
    passes = [decoder_pass(deep.get_decoder(), x, torch.arange(9)[None], seen, every) for every in (1, SHALLOW, 2 * SHALLOW)]
    assert torch.equal(passes[0], passes[1]) and not torch.allclose(passes[1], passes[2])


def test_schedule():
    plan = Schedule(100, short=50, whole=90, few=1, some=2)
    assert [plan.keep(s) for s in (0, 49, 50, 51, 89, 90, 91)] == [1, 1, 2, 2, 2, 768, 768]
    rates = [Schedule().rate(s) for s in range(1651)]
    assert rates[0] == 0.01 and set(rates[99:901]) == {1.0} and rates[1150] == 0.8 and rates[1650] == pytest.approx(0.02)
    short = [Schedule(500).rate(s) for s in range(501)]  # it ends before the rate would fall: level to its last step
    assert set(short[99:500]) == {1.0} and Schedule(950).rate(949) < 0.85
    assert [Schedule().tower_rate(s) / rates[s] for s in (900, 971, 972, 1649)] == pytest.approx([1, 1, 0.3, 0.3])
    assert all(one > two for one, two in zip(rates[900:], rates[901:], strict=False))


@torch.no_grad()
def test_packed_questions_equal_single_ones(model, tokenizer):
    packing = Packing(tokenizer, "eval")
    features = torch.randn(1, 768, WIDTH)
    texts = [(plan_question(9, "go straight"), "KEEP, STRAIGHT\n"), (builders.light_question(), "Red")]
    texts += [(builders.description_question("back"), "It is day."), (EXTRA_QUESTIONS["walker"], "yes")]
    branches = [packing.branch("any", question, answer) for question, answer in texts]
    logits = packed(model, packing, branches, features, torch.arange(768)[None])
    by_place = dict(zip(packing.text_positions.tolist(), packing.text.tolist(), strict=True))
    prefix = [by_place.get(place) for place in range(packing.prefix_length)]
    mark = model.config.image_token_id  # one a view, as the processor writes it
    short = [mark if i is None else i for i, before in zip(prefix, [0, *prefix], strict=False) if i is not None or before is not None]
    at = 0
    for branch in branches:
        alone = model(input_ids=torch.tensor([short + branch.ids]), image_features=features.view(1, 6, 128, -1)).logits
        assert torch.allclose(alone[:, -len(branch.ids) :], logits[:, at : at + len(branch.ids)], atol=1e-4)
        at += len(branch.ids)


@torch.no_grad()
def test_a_branch_does_not_feel_its_neighbours_or_padding(model, tokenizer):
    packing = Packing(tokenizer, "eval")
    features, kept = torch.randn(1, 768, WIDTH), torch.tensor([[3, 40, 200, 500, 767]])
    one = packing.branch("light", builders.light_question(), "Green")
    other = packing.branch("extra", EXTRA_QUESTIONS["left"], "taken")
    alone = packed(model, packing, [one], features, kept)
    assert torch.allclose(packed(model, packing, [other, one], features, kept)[:, len(other.ids) :], alone, atol=1e-4)
    ids, labels, owner = packing.batch([[one], [other, one]])
    assert ids.shape == labels.shape == owner.shape == (2, len(one.ids) + len(other.ids))
    assert owner[0].tolist() == [1] * len(one.ids) + [0] * len(other.ids) and (labels[0, len(one.ids) :] == -100).all()
    assert [i for i in labels[1].tolist() if i != -100] == [i for b in (other, one) for i in b.labels if i != -100]


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
