"""What stock ``generate`` asks of a model whose prompt is longer than its ids: each image mark stands for many
positions."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import Cache, GenerationMixin
from transformers.utils import ModelOutput

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.senna.configuration import SennaConfig
from senna_autoprune.senna.vision import SennaImageFeatures


class SennaGenerationMixin(GenerationMixin):
    """``generate`` itself is stock; only its bookkeeping learns the expanded length."""

    config: SennaConfig

    def prepare_inputs_for_generation(  # type: ignore[override]
        self,
        input_ids: Tensor,
        inputs_embeds: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        is_first_iteration: bool | None = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """As stock, but a scene's features go in once, with the prompt.

        Cache and 2D mask bypass the stock code, which would build a 4D mask of the unexpanded length for static caches.

        Raises:
            SennaPruneError: ``input_ids`` hold image marks, and ``inputs_embeds`` or a filled cache came with them.
        """
        if is_first_iteration and bool((input_ids == self.config.image_token_id).any()):
            if inputs_embeds is not None:
                raise SennaPruneError("give generate either input_ids with images or inputs_embeds, not both")
            if past_key_values is not None and past_key_values.get_seq_length() > 0:
                raise SennaPruneError("generate cannot continue a filled cache across <image> marks: start afresh")
        stock: Any = super().prepare_inputs_for_generation  # type: ignore[misc]
        inputs: dict[str, Any] = stock(input_ids, inputs_embeds=inputs_embeds, is_first_iteration=is_first_iteration, **kwargs)
        if past_key_values is not None:
            inputs["past_key_values"] = past_key_values
        if attention_mask is not None:
            inputs["attention_mask"] = attention_mask.to(self.device)  # type: ignore[attr-defined]
        if not is_first_iteration and kwargs.get("use_cache", True):
            for name in ("image_features", "patch_mask"):
                inputs.pop(name, None)
        return inputs

    def _prepare_attention_mask_for_generation(  # type: ignore[override]
        self, inputs_tensor: Tensor, generation_config: Any, model_kwargs: dict[str, Any]
    ) -> Tensor:
        """Without a given mask only leading pads are padding: Senna pads with ``<unk>``, which a prompt may also hold."""
        given = model_kwargs.get("input_ids")
        ids = given if given is not None and given.shape[1] else inputs_tensor
        pad = generation_config._pad_token_tensor
        if ids.ndim == 2 and not ids.is_floating_point() and pad is not None:
            return ((ids != pad.to(ids.device)).cumsum(-1) > 0).long()
        stock: Any = super()._prepare_attention_mask_for_generation  # type: ignore[misc]
        return stock(inputs_tensor, generation_config, model_kwargs)

    def _prepare_cache_for_generation(  # type: ignore[override]
        self,
        generation_config: Any,
        model_kwargs: dict[str, Any],
        generation_mode: Any,
        batch_size: int,
        max_cache_length: int,
    ) -> Any:
        """A static cache must hold the expanded prompt, not one slot a view."""
        images = model_kwargs.get("image_features")
        if isinstance(images, SennaImageFeatures):
            images = images.tokens
        if images is None:
            images = model_kwargs.get("pixel_values")
        if images is not None and model_kwargs.get("inputs_embeds") is None:
            max_cache_length += images.shape[1] * (self.config.num_visual_tokens - 1)
        stock: Any = super()._prepare_cache_for_generation  # type: ignore[misc]
        return stock(generation_config, model_kwargs, generation_mode, batch_size, max_cache_length)

    def _update_model_kwargs_for_generation(  # type: ignore[override]
        self, outputs: ModelOutput, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> dict[str, Any]:
        """After the prefill the mask and positions are the expanded prompt's; stock code then appends to them."""
        if outputs.get("prompt_position_ids") is not None:
            model_kwargs["position_ids"] = outputs["prompt_position_ids"]
            if outputs.get("prompt_attention_mask") is not None:
                model_kwargs["attention_mask"] = outputs["prompt_attention_mask"]
        return super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)
