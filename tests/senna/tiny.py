"""A Senna of a few thousand random weights and a small vocabulary, for tests that need no recordings."""

from __future__ import annotations

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CLIPVisionConfig, LlamaConfig, PreTrainedTokenizerFast

from senna_autoprune.senna import SennaConfig, SennaForConditionalGeneration, SennaImageProcessor, SennaProcessor

TOKENS = 5  # visual tokens a view


def tiny_config(**changes) -> SennaConfig:
    text = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    vision = CLIPVisionConfig(hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8)
    values = {"text_config": text, "vision_config": vision, "num_visual_tokens": TOKENS, "adapter_hidden_size": 7}
    return SennaConfig(**{**values, **changes})


def tiny_model(seed: int = 0, **changes) -> SennaForConditionalGeneration:
    """Weights are spread widely, so that attention is not uniform and greedy tokens have clear winners."""
    torch.manual_seed(seed)
    model = SennaForConditionalGeneration(tiny_config(**changes)).eval()
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim > 1:
                value.normal_(std=0.4)
    model.generation_config.pad_token_id = 0
    model.generation_config.eos_token_id = None
    return model


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Characters as words, one for every id of the model; unk 0, bos 1, eos 2."""
    characters = "\u2581ABCDEFGHIKLNOPRSTUVWYabcdefghilnoprstuvwy?.,:'<>\n0123456789!"
    vocabulary = {"<unk>": 0, "<s>": 1, "</s>": 2, **{c: i + 3 for i, c in enumerate(characters)}}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    backend.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<unk>")


def tiny_processor() -> SennaProcessor:
    return SennaProcessor(SennaImageProcessor(image_size=32, patch_size=8), tiny_tokenizer(), num_visual_tokens=TOKENS)


def views(count: int, seed: int = 0) -> list[Image.Image]:
    """Noise images, 16:9."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 18, 32, 3), generator=generator, dtype=torch.uint8)
    return [Image.fromarray(view.numpy()) for view in pixels]


def question(count: int, text: str = "go?") -> str:
    return "".join(f"VIEW {chr(65 + index)}:\n<image>\n" for index in range(count)) + text
