"""Tiny random checkpoints of every stock family, saved with a processor of its stock class, a byte tokenizer and a template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from senna_autoprune.adapters.checkpoint import without_films

TILE, PATCH, LAYERS = 28, 7, 4  # a tile is 4 x 4 patches
STOCK = ("llava", "llava_next", "llava_onevision", "qwen2_5_vl", "qwen3_vl", "internvl")
PINPOINTS = [[28, 56], [56, 28], [56, 56]]
SPECIAL = {
    "image_token": "<image>",
    "video_token": "<video>",
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
}
QWEN = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")

# As the published templates do it: LLaVA-1.5 puts all pictures first, Qwen and InternVL leave them where they stand.
FIRST = (
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for part in message['content'] if part['type'] == 'image' %}{{ '<image>\n' }}{% endfor %}"
    "{% for part in message['content'] if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
IN_PLACE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}{{ 'IMAGE' }}{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def save(family: str, folder: Path) -> Path:
    """A checkpoint whose attention is not uniform, so that answers depend on the pictures."""
    torch.manual_seed(0)
    tokenizer = byte_tokenizer(family)
    model, processor = _BUILD[family](tokenizer)
    model.eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if any(part in name for part in ("q_proj", "k_proj", "qkv")):
                weight.mul_(12)
            elif "norm" not in name and ("language_model" in name or "projector" in name):
                weight.mul_(4)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def byte_tokenizer(family: str = "llava") -> Any:
    """One token a byte: any text goes in and comes out as it was."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    marks = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<pad>"}
    more = list(QWEN) if family.startswith("qwen") else SPECIAL  # Qwen's tokenizers give their picture marks no names
    return PreTrainedTokenizerFast(tokenizer_object=core, **marks, extra_special_tokens=more)


def _text(kind: Any, tokenizer: Any, **more: Any) -> Any:
    sizes = {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 64}
    marks = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    return kind(**{**sizes, **marks, "vocab_size": len(tokenizer), "max_position_embeddings": 8192, **more})


def _vision(kind: Any) -> Any:
    return kind(hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64, image_size=TILE, patch_size=PATCH)


def _llava(tokenizer: Any) -> tuple[Any, Any]:
    from transformers import CLIPImageProcessor, CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    image = tokenizer.convert_tokens_to_ids("<image>")
    parts = {"vision_config": _vision(CLIPVisionConfig), "text_config": _text(LlamaConfig, tokenizer)}
    config = LlavaConfig(**parts, image_token_index=image, image_seq_length=16)
    images = CLIPImageProcessor(size={"shortest_edge": TILE}, crop_size={"height": TILE, "width": TILE})
    options = {"patch_size": PATCH, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return LlavaForConditionalGeneration(config), LlavaProcessor(images, tokenizer, **options, chat_template=FIRST)


def _llava_next(tokenizer: Any) -> tuple[Any, Any]:
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextImageProcessor,
        LlavaNextProcessor,
    )

    image = tokenizer.convert_tokens_to_ids("<image>")
    config = LlavaNextConfig(
        vision_config=_vision(CLIPVisionConfig),
        text_config=_text(LlamaConfig, tokenizer),
        image_token_index=image,
        image_grid_pinpoints=PINPOINTS,
    )
    images = LlavaNextImageProcessor(
        size={"shortest_edge": TILE}, crop_size={"height": TILE, "width": TILE}, image_grid_pinpoints=PINPOINTS
    )
    options = {"patch_size": PATCH, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return LlavaNextForConditionalGeneration(config), LlavaNextProcessor(images, tokenizer, **options, chat_template=FIRST)


def _llava_onevision(tokenizer: Any) -> tuple[Any, Any]:
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessor,
        LlavaOnevisionProcessor,
        Qwen2Config,
        SiglipVisionConfig,
    )

    size = {"height": TILE, "width": TILE}
    config = LlavaOnevisionConfig(
        vision_config=_vision(SiglipVisionConfig),
        text_config=_text(Qwen2Config, tokenizer),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=PINPOINTS,
        vision_feature_select_strategy="full",
    )
    images = LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=PINPOINTS)
    options = {"num_image_tokens": 16, "vision_feature_select_strategy": "full", "chat_template": FIRST}
    processor = without_films(LlavaOnevisionProcessor)(images, tokenizer, **options)
    return LlavaOnevisionForConditionalGeneration(config), processor


def _qwen_marks(tokenizer: Any) -> dict[str, int]:
    names = ("vision_start_token_id", "vision_end_token_id", "image_token_id", "video_token_id")
    return {name: tokenizer.convert_tokens_to_ids(mark) for name, mark in zip(names, QWEN, strict=True)}


def _qwen_processor(kind: Any, images: Any, tokenizer: Any) -> Any:
    template = IN_PLACE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    return without_films(kind)(images, tokenizer, chat_template=template)


def _qwen2_5_vl(tokenizer: Any) -> tuple[Any, Any]:
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
    )

    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
    config = Qwen2_5_VLConfig(
        text_config=_text(dict, tokenizer, rope_parameters=rope),
        vision_config={
            "hidden_size": 32,
            "out_hidden_size": 32,
            "depth": 3,
            "num_heads": 4,
            "intermediate_size": 64,
            "patch_size": 4,
            "window_size": 16,
            "fullatt_block_indexes": [2],
        },
        **_qwen_marks(tokenizer),
    )
    images = Qwen2VLImageProcessor(patch_size=4, min_pixels=64, max_pixels=1024)
    return Qwen2_5_VLForConditionalGeneration(config), _qwen_processor(Qwen2_5_VLProcessor, images, tokenizer)


def _qwen3_vl(tokenizer: Any) -> tuple[Any, Any]:
    from transformers import Qwen2VLImageProcessor, Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    config = Qwen3VLConfig(
        text_config=_text(dict, tokenizer, head_dim=8, rope_parameters=rope),
        vision_config={
            "hidden_size": 32,
            "out_hidden_size": 32,
            "depth": 3,
            "num_heads": 4,
            "intermediate_size": 64,
            "patch_size": 4,
            "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        **_qwen_marks(tokenizer),
    )
    images = Qwen2VLImageProcessor(patch_size=4, min_pixels=64, max_pixels=1024)
    return Qwen3VLForConditionalGeneration(config), _qwen_processor(Qwen3VLProcessor, images, tokenizer)


def _internvl(tokenizer: Any) -> tuple[Any, Any]:
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        Qwen2Config,
    )

    size = {"height": TILE, "width": TILE}
    config = InternVLConfig(
        vision_config={
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "image_size": [TILE, TILE],
            "patch_size": [PATCH, PATCH],
        },
        text_config=_text(Qwen2Config, tokenizer),
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        downsample_ratio=0.5,
    )
    images = GotOcr2ImageProcessor(size=size, crop_to_patches=True, min_patches=1, max_patches=4)
    template = IN_PLACE.replace("IMAGE", "<IMG_CONTEXT>\n")
    processor = without_films(InternVLProcessor)(images, tokenizer, image_seq_length=4, chat_template=template)
    return InternVLForConditionalGeneration(config), processor


_BUILD = {name: globals()[f"_{name}"] for name in STOCK}
