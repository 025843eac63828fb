"""Where a visual token of a stock model is in its image: a patch, or a merged square of patches, seen through the processor's resize,
crop and tiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.pruning.trace import PromptTrace


def token_boxes(model: Any, image_processor: Any, image_sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    """The part of the original image that each visual token was made of.

    Args:
        model: of LLaVA, LLaVA-NeXT, LLaVA-OneVision, Qwen2.5-VL, Qwen3-VL or InternVL (transformers' ``*ForConditionalGeneration``).
        image_processor: the one that made the model's pixels.
        image_sizes: (width, height) of each original image of the prompt: LLaVA-OneVision shows one alone in tiles, several without.

    Returns:
        per image (V, 4): left, top, right, bottom as shares of width and height. Beyond 0..1 lies padding; a newline token's box is empty.

    Raises:
        SennaPruneError: for any other model.
    """
    rule = _RULES.get(model.config.model_type)
    if rule is None:
        raise SennaPruneError(f"{type(model).__name__}: only of {', '.join(_RULES)} is it known where a visual token is in its image")
    if len(image_sizes) > 1 and rule is _llava_onevision:
        rule = _llava_onevision_whole
    return [rule(model.base_model, image_processor, width, height) for width, height in image_sizes]


def heat_over_image(trace: PromptTrace, boxes: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
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
    from senna_autoprune.pruning.multimodal.llava_next import pack

    every = _tiles_of_anyres(base, width, height)
    return pack(base, every, every.new_zeros(4), [[height, width]])[0].numpy()


def _tiles_of_anyres(base: Any, width: int, height: int) -> torch.Tensor:
    """(1 + tiles, P, 4) boxes of the patches of the whole image and of each tile; padding lies beyond 0..1."""
    from transformers.models.llava_next.modeling_llava_next import get_anyres_image_grid_shape

    vision, pinpoints = base.config.vision_config, base.config.image_grid_pinpoints
    side, cells = vision.image_size, vision.image_size // vision.patch_size
    down, across = get_anyres_image_grid_shape([height, width], pinpoints, side)
    scale = min(across * side / width, down * side / height)
    shown_width, shown_height = min(math.ceil(width * scale), across * side), min(math.ceil(height * scale), down * side)
    left, top = (across * side - shown_width) // 2, (down * side - shown_height) // 2
    canvas = _grid(down * cells, across * cells) * (across * side, down * side, across * side, down * side) - (left, top, left, top)
    canvas = (canvas / (shown_width, shown_height, shown_width, shown_height)).reshape(down, cells, across, cells, 4)
    tiles = canvas.transpose(0, 2, 1, 3, 4).reshape(down * across, cells * cells, 4)
    return torch.from_numpy(np.concatenate([_grid(cells, cells)[None], tiles]))


def _llava_onevision(base: Any, processor: Any, width: int, height: int) -> np.ndarray:
    """As LLaVA-NeXT, but squeezed into its budget where it has more tiles: boxes then are those of the squeezed tokens' middles."""
    every = _tiles_of_anyres(base, width, height)
    packed, _ = base.pack_image_features(
        [every], [[height, width]], image_newline=every.new_zeros(4), vision_aspect_ratio=base.config.vision_aspect_ratio
    )
    return packed[0].numpy()


def _llava_onevision_whole(base: Any, processor: Any, width: int, height: int) -> np.ndarray:
    """One of several images: squeezed into a square, with a newline token behind it."""
    cells = base.config.vision_config.image_size // base.config.vision_config.patch_size
    return np.concatenate([_grid(cells, cells), np.zeros((1, 4))])


def _internvl(base: Any, processor: Any, width: int, height: int) -> np.ndarray:
    """The image squeezed into a grid of tiles, row by row, and then, if there are several, into one more; tokens are squares of patches,
    in the order of the model's own pixel shuffle.
    """
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas

    side = processor.size["height"], processor.size["width"]
    across, down = get_optimal_tiled_canvas((height, width), side, processor.min_patches, processor.max_patches)
    vision, ratio = base.config.vision_config, base.config.downsample_ratio
    rows, columns = (full // patch for full, patch in zip(vision.image_size, vision.patch_size, strict=True))
    patches = torch.from_numpy(_grid(rows, columns)).reshape(1, rows, columns, 4)
    parts = base.pixel_shuffle(patches, scale_factor=ratio).reshape(-1, round(1 / ratio**2), 4).numpy()  # (T, patches, 4)
    one = np.concatenate([parts[..., :2].min(1), parts[..., 2:].max(1)], axis=-1)  # (T, 4) of a tile
    corners = [(column, row) for row in range(down) for column in range(across)]
    tiles = [(one + np.array([column, row] * 2)) / np.array([across, down] * 2) for column, row in corners]
    return np.concatenate([*tiles, *([one] if len(tiles) > 1 else [])])


def _qwen(base: Any, processor: Any, width: int, height: int) -> np.ndarray:
    """The image resized to whole tokens, each of ``merge_size`` x ``merge_size`` patches."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    unit = processor.patch_size * processor.merge_size
    limits = dict(processor.size)
    rows, columns = smart_resize(height, width, unit, limits["shortest_edge"], limits["longest_edge"])
    return _grid(rows // unit, columns // unit)


_RULES: dict[str, Callable[[Any, Any, int, int], np.ndarray]] = {
    "llava": _llava,
    "llava_next": _llava_next,
    "qwen2_5_vl": _qwen,
    "qwen3_vl": _qwen,
    "llava_onevision": _llava_onevision,
    "internvl": _internvl,
}
