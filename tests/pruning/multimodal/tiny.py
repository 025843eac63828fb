"""Tiny random vision-language models of every family, and prompts for them built without a tokenizer."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from PIL import Image
from transformers import (
    CLIPVisionConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    MistralConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Config,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

IMAGE, VIDEO, VISION_START, VISION_END = 60, 61, 58, 59
LAYERS, WIDTH, TILE, PATCH = 6, 32, 28, 7  # a tile is 4 x 4 patches
PINPOINTS = [[28, 56], [56, 28], [56, 56]]
FAMILIES = ("llava", "next-vicuna", "next-mistral", "next-window", "qwen")
NEWER = ("qwen3", "internvl", "onevision")  # held against the twin on the same model (tests/pruning/test_self_check.py)
QWEN = ("qwen", "qwen3")
WINDOW = 40


def text(cls, **more):
    return cls(
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=more.pop("num_key_value_heads", 4),
        intermediate_size=2 * WIDTH,
        vocab_size=64,
        max_position_embeddings=8192,
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
        **more,
    )


def vision(**more):
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64}
    return CLIPVisionConfig(**{**sizes, "image_size": TILE, "patch_size": PATCH, **more})


def build(family: str, attention: str = "sdpa", **vision_options):
    """A new model with sharp attention."""
    torch.manual_seed(0)
    if family == "llava":
        parts = {"vision_config": vision(**vision_options), "text_config": text(LlamaConfig)}
        config = LlavaConfig(**parts, image_token_index=IMAGE, image_seq_length=16)
        model = LlavaForConditionalGeneration._from_config(config, attn_implementation=attention)
    elif family.startswith("next"):
        window = WINDOW if family == "next-window" else None
        decoder = text(LlamaConfig) if family == "next-vicuna" else text(MistralConfig, num_key_value_heads=2, sliding_window=window)
        parts = {"vision_config": vision(**vision_options), "text_config": decoder}
        config = LlavaNextConfig(**parts, image_token_index=IMAGE, image_grid_pinpoints=PINPOINTS)
        model = LlavaNextForConditionalGeneration._from_config(config, attn_implementation=attention)
    elif family == "internvl":
        tower = {
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "image_size": [TILE, TILE],
            "patch_size": [PATCH, PATCH],
        }
        parts = {"vision_config": tower, "text_config": text(Qwen2Config, num_key_value_heads=2)}
        config = InternVLConfig(**parts, image_token_id=IMAGE, image_seq_length=4)
        model = InternVLForConditionalGeneration._from_config(config, attn_implementation=attention)
    elif family == "onevision":
        tower = {
            "model_type": "siglip_vision_model",
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "image_size": TILE,
            "patch_size": PATCH,
            "vision_use_head": False,
        }
        config = LlavaOnevisionConfig(
            vision_config=tower,
            text_config=text(Qwen2Config, num_key_value_heads=2),
            image_token_index=IMAGE,
            video_token_index=VIDEO,
            image_grid_pinpoints=PINPOINTS,
            vision_feature_layer=-1,
        )
        model = LlavaOnevisionForConditionalGeneration._from_config(config, attn_implementation=attention)
    elif family == "qwen3":
        config = Qwen3VLConfig(
            text_config={
                "hidden_size": WIDTH,
                "num_hidden_layers": LAYERS,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "head_dim": 8,
                "intermediate_size": 2 * WIDTH,
                "vocab_size": 64,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1], "mrope_interleaved": True},
                "bos_token_id": 1,
                "eos_token_id": None,
                "pad_token_id": 0,
            },
            vision_config={
                "hidden_size": 32,
                "out_hidden_size": WIDTH,
                "depth": 3,
                "num_heads": 4,
                "intermediate_size": 64,
                "patch_size": 4,
                "num_position_embeddings": 64,
                "deepstack_visual_indexes": [0, 1],
            },
            image_token_id=IMAGE,
            video_token_id=VIDEO,
            vision_start_token_id=VISION_START,
            vision_end_token_id=VISION_END,
        )
        model = Qwen3VLForConditionalGeneration._from_config(config, attn_implementation=attention)
    else:
        config = Qwen2_5_VLConfig(
            text_config={
                "hidden_size": WIDTH,
                "num_hidden_layers": LAYERS,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "intermediate_size": 2 * WIDTH,
                "vocab_size": 64,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]},
                "bos_token_id": 1,
                "eos_token_id": None,
                "pad_token_id": 0,
            },
            vision_config={
                "hidden_size": 32,
                "out_hidden_size": WIDTH,
                "depth": 3,
                "num_heads": 4,
                "intermediate_size": 64,
                "patch_size": 4,
                "window_size": 16,
                "fullatt_block_indexes": [2],
            },
            image_token_id=IMAGE,
            video_token_id=VIDEO,
            vision_start_token_id=VISION_START,
            vision_end_token_id=VISION_END,
        )
        model = Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation=attention)
    model.eval()
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if any(part in name for part in ("q_proj", "k_proj", "qkv")):
                weight.mul_(12)
            elif "norm" not in name and ("language_model" in name or "deepstack" in name):
                weight.mul_(4)
    return model


@lru_cache
def model(family: str, attention: str = "sdpa"):
    """One of each, shared; never change it."""
    return build(family, attention)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """A smooth random image."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


SQUARE, WIDE, TALL, BAND = (40, 40), (60, 28), (28, 60), (90, 30)  # (width, height)


def pixels(family: str, sizes, seed: int = 0) -> dict[str, torch.Tensor]:
    """What the family's image processor makes of random pictures of these sizes."""
    pictures = [picture(*size, seed=seed + index) for index, size in enumerate(sizes)]
    if family in ("llava", "internvl"):
        arrays = [np.asarray(one.resize((TILE, TILE)), dtype=np.float32) / 127.5 - 1 for one in pictures]
        return {"pixel_values": torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)}
    if family in QWEN:
        processor = Qwen2VLImageProcessorPil(patch_size=4, min_pixels=64, max_pixels=4096)
        return dict(processor(pictures, return_tensors="pt"))
    if family == "onevision":
        sizes = {"size": {"height": TILE, "width": TILE}, "image_grid_pinpoints": PINPOINTS}
        return dict(LlavaOnevisionImageProcessorPil(**sizes)(pictures, return_tensors="pt"))
    processor = LlavaNextImageProcessorPil(
        size={"shortest_edge": TILE}, crop_size={"height": TILE, "width": TILE}, image_grid_pinpoints=PINPOINTS
    )
    return dict(processor(pictures, return_tensors="pt"))


def prompt(family: str, images=(SQUARE,), seed: int = 0, before: int = 4, between: int = 2, after: int = 7) -> dict[str, torch.Tensor]:
    """Inputs of ``generate``: text, images with ``between`` text tokens between them, a question."""
    inputs = pixels(family, images, seed) if images else {}
    draw = torch.Generator().manual_seed(seed)

    def words(count: int) -> list[int]:
        return torch.randint(2, 50, (count,), generator=draw).tolist()

    ids = [1, *words(before)]
    for index, count in enumerate(counts(family, inputs)):
        block = [VISION_START, *[IMAGE] * count, VISION_END] if family in QWEN else [IMAGE] * count
        ids += block + (words(between) if index + 1 < len(images) else [])
    ids = torch.tensor([ids + words(after)])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **inputs}
    if family in QWEN:
        inputs["mm_token_type_ids"] = (ids == IMAGE).int()
    return inputs


def counts(family: str, inputs) -> list[int]:
    """Visual tokens of each image."""
    if not inputs:
        return []
    with torch.no_grad():
        return [len(one) for one in model(family).model.get_image_features(**inputs).pooler_output]


def batch(family: str, prompts) -> dict[str, torch.Tensor]:
    """Several prompts as one, padded on the left."""
    longest = max(one["input_ids"].shape[1] for one in prompts)
    joined: dict[str, torch.Tensor] = {}
    for name in prompts[0]:
        parts = [one[name] for one in prompts if name in one]
        if name in ("input_ids", "attention_mask", "mm_token_type_ids"):
            parts = [torch.nn.functional.pad(part, (longest - part.shape[1], 0)) for part in parts]
        elif name == "pixel_values" and parts[0].dim() == 5:
            tiles = max(part.shape[1] for part in parts)
            parts = [torch.nn.functional.pad(part, (0, 0) * 3 + (0, tiles - part.shape[1])) for part in parts]
        joined[name] = torch.cat(parts)
    return joined


def decoder_inputs(model, inputs) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Embeddings (N, d) and rotary positions (3, N) or None that the unpruned model gives its decoder."""
    seen = {}

    def look(module, args, kwargs):
        seen.update(kwargs)

    handle = model.get_decoder().register_forward_pre_hook(look, with_kwargs=True)
    with torch.no_grad():
        model(**inputs)
    handle.remove()
    positions = seen.get("position_ids")
    return seen["inputs_embeds"][0], None if positions is None or positions.ndim < 3 else positions[-3:, 0]
