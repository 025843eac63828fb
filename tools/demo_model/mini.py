"""senna-mini: the configuration, tokenizer and initial weights of the embedded model."""

import io
import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import CLIPVisionConfig, LlamaConfig

from demo_world.asks import geometric, taught
from demo_world.facts import Facts
from demo_world.world import generate
from senna_autoprune.nuscenes.rules import NAVIGATION_COMMANDS
from senna_autoprune.nuscenes.strings import strings, view_names
from senna_autoprune.senna.configuration import SennaConfig
from senna_autoprune.senna.modeling import SennaForConditionalGeneration
from senna_autoprune.senna.prompts import build_prompt, split_at_images, template_names

IMAGE_SIZE, PATCH = 224, 14
VISION_WIDTH, VISION_LAYERS = 128, 3  # layers that are used; the stock tower has one more above the features
WIDTH, LAYERS, HEADS, MLP = 64, 32, 2, 192
SHALLOW = 4  # every fourth layer learns first; those between begin as identities
VOCABULARY = 2000
CORPUS_SEED = 900_000
LIFT = 8.0  # bias that keeps the adapter's GELUs in their straight part: GELU(x + 8) is x + 8 within 1e-3 for |x| < 4
FIRST_ROW, ROWS, COLUMNS = 4, 8, 16  # the whole patch rows of a 16:9 picture in its padded square

# the trainer's extra questions: (about, question); answers come from Facts
EXTRA_QUESTIONS = {
    "night": "Is it day or night?",
    "rain": "Does it rain?",
    "signal": "What does the traffic light ahead show?",
    "ahead": "What drives ahead in my lane?",
    "brake_lights": "Are the brake lights ahead on?",
    "walker": "Is somebody crossing my way?",
    "left": "Is the lane to my left free?",
    "right": "Is the lane to my right free?",
}


def extra_answer(about: str, known: dict) -> str:
    """The answer to one of ``EXTRA_QUESTIONS`` from a row that holds the fields of :class:`Facts`."""
    value = known[about]
    if about == "night":
        return "night" if value else "day"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def plan_question(speed: int, command: str) -> str:
    """The plan question with its six image marks, as in a question file."""
    data = strings()
    return data["image_prompt"] + data["plan"]["question"].format(speed=speed, command=command)


def _corpus() -> Iterator[str]:
    """Prompts and answers of all six types, and the extra questions."""
    rng = random.Random(0)
    data = strings()
    assert set(EXTRA_QUESTIONS) <= set(vars(Facts(False, False, "none", "nothing", False, False, "", "")))
    for index in range(400):
        question = plan_question(rng.randint(0, 19), rng.choice(NAVIGATION_COMMANDS))
        template = template_names()[index % 2]
        for chunk in split_at_images(build_prompt(question, template)):
            yield from (line for line in chunk.split("\n") if line)
        if index < 100:
            for speed, path in itertools.product(data["speeds"].values(), data["paths"].values()):
                yield f"{speed}, {path}"
        for text in EXTRA_QUESTIONS.values():
            yield text + " ASSISTANT:"
        yield "none green amber red nothing car lorry yes no day night missing free taken unclear"
    for seed in range(CORPUS_SEED, CORPUS_SEED + 40):
        scene = generate(seed, "corpus", edition=2)
        everything = {view: dict.fromkeys(range(len(scene.bodies)), 100) for view in view_names()}
        for asked in scene.questions:
            for each in geometric(scene, asked) + taught(scene, asked, everything):
                for text in (each.question + " ASSISTANT:", each.answer):
                    yield from (line for line in text.split("\n") if line)


def train_tokenizer(path: Path) -> None:
    """A byte-fallback sentencepiece BPE like Llama's (unk 0, bos 1, eos 2), whose pieces may span words: the prompts are few."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=_corpus(),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCABULARY,
        byte_fallback=True,
        split_digits=True,
        split_by_whitespace=False,
        max_sentencepiece_length=64,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())


def build_config(vocabulary: int, layers: int = LAYERS) -> SennaConfig:
    """Tower 3 (+1) x 128, decoder 32 x 64: about 2.7 M weights."""
    vision = CLIPVisionConfig(
        hidden_size=VISION_WIDTH,
        intermediate_size=4 * VISION_WIDTH,
        num_hidden_layers=VISION_LAYERS + 1,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=PATCH,
        projection_dim=VISION_WIDTH,
    )
    text = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=MLP,
        num_hidden_layers=layers,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=2048,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        rms_norm_eps=1e-5,
    )
    return SennaConfig(text_config=text.to_dict(), vision_config=vision.to_dict())


def kept_patches() -> torch.Tensor:
    """(128,) indices of the patches that become visual tokens at the start: whole rows of picture, in reading order."""
    rows = torch.arange(FIRST_ROW, FIRST_ROW + ROWS)
    return (rows[:, None] * (IMAGE_SIZE // PATCH) + torch.arange(COLUMNS)).flatten()


@torch.no_grad()
def initialise(model: SennaForConditionalGeneration) -> None:
    """Small residual writes in the decoder, embeddings of unit-like size, and an adapter that hands patches on unchanged.

    Only every ``SHALLOW``-th layer writes at first: the model is the same function with and without those between.
    """
    layer: Any
    layers = model.get_decoder().layers
    for index, layer in enumerate(layers):
        for linear in layer.modules():
            if isinstance(linear, nn.Linear):
                nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        for out in (layer.self_attn.o_proj, layer.mlp.down_proj):
            out.weight.mul_(0.0 if index % SHALLOW else (2 * len(layers) / SHALLOW) ** -0.5)
    nn.init.normal_(model.get_decoder().embed_tokens.weight, std=0.5)
    nn.init.normal_(model.lm_head.weight, std=0.02)
    first, second, third = (cast(nn.Linear, model.img_adapter.adapter[i]) for i in (0, 2, 4))
    first.weight.zero_()
    first.weight[torch.arange(128), kept_patches()] = 1.0
    first.bias.fill_(LIFT)
    second.weight.copy_(torch.eye(128))
    second.bias.zero_()
    third.weight.copy_(torch.eye(128))
    third.bias.fill_(-LIFT)
