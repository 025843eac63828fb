"""``SennaForConditionalGeneration``: the Senna driving VLA as a model of transformers 5.

Stock ``CLIPVisionModel`` and ``LlamaModel`` with the projector and the token adapter between them (spec/senna.md).
Prompts hold one mark a view; ``forward`` widens each mark to the view's visual tokens, so the decoder sees a plain
sequence and anything that hooks a Llama decoder works on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from transformers import Cache, CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaModel, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils.generic import can_return_tuple

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.decoder.models import CACHE, CACHE_NAMES
from senna_autoprune.senna.configuration import SennaConfig
from senna_autoprune.senna.expansion import Expansion, expand_marks
from senna_autoprune.senna.generation import SennaGenerationMixin
from senna_autoprune.senna.vision import (
    SennaImageFeatures,
    TokenAdapter,
    build_projector,
    cls_attention,
    tower_features,
)

if TYPE_CHECKING:
    from senna_autoprune.pruning.context import VisualContext

CLS_NOTE = "CLS scores reach Senna's tokens through the adapter's absolute weights: our rule, the papers do not say theirs"
IGNORED_LABEL = -100  # torch's cross-entropy skips it; visual positions are never predicted


@dataclass
class SennaOutput(CausalLMOutputWithPast):
    """What ``forward`` returns; all lengths are expanded (N positions, not n marks and tokens).

    Attributes:
        loss: scalar, when ``labels`` were given.
        logits: (B, N, vocabulary), or fewer rows with ``logits_to_keep``.
        past_key_values: the cache (from transformers 5.24 on also ``cache``).
        hidden_states: per layer (B, N, d), when asked for.
        attentions: per layer (B, H, N, N), when asked for.
        prompt_attention_mask: (B, N) after a prefill with padding; ``generate`` grows it.
        prompt_position_ids: (B, N) after a prefill with images; ``generate`` continues it.
    """

    prompt_attention_mask: Tensor | None = None
    prompt_position_ids: Tensor | None = None


class SennaForConditionalGeneration(PreTrainedModel, SennaGenerationMixin):
    """Senna with a language-model head.

    Stock ``generate`` works from ``input_ids`` with ``pixel_values (B, V, 3, H, W)``, or ``image_features`` in their place.
    """

    config_class = SennaConfig
    config: SennaConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ["image", "text"]  # noqa: RUF012
    supports_gradient_checkpointing = True
    _no_split_modules = ["LlamaDecoderLayer", "CLIPEncoderLayer"]  # noqa: RUF012 (the library's own declaration)
    _skip_keys_device_placement = list(CACHE_NAMES)  # noqa: RUF012
    _tied_weights_keys = {"lm_head.weight": "language_model.embed_tokens.weight"}  # noqa: RUF012
    _supports_flash_attn = True
    _supports_sdpa = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: SennaConfig) -> None:
        super().__init__(config)
        depth = config.vision_config.num_hidden_layers  # type: ignore[union-attr]
        if not -depth - 1 <= config.vision_feature_layer <= depth:
            raise SennaPruneError(f"vision_feature_layer {config.vision_feature_layer} needs a deeper tower than {depth} layers")
        text, vision = cast(LlamaConfig, config.text_config), cast(CLIPVisionConfig, config.vision_config)
        self.vision_tower = CLIPVisionModel._from_config(vision)
        self.mm_projector = build_projector(vision.hidden_size, text.hidden_size)
        self.img_adapter = TokenAdapter(config.num_patches, config.adapter_hidden_size, config.num_visual_tokens)
        self.language_model = LlamaModel._from_config(text)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        # features that visual_context computed, for the forward with the same pixels that follows it
        self._scene: tuple[Tensor, SennaImageFeatures] | None = None
        self.post_init()

    def get_decoder(self) -> LlamaModel:  # type: ignore[override]
        """The stock ``LlamaModel`` (``.layers``, ``.norm``, ``.rotary_emb``, ``.config``)."""
        return self.language_model

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.embed_tokens = value

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, value: nn.Module) -> None:
        self.lm_head = value

    # ---- vision

    def get_image_features(self, pixel_values: Tensor, cls_scores: bool = False, patch_mask: Tensor | None = None) -> SennaImageFeatures:
        """Visual tokens of a scene; give the result as ``image_features=`` to reuse it for all its questions.

        Args:
            pixel_values: (B, V, 3, H, W), V >= 1 views.
            cls_scores: also compute the tokens' CLS scores s = W c (spec/methods.md "CLS scores on Senna").
            patch_mask: (B, V, P) bool, False where a patch is square padding, whose c counts as 0.

        Returns:
            tokens (B, V, T, d) and cls_scores (B, V, T) or None.

        Raises:
            SennaPruneError: the shape is not (B, V, 3, H, W), or there are no views.
        """
        if pixel_values.ndim != 5:
            raise SennaPruneError(f"pixel_values must be (B, V, 3, H, W), got shape {tuple(pixel_values.shape)}")
        batch, views = pixel_values.shape[:2]
        if batch == 0 or views == 0:
            raise SennaPruneError("pixel_values holds zero views: give at least one image a question")
        layer = self.config.vision_feature_layer
        pixels = pixel_values.flatten(0, 1)  # (B * V, 3, H, W): each view goes through the tower once
        patches, layer_input = tower_features(self.vision_tower, pixels.to(self.vision_tower.dtype), layer)
        tokens = self.img_adapter(self.mm_projector(patches)).unflatten(0, (batch, views))  # (B, V, T, d)
        if not cls_scores:
            return SennaImageFeatures(tokens)
        attention = cls_attention(self.vision_tower, layer_input, layer)  # (B * V, P)
        if patch_mask is not None:
            if patch_mask.shape != (batch, views, attention.shape[1]):
                raise SennaPruneError(f"patch_mask must be {(batch, views, attention.shape[1])}, got {tuple(patch_mask.shape)}")
            attention = attention * patch_mask.flatten(0, 1).to(attention)
        scores = attention @ self.img_adapter.patch_weights().to(attention).T  # (B * V, T)
        return SennaImageFeatures(tokens, scores.unflatten(0, (batch, views)))

    def get_visual_mask(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Visual positions of the expanded sequence, (B, N) bool. Padding has no marks, so ``attention_mask`` changes
        nothing."""
        return self._expand(input_ids).visual_mask

    def visual_context(self, needs: frozenset[str] = frozenset(), **forward_kwargs: Any) -> VisualContext:
        """What a pruning method may ask about the forward call with these keywords.

        ``needs`` may hold ``"cls_scores"``: they are taken from ``image_features``, or computed from ``pixel_values``;
        the coming ``forward`` with the same ``pixel_values`` then reuses these features, so the tower still runs once.

        Raises:
            SennaPruneError: the call has no ``input_ids`` (give ``visual_mask=`` to the policy), or no images to score.
        """
        from senna_autoprune.pruning.context import VisualContext

        input_ids = forward_kwargs.get("input_ids")
        if input_ids is None:
            raise SennaPruneError("the visual positions of bare inputs_embeds are unknown: give the policy visual_mask=")
        expansion = self._expand(input_ids)
        scores: Tensor | None = None
        if "cls_scores" in needs and expansion.num_views:
            features = self._features_with_scores(forward_kwargs)
            scores = self._match_rows(features.cls_scores, input_ids.shape[0]).flatten(1)  # type: ignore[arg-type]
        sizes = (self.config.num_visual_tokens,) * expansion.num_views
        notes = (CLS_NOTE,) if scores is not None else ()
        return VisualContext(mask=expansion.visual_mask, view_sizes=sizes, cls_scores=scores, notes=notes)

    def _features_with_scores(self, forward_kwargs: dict[str, Any]) -> SennaImageFeatures:
        features, pixels = forward_kwargs.get("image_features"), forward_kwargs.get("pixel_values")
        if isinstance(features, SennaImageFeatures) and features.cls_scores is not None:
            return features
        if features is not None:
            raise SennaPruneError("these image_features hold no CLS scores: compute them with get_image_features(..., cls_scores=True)")
        if pixels is None:
            raise SennaPruneError("CLS scores need pixel_values or image_features")
        features = self.get_image_features(pixels, cls_scores=True, patch_mask=forward_kwargs.get("patch_mask"))
        self._scene = (pixels, features)
        return features

    # ---- the expanded sequence

    def _expand(self, input_ids: Tensor) -> Expansion:
        return expand_marks(input_ids, self.config.image_token_id, self.config.num_visual_tokens)

    @staticmethod
    def _match_rows(values: Tensor, rows: int) -> Tensor:
        """Repeat a scene's values for several questions (or beams) about it: (B', ...) -> (rows, ...)."""
        if values.shape[0] == rows:
            return values
        if values.shape[0] == 0 or rows % values.shape[0]:
            raise SennaPruneError(f"{values.shape[0]} scenes of images cannot serve {rows} questions")
        return values.repeat_interleave(rows // values.shape[0], dim=0)

    def _visual_tokens(
        self, input_ids: Tensor, pixel_values: Tensor | None, image_features: SennaImageFeatures | Tensor | None
    ) -> Tensor | None:
        scene, self._scene = self._scene, None
        if image_features is None and pixel_values is not None:
            same = scene is not None and scene[0] is pixel_values
            image_features = scene[1] if same else self.get_image_features(pixel_values)  # type: ignore[index]
        if isinstance(image_features, SennaImageFeatures):
            image_features = image_features.tokens
        if image_features is None:
            return None
        return self._match_rows(image_features, input_ids.shape[0])  # (B, V, T, d)

    def _embed(self, input_ids: Tensor, expansion: Expansion, tokens: Tensor | None) -> Tensor:
        """Text embeddings with the views' tokens in place of the marks, (B, N, d)."""
        config = self.config
        views = 0 if tokens is None else tokens.shape[1]
        if views != expansion.num_views:
            raise SennaPruneError(
                f"the question holds {expansion.num_views} <image> marks but {views} images were given: "
                "they must be equal, in the same order"
            )
        if expansion.num_views and expansion.length > config.prompt_max_length:
            raise SennaPruneError(
                f"the prompt takes {expansion.length} positions ({expansion.num_views} views of "
                f"{config.num_visual_tokens} tokens) but the limit is {config.prompt_max_length}: shorten the question"
            )
        text_ids = expansion.spread(input_ids).masked_fill(expansion.visual_mask, 0)  # (B, N)
        embeds = self.language_model.embed_tokens(text_ids)  # (B, N, d)
        if tokens is None:
            return embeds
        if tokens.shape[2:] != (config.num_visual_tokens, embeds.shape[-1]):
            raise SennaPruneError(
                f"image_features must be (B, V, {config.num_visual_tokens}, {embeds.shape[-1]}), got {tuple(tokens.shape)}"
            )
        tokens = tokens.to(device=embeds.device, dtype=embeds.dtype)
        return embeds.masked_scatter(expansion.visual_mask.unsqueeze(-1), tokens)

    @staticmethod
    def _fit(values: Tensor, expansion: Expansion, name: str) -> Tensor:
        """``values`` of marks and tokens (B, n) or of positions (B, N), as values of positions."""
        if values.shape[1] == expansion.length:
            return values
        try:
            return expansion.spread(values)
        except (RuntimeError, IndexError) as error:
            raise SennaPruneError(
                f"{name} of shape {tuple(values.shape)} fits neither the {expansion.source.max() + 1} prompt ids "
                f"nor their {expansion.length} positions"
            ) from error

    def expand_labels(self, input_ids: Tensor, labels: Tensor) -> Tensor:
        """Labels (B, n) of marks and tokens, or (B, N), as labels of positions (B, N): -100 at visual ones."""
        expansion = self._expand(input_ids)
        return self._fit(labels, expansion, "labels").masked_fill(expansion.visual_mask, IGNORED_LABEL)

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        image_features: SennaImageFeatures | Tensor | None = None,
        patch_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        cache: Cache | None = None,
        **kwargs: Any,
    ) -> SennaOutput:
        """One pass of the decoder over the expanded sequence.

        Args:
            input_ids: (B, n) ids with one mark a view; a decode step has no marks.
            pixel_values: (B, V, 3, H, W); B may also divide the number of questions (one scene, many questions).
            image_features: what :meth:`get_image_features` returned (or its tokens), in place of ``pixel_values``.
            patch_mask: (B, V, P) bool, True on image content; used only by CLS scores (:meth:`visual_context`).
            attention_mask: (B, n) or (B, N), 0 at padding. The decoder gets it as (B, N), or None when nothing is
                padded.
            position_ids: (B, N) rotary positions. With images, other lengths (``generate`` counts marks as one) are
                recomputed.
            past_key_values (or cache), use_cache, logits_to_keep, further keywords: as in ``LlamaForCausalLM``.
            inputs_embeds: (B, N, d) in place of ``input_ids``.
            labels: (B, n) or (B, N), -100 where nothing is to be predicted; visual positions never are.

        Raises:
            SennaPruneError: marks and images differ in number, zero views, or a prompt beyond the position limit.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise SennaPruneError("give exactly one of input_ids and inputs_embeds")
        past = past_key_values if past_key_values is not None else cache
        expansion = None
        if input_ids is not None:
            # a single id without images is a decode step: nothing to expand, and no need to wait for a count
            if input_ids.shape[1] > 1 or pixel_values is not None or image_features is not None:
                expansion = self._expand(input_ids)
                tokens = self._visual_tokens(input_ids, pixel_values, image_features)
                inputs_embeds = self._embed(input_ids, expansion, tokens)
            else:
                inputs_embeds = self.language_model.embed_tokens(input_ids)
        with_images = expansion is not None and expansion.num_views > 0
        if expansion is not None and with_images:
            if attention_mask is not None and attention_mask.ndim == 2:
                attention_mask = self._fit(attention_mask, expansion, "attention_mask")
            if labels is not None:
                labels = self.expand_labels(cast(Tensor, input_ids), labels)
            if position_ids is not None and position_ids.shape[-1] != expansion.length:
                position_ids = None
        if attention_mask is not None and attention_mask.ndim == 2 and not torch.compiler.is_compiling():
            # nothing padded: kernels and pruning hooks are fastest, and simplest, without a mask
            attention_mask = None if bool((attention_mask != 0).all()) else attention_mask
        if with_images and attention_mask is not None and attention_mask.ndim == 2 and position_ids is None:
            position_ids = (attention_mask.long().cumsum(-1) - 1).clamp_min(0)  # (B, N)
        seen = 0 if past is None else past.get_seq_length()

        outputs = self.language_model(
            attention_mask=attention_mask,
            position_ids=position_ids,
            **{CACHE: past},
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        hidden = outputs.last_hidden_state  # (B, N, d)
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(hidden[:, kept])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.lm_head.out_features, **kwargs)
        if with_images and position_ids is None:
            # of the prompt as it came: a pruned decoder hands back fewer rows
            length = cast(Expansion, expansion).length
            position_ids = torch.arange(seen, seen + length, device=hidden.device).unsqueeze(0)  # (1, N)
        return SennaOutput(
            loss=loss,
            logits=logits,
            **{CACHE: getattr(outputs, CACHE)},
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            prompt_attention_mask=attention_mask if with_images else None,
            prompt_position_ids=position_ids if with_images else None,
        )
