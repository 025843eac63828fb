"""What stock ``generate`` asks of a model whose prompt is longer than its ids: each image mark stands for many
positions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import Cache, GenerationMixin, LogitsProcessorList
from transformers.generation.streamers import BaseStreamer
from transformers.utils import ModelOutput

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.decoder.models import CACHE
from senna_autoprune.senna.configuration import SennaConfig
from senna_autoprune.senna.vision import SennaImageFeatures


class UnmarkedProcessors(LogitsProcessorList):
    """Logits processors that see a prompt of words only: image marks are no ids of the vocabulary.

    A mark reads as the first word of its row (the prompt's ``<s>``), which stands in the prompt anyway: penalties of what was said, and
    bans of what follows what, are those of the prompt's words.
    """

    def __init__(self, processors: Any, mark: int) -> None:
        super().__init__(processors)
        self.mark = mark

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        words: Any = without_marks(input_ids, self.mark)
        return super().__call__(words, scores, **kwargs)


class UnmarkedStreamer(BaseStreamer):
    """Hands the prompt on without its image marks, which no tokenizer can decode."""

    def __init__(self, streamer: Any, mark: int) -> None:
        self.streamer, self.mark = streamer, mark

    def put(self, value: Tensor) -> None:
        one_row = value.ndim == 2 and value.shape[0] == 1
        self.streamer.put(value[0][value[0] != self.mark][None] if one_row else value)

    def end(self) -> None:
        self.streamer.end()


def without_marks(ids: Tensor, mark: int) -> Tensor:
    """ids (B, n) with the first word of each row in place of image marks."""
    if not ids.shape[1]:  # generation from embeddings
        return ids
    marks = ids == mark
    first = (~marks).to(torch.int8).argmax(-1, keepdim=True)
    return torch.where(marks, ids.gather(-1, first), ids)


class SennaGenerationMixin(GenerationMixin):
    """``generate`` itself is stock; only its bookkeeping learns the expanded length."""

    config: SennaConfig

    def prepare_inputs_for_generation(  # type: ignore[override]
        self,
        input_ids: Tensor,
        inputs_embeds: Tensor | None = None,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        cache: Cache | None = None,
        is_first_iteration: bool | None = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """As stock, but a scene's features go in once, with the prompt.

        Cache and 2D mask bypass the stock code, which would build a 4D mask of the unexpanded length for static caches.

        Raises:
            SennaPruneError: ``input_ids`` hold image marks, and ``inputs_embeds`` or a filled cache came with them.
        """
        past = past_key_values if past_key_values is not None else cache
        if is_first_iteration and bool((input_ids == self.config.image_token_id).any()):
            if inputs_embeds is not None:
                raise SennaPruneError("give generate either input_ids with images or inputs_embeds, not both")
            if past is not None and past.get_seq_length() > 0:
                raise SennaPruneError("generate cannot continue a filled cache across <image> marks: start afresh")
        stock: Any = super().prepare_inputs_for_generation  # type: ignore[misc]
        inputs: dict[str, Any] = stock(input_ids, inputs_embeds=inputs_embeds, is_first_iteration=is_first_iteration, **kwargs)
        if past is not None:
            inputs[CACHE] = past
        if attention_mask is not None:
            inputs["attention_mask"] = attention_mask.to(self.device)  # type: ignore[attr-defined]
        if not is_first_iteration and kwargs.get("use_cache", True):
            for name in ("image_features", "patch_mask"):
                inputs.pop(name, None)
        return inputs

    def generate(self, *args: Any, streamer: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """As stock; a streamer gets the prompt without its image marks."""
        if streamer is not None:
            kwargs["streamer"] = UnmarkedStreamer(streamer, self.config.image_token_id)
        stock: Any = super().generate  # type: ignore[misc]
        return stock(*args, **kwargs)

    def _get_logits_processor(self, *args: Any, **kwargs: Any) -> LogitsProcessorList:  # type: ignore[override]
        """The stock processors and the caller's, none of which can read image marks."""
        mark = self.config.image_token_id
        encoder = kwargs.get("encoder_input_ids")
        if encoder is not None and encoder.ndim == 2 and not encoder.is_floating_point():
            kwargs["encoder_input_ids"] = without_marks(encoder, mark)
        stock: Any = super()._get_logits_processor  # type: ignore[misc]
        return UnmarkedProcessors(stock(*args, **kwargs), mark)

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
