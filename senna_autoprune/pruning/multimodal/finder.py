"""Where the visual tokens of a forward call are, and what the vision tower says of them, found from the model.

``generate`` runs the vision tower before the model's forward and hands over its features alone; a plain forward runs it inside. Both
pass through ``get_image_features`` of the model without its head. It is a method, not a module, so what stands in for a hook is a
wrapper on that one instance, taken off with the hooks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from functools import wraps
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.context import Asked, VisualContext
from senna_autoprune.pruning.decoder.models import cache_in
from senna_autoprune.pruning.multimodal.clip import ClipWatch
from senna_autoprune.pruning.multimodal.families import NoCls, family_of

EARLIER = "these image features were computed before the policy was there: pass pixel_values instead"

IMAGES = ("pixel_values", "pixel_values_videos", "image_features", "mm_encoder_outputs")  # what brings visual tokens with a call


@dataclass
class Images:
    """One run of the vision tower. features: per image (V, d), as the model packs them; scores (V,) and keys (V, c) likewise."""

    features: Sequence[Tensor]
    scores: Sequence[Tensor] | None = None
    keys: Sequence[Tensor] | None = None


class VisualFinder:
    """Watches one model; ``attach`` adds hooks and ``context`` answers for the prefill under way.

    Args:
        needs: of "cls_scores" and "keys", what a method will ask for.
    """

    def __init__(self, model: Any, needs: frozenset[str]) -> None:
        self.model, self.base, self.needs = model, getattr(model, "base_model", model), needs
        self.family: Any = family_of(model) if hasattr(model, "config") else None
        self.missing: dict[str, str] = {}
        self.brings_images = False
        self.asked: Asked | None = None
        self.images: Images | None = None
        self.found: VisualContext | None = None
        self.mask: Tensor | None = None
        self.only_images = True
        self.packed: Sequence[Tensor] | None = None
        self.tower: Any = None

    def attach(self, stack: ExitStack, ask: bool) -> None:
        """Watch until the stack closes. ask: also look for visual tokens; else only for what the caller asks for."""
        self.ask = ask
        stack.callback(self.model.register_forward_pre_hook(self._see_call, with_kwargs=True).remove)
        if not ask or hasattr(self.model, "visual_context") or self.family is None:
            return
        if self.needs:
            try:
                self.tower = self.family.tower(self.base)
            except NoCls as reason:
                self.missing = {"cls_scores": str(reason)}
        before = vars(self.base).get("get_image_features")  # of a policy around this one
        self.base.get_image_features = self._watched(self.base.get_image_features)
        if before is None:
            stack.callback(delattr, self.base, "get_image_features")
        else:
            stack.callback(setattr, self.base, "get_image_features", before)

    def context(self) -> VisualContext | None:
        """The visual tokens of the prefill that has reached the decoder; None if there is nothing to prune.

        Raises:
            SennaPruneError: the model's own forward did not run, so nobody has seen the images.
        """
        if self.asked is None:
            raise SennaPruneError(
                f"the decoder ran without {type(self.model).__name__}'s own forward, so its visual tokens are unknown; pass visual_mask="
            )
        if self.found is not None or self.mask is None:
            return self.found
        images, packed = self.images, self.packed
        if packed is None and images is not None:
            packed = images.features
        if packed is None or not self.only_images:
            return VisualContext(self.mask, missing=self.missing)
        order = _indices(packed, images.features if images is not None else ())
        rows = _rows(self.mask.sum(-1).tolist(), [len(one) for one in packed])
        runs = self.family is not None and self.family.pictures_are_runs
        sizes = None if runs else [tuple(len(packed[image]) for image in row) for row in rows]
        if order is None or images is None:
            missing = self.missing or {"cls_scores": EARLIER}
            return VisualContext(self.mask, sizes, missing=missing)
        owners = [[order[image] for image in row] for row in rows]
        scores, keys = _per_prompt(images.scores, owners), _per_prompt(images.keys, owners)
        return VisualContext(self.mask, sizes, scores, keys, self.family.notes if scores is not None else (), self.missing)

    # --- what is watched --------------------------------------------------------------------------------------------------------------

    def _see_call(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        bound = inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments
        bound = {**bound, **bound.pop("kwargs", {})}
        self.asked = Asked.of(module, bound)
        cache = cache_in(bound)
        self.found = self.mask = self.packed = None
        self.brings_images = False
        if cache is not None and cache.get_seq_length():
            self.brings_images = any(_holds(bound.get(name)) for name in IMAGES) or self._marked(bound.get("input_ids"))
            return
        if not self.ask:
            return
        if hasattr(module, "visual_context"):
            self.found = module.visual_context(self.needs, **bound)
            return
        self.mask = self._positions(bound.get("input_ids"))
        encoded = (bound.get("mm_encoder_outputs") or {}).get("image")
        if encoded is not None and self.family is not None:
            self.packed = encoded.pooler_output
        else:
            self.images = None  # the forward is about to compute them, if there are any

    def _positions(self, input_ids: Tensor | None) -> Tensor:
        config: Any = self.model.config
        image = getattr(config, "image_token_id", None)
        if image is None or input_ids is None:
            raise SennaPruneError(
                f"{type(self.model).__name__}: visual positions are unknown; pass visual_mask=(B, N) bool, "
                "or input_ids to a model whose config has image_token_id"
            )
        mask, video = input_ids == image, getattr(config, "video_token_id", None)
        films = input_ids == video if video is not None else torch.zeros_like(mask)
        self.only_images = video is None or not bool(films.any())
        return mask | films

    def _marked(self, input_ids: Any) -> bool:
        """Whether more than a decode step's token comes, and places of images are among them."""
        if not isinstance(input_ids, Tensor) or input_ids.shape[1] < 2 or not hasattr(self.model, "config"):
            return False
        marks = [getattr(self.model.config, f"{name}_token_id", None) for name in ("image", "video")]
        return any(bool((input_ids == mark).any()) for mark in marks if mark is not None)

    def _watched(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(plain)
        def get_image_features(*args: Any, **kwargs: Any) -> Any:
            call = inspect.signature(plain).bind_partial(*args, **kwargs).arguments

            def asked(name: str) -> Any:
                return getattr(self.base.config, name) if call.get(name) is None else call[name]

            watch = ClipWatch(self.tower, asked("vision_feature_layer")) if self.tower is not None else None
            with watch or nullcontext():
                output = plain(*args, **kwargs)
            features = getattr(output, "pooler_output", None)
            self.images = Images(tuple(features)) if isinstance(features, list | tuple) else None
            if self.images is not None and watch is not None:
                row, keys = watch.rows_and_keys()
                first = 1 if asked("vision_feature_select_strategy") == "default" else 0  # else CLS is a visual token too
                self.images.scores = self.family.scores(self.base, row[:, first:], call)
                self.images.keys = self.family.keys(self.base, keys[:, first:], call)
            return output

        return get_image_features


def _holds(value: Any) -> bool:
    """Whether an argument brings anything: generate hands on an empty mapping where it has encoded nothing."""
    return any(map(_holds, value.values())) if isinstance(value, dict) else value is not None


def _indices(packed: Sequence[Tensor], features: Sequence[Tensor]) -> list[int] | None:
    """Which of the ``features`` each of ``packed`` is: generate repeats an image's for beams. None if one is not among them."""
    known = {id(one): index for index, one in enumerate(features)}
    order = [known.get(id(one), -1) for one in packed]
    return None if -1 in order else order


def _rows(counts: Sequence[int], lengths: Sequence[int]) -> list[range]:
    """Images of each prompt, given its visual tokens and every image's: images fill the marks in order.

    Raises:
        SennaPruneError: if an image's tokens do not end where a prompt's do.
    """
    ends = [0, *accumulate(lengths)]
    edges = [0, *accumulate(counts)]
    if edges[-1] != ends[-1] or not set(edges) <= set(ends):
        raise SennaPruneError(f"prompts of {list(counts)} image tokens do not match images of {list(lengths)}, in order; use the processor")
    at = {end: image for image, end in enumerate(ends)}
    return [range(at[start], at[stop]) for start, stop in zip(edges[:-1], edges[1:], strict=True)]


def _per_prompt(values: Sequence[Tensor] | None, owners: Sequence[Sequence[int]]) -> list[Tensor] | None:
    """Values of each image -> of each prompt, whose images ``owners`` names."""
    if values is None:
        return None
    return [torch.cat([values[image] for image in images]) if images else values[0][:0] for images in owners]
