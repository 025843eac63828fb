"""``SennaConfig``: a stock Llama decoder, a stock CLIP vision model, and the two small maps between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import CLIPVisionConfig, LlamaConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.senna.prompts import IMAGE_TOKEN_ID


@strict
class SennaConfig(PreTrainedConfig):
    """Configuration of :class:`SennaForConditionalGeneration` (spec/senna.md item 1).

    Args:
        text_config: the decoder's ``LlamaConfig`` (or its dict).
        vision_config: the tower's ``CLIPVisionConfig`` (or its dict); it fixes image size and patches per view (576 for
            336/14).
        vision_feature_layer: index into the tower's hidden states whose patch rows are the features (-2; CLS is
            dropped).
        num_visual_tokens: visual tokens a view (128), the token adapter's output length.
        adapter_hidden_size: width of the adapter's two inner maps over the token axis (128).
        image_token_id: the mark in ``input_ids`` that stands for one view (-200, as in the original).
        prompt_max_length: longest prompt in positions, visual tokens counted (2048); a longer one is an error.
    """

    model_type = "senna"
    sub_configs_defaults = {  # noqa: RUF012 (the library's own declaration)
        "vision_config": SubConfigSpec(
            config_class=CLIPVisionConfig,
            init_kwargs={
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "image_size": 336,
                "patch_size": 14,
            },
        ),
        "text_config": SubConfigSpec(config_class=LlamaConfig),
    }

    text_config: dict[str, Any] | PreTrainedConfig | None = None
    vision_config: dict[str, Any] | PreTrainedConfig | None = None
    vision_feature_layer: int = -2
    num_visual_tokens: int = 128
    adapter_hidden_size: int = 128
    image_token_id: int = IMAGE_TOKEN_ID
    prompt_max_length: int = 2048
    tie_word_embeddings: bool = False

    @property
    def num_patches(self) -> int:
        """Patches of one view: the token adapter's input length."""
        vision: Any = self.vision_config
        return (vision.image_size // vision.patch_size) ** 2


def check_config(config: SennaConfig, path: Path) -> None:
    """What the library takes from a file unseen. SennaPruneError names the key."""
    for name in ("num_visual_tokens", "adapter_hidden_size", "prompt_max_length"):
        value = getattr(config, name)
        if type(value) is not int or value < 1:
            raise SennaPruneError(f"{path}: {name} is {value!r:.80}, not a whole number of at least 1")
    if type(config.vision_feature_layer) is not int:
        raise SennaPruneError(f"{path}: vision_feature_layer is {config.vision_feature_layer!r:.80}, not a whole number")
    if type(config.tie_word_embeddings) is not bool:
        raise SennaPruneError(f"{path}: tie_word_embeddings is {config.tie_word_embeddings!r:.80}, not true or false")
    if config.image_token_id != IMAGE_TOKEN_ID:
        raise SennaPruneError(f"{path}: image_token_id is {config.image_token_id!r:.80}, only {IMAGE_TOKEN_ID} is supported")
