"""Where a visual token of a LLaVA-like model is in its image: a token is a patch there, seen through the processor's resize and crop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.trace import SampleTrace


def token_boxes(model: Any, image_processor: Any, image_sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """The part of the original image that each visual token was made of.

    Args:
        model: ``LlavaForConditionalGeneration``, ``LlavaNextForConditionalGeneration`` or ``Qwen2_5_VLForConditionalGeneration``.
        image_processor: the one that made the model's pixels.
        image_sizes: (width, height) of each original image.

    Returns:
        per image (V, 4): left, top, right, bottom as shares of width and height. Beyond 0..1 lies padding; a newline token's box is empty.

    Raises:
        SennaPruneError: for any other model.
    """
    rule = _RULES.get(model.config.model_type)
    if rule is None:
        raise SennaPruneError(f"{type(model).__name__}: only of {', '.join(_RULES)} is it known where a visual token is in its image")
    return [rule(model.base_model, image_processor, width, height) for width, height in image_sizes]


def heat_over_image(trace: SampleTrace, boxes: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """In which share of the decoder's layers each place of each image was still looked at.

    Args:
        boxes: of :func:`token_boxes`, for the images of this prompt.
        sizes: (w, h) of each picture to make.

    Returns:
        per image (h, w) float64. Where several tokens saw a place (LLaVA-NeXT's two scales) their shares add up; where none did it is 0.
        Merged tokens are not counted: a mixture of dropped tokens has no one place.

    Raises:
        SennaPruneError: if the trace is of other images.
    """
    if tuple(len(one) for one in boxes) != tuple(trace.view_sizes):
        raise SennaPruneError(
            f"boxes of {[len(one) for one in boxes]} tokens do not belong to a prompt of images of {list(trace.view_sizes)}"
        )
    share = np.zeros(trace.visual_tokens)
    for kept in trace.kept:
        share[kept.numpy()] += 1 / len(trace.kept)
    pictures, start = [], 0
    for image, (width, height) in zip(boxes, sizes, strict=True):
        picture = np.zeros((height, width))
        edges = (image * (width, height, width, height)).round().astype(int).clip(0, (width, height, width, height))
        for (left, top, right, bottom), value in zip(edges, share[start : start + len(image)], strict=True):
            picture[top:bottom, left:right] += value
        pictures.append(picture)
        start += len(image)
    return pictures


def _grid(rows: int, columns: int) -> np.ndarray:
    """(rows columns, 4) boxes of a grid over the unit square, row by row."""
    row, column = (part.ravel() for part in np.mgrid[:rows, :columns])
    return np.stack([column / columns, row / rows, (column + 1) / columns, (row + 1) / rows], axis=-1)


def _llava(base: Any, processor: Any, width: int, height: int) -> np.ndarray:
    """CLIP's rule: the shorter side resized, the centre cropped; or, before that, padded to a square."""
    side = base.config.vision_config.image_size
    if getattr(processor, "do_pad", False):
        whole = max(width, height)
        left, top, shown_width, shown_height = -((whole - width) // 2), -((whole - height) // 2), whole, whole
        original = (width, height)
    else:
        size = dict(processor.size)
        short = size.get("shortest_edge")
        if short:
            resized = (short, int(short * height / width)) if width <= height else (int(short * width / height), short)
        else:
            resized = (size["width"], size["height"])
        crop = (processor.crop_size["width"], processor.crop_size["height"]) if processor.do_center_crop else resized
        left, top = ((full - cut) // 2 for full, cut in zip(resized, crop, strict=True))
        (shown_width, shown_height), original = crop, resized
    cells = side // base.config.vision_config.patch_size
    boxes = _grid(cells, cells) * (shown_width, shown_height, shown_width, shown_height) + (left, top, left, top)
    return boxes / (*original, *original)


def _llava_next(base: Any, processor: Any, width: int, height: int) -> np.ndarray:
    """The whole image squeezed into a tile, then the image fitted into the best grid of tiles; newlines are nowhere."""
    from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape

    from senna_autoprune.pruning.multimodal.llava_next import pack

    vision, pinpoints = base.config.vision_config, base.config.image_grid_pinpoints
    side, cells = vision.image_size, vision.image_size // vision.patch_size
    down, across = get_anyres_image_grid_shape([height, width], pinpoints, side)
    scale = min(across * side / width, down * side / height)
    shown_width, shown_height = min(math.ceil(width * scale), across * side), min(math.ceil(height * scale), down * side)
    left, top = (across * side - shown_width) // 2, (down * side - shown_height) // 2
    canvas = _grid(down * cells, across * cells) * (across * side, down * side, across * side, down * side) - (left, top, left, top)
    canvas = (canvas / (shown_width, shown_height, shown_width, shown_height)).reshape(down, cells, across, cells, 4)
    tiles = canvas.transpose(0, 2, 1, 3, 4).reshape(down * across, cells * cells, 4)
    every = torch.from_numpy(np.concatenate([_grid(cells, cells)[None], tiles]))  # (T, P, 4)
    return pack(base, every, every.new_zeros(4), [[height, width]])[0].numpy()


def _qwen(base: Any, processor: Any, width: int, height: int) -> np.ndarray:
    """The image resized to whole tokens, each of ``merge_size`` x ``merge_size`` patches."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    unit = processor.patch_size * processor.merge_size
    limits = dict(processor.size)
    rows, columns = smart_resize(height, width, unit, limits["shortest_edge"], limits["longest_edge"])
    return _grid(rows // unit, columns // unit)


_RULES: dict[str, Callable[[Any, Any, int, int], np.ndarray]] = {"llava": _llava, "llava_next": _llava_next, "qwen2_5_vl": _qwen}
