"""Tiny random LLaVA checkpoints and tasks over a few images made here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image

COLOURS = {"red": (200, 30, 30), "green": (30, 180, 60), "blue": (40, 60, 210), "grey": (120, 120, 120)}
VISUAL_TOKENS = 16
TEMPLATE = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)


SIDE = 14 * int(VISUAL_TOKENS**0.5)
TILES = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]


def save_tiny_llava(folder: Path, layers: int = 6) -> Path:
    """Weights scaled up so that attention is not uniform and answers depend on the image."""
    from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    tokenizer = _tokenizer()
    size = {"height": SIDE, "width": SIDE}
    images = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=size)
    processor = LlavaProcessor(images, tokenizer, **_processor_options())
    return _save(folder, LlavaForConditionalGeneration, LlavaConfig(**_sizes(tokenizer, layers)), processor)


def save_tiny_llava_next(folder: Path, layers: int = 6) -> Path:
    """Likewise, with several tiles an image."""
    from transformers import LlavaNextConfig, LlavaNextForConditionalGeneration, LlavaNextImageProcessor, LlavaNextProcessor

    tokenizer = _tokenizer()
    size = {"height": SIDE, "width": SIDE}
    images = LlavaNextImageProcessor(size={"shortest_edge": SIDE}, crop_size=size, image_grid_pinpoints=TILES)
    processor = LlavaNextProcessor(images, tokenizer, **_processor_options())
    config = LlavaNextConfig(**_sizes(tokenizer, layers), image_grid_pinpoints=TILES)
    return _save(folder, LlavaNextForConditionalGeneration, config, processor)


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "<s>", "</s>", "<pad>", "<image>", "USER", "ASSISTANT", *":?.<>", *COLOURS, *"abcdefghijklmnopqrstuvwxyz"]
    words += ["what", "colour", "is", "the", "picture", "nothing", "to", "see", "here", "say", "image"]
    core = Tokenizer(models.WordLevel({word: index for index, word in enumerate(dict.fromkeys(words))}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, **special, extra_special_tokens={"image_token": "<image>"})


def _processor_options() -> dict[str, Any]:
    return {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1, "chat_template": TEMPLATE}


def _sizes(tokenizer: Any, layers: int) -> dict[str, Any]:
    from transformers import CLIPVisionConfig, LlamaConfig

    small = {"hidden_size": 32, "intermediate_size": 64}
    return {
        "vision_config": CLIPVisionConfig(**small, num_hidden_layers=3, num_attention_heads=2, image_size=SIDE, patch_size=14),
        "text_config": LlamaConfig(
            **small,
            num_hidden_layers=layers,
            num_attention_heads=4,
            vocab_size=len(tokenizer),
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=3,
        ),
        "image_token_index": tokenizer.convert_tokens_to_ids("<image>"),
        "vision_feature_layer": -2,
    }


def _save(folder: Path, kind: Any, config: Any, processor: Any) -> Path:
    torch.manual_seed(0)
    model = kind(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" not in name:
                weight.mul_(8)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_tasks(folder: Path) -> Path:
    """``local_colours``: four pictures and one question without any; ``local_choice``: the same pictures, four choices."""
    documents = []
    for index, (name, colour) in enumerate(COLOURS.items()):
        picture = Image.new("RGB", (70 + 20 * index, 60), (250, 250, 250))
        picture.paste(colour, (10, 10, 40, 50))
        picture.save(folder / f"{name}.png")
        question = f"what colour is the picture {' '.join('?' * (index + 1))}"  # of different lengths
        documents.append({"image": str(folder / f"{name}.png"), "question": question, "answer": name})
    documents.append({"image": "", "question": "nothing to see here . say <image> red", "answer": "red"})
    for name, rows in (("colours", documents), ("choice", documents[:-1])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "local_utils.py").write_text(
        "from PIL import Image\n\n"
        "def to_visual(doc):\n    return [Image.open(doc['image'])] if doc['image'] else []\n\n"
        "def to_text(doc, lmms_eval_specific_kwargs=None):\n    return doc['question']\n\n"
        f"def to_choice(doc):\n    return {list(COLOURS)}\n"
    )
    shared = "dataset_path: json\ntest_split: test\n"
    shared += "doc_to_visual: !function local_utils.to_visual\ndoc_to_text: !function local_utils.to_text\n"
    (folder / "local_colours.yaml").write_text(
        f"task: local_colours\n{shared}dataset_kwargs:\n  data_files:\n    test: {folder}/colours.jsonl\n"
        "output_type: generate_until\ndoc_to_target: answer\n"
        "generation_kwargs:\n  max_new_tokens: 5\n  temperature: 0\n  do_sample: false\n  until: ['?']\n"
        "metric_list:\n  - metric: exact_match\n    aggregation: mean\n    higher_is_better: true\n    ignore_case: true\n"
    )
    (folder / "local_choice.yaml").write_text(
        f"task: local_choice\n{shared}dataset_kwargs:\n  data_files:\n    test: {folder}/choice.jsonl\n"
        "output_type: multiple_choice\ndoc_to_target: answer\ndoc_to_choice: !function local_utils.to_choice\n"
        "metric_list:\n  - metric: acc\n    aggregation: mean\n    higher_is_better: true\n"
    )
    return folder
