"""From patches back to the image: the square padding and the resize of the processor undone, and heat as a picture."""

from __future__ import annotations

import io
import math
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

HEAT_SIZE = (320, 180)  # pixels of an overlay, of a 1600 x 900 image
_STOPS = np.array([[68, 1, 84], [187, 55, 84], [249, 142, 9], [252, 255, 164]], dtype=float)  # dark violet to yellow


class Crop(NamedTuple):
    """The part of the patch grid that is image, in patches (not whole ones): left, top, width, height."""

    left: float
    top: float
    width: float
    height: float


def image_crop(width: int, height: int, grid: int) -> Crop:
    """Where a ``width`` x ``height`` image lies in the grid of its padded square (``senna.images.pad_to_square``)."""
    side = max(width, height)
    scale = grid / side
    return Crop((side - width) // 2 * scale, (side - height) // 2 * scale, width * scale, height * scale)


def over_image(heat: np.ndarray, image_size: tuple[int, int], size: tuple[int, int], place: Any = None) -> np.ndarray:
    """Heat of a view's patches as a picture that covers its original image, (h, w) of the heat's dtype.

    Every pixel shows the patch it was fed to the vision tower in; nothing is smoothed. What was cropped away is 0.

    Args:
        heat: (P,) row by row over the padded square, or over the cells of ``place``.
        image_size: (width, height) of the original image.
        size: (w, h) of the picture.
        place: ``places.Place`` of another family's view; None: Senna's padded square.
    """
    if place is not None:
        across, down, crop = place
        heat = heat[: across * down]
    else:
        across = down = math.isqrt(len(heat))
        crop = image_crop(*image_size, across)
    columns = np.floor(crop.left + (np.arange(size[0]) + 0.5) / size[0] * crop.width).astype(int)
    rows = np.floor(crop.top + (np.arange(size[1]) + 0.5) / size[1] * crop.height).astype(int)
    found = heat.reshape(down, across)[np.ix_(rows.clip(0, down - 1), columns.clip(0, across - 1))]
    if place is None:
        return found
    inside = ((rows >= 0) & (rows < down))[:, None] & ((columns >= 0) & (columns < across))[None]
    return np.where(inside, found, 0).astype(heat.dtype)


def spread(heat: np.ndarray, content: np.ndarray) -> np.ndarray:
    """Each view's heat (..., P) from its weakest content patch (0) to its strongest (1); padding and no heat are 0.

    Mixtures look everywhere a little: what tells patches apart is the difference. ``extremes`` says how large it is.

    Args:
        content: (..., P) bool, False where a patch is padding.
    """
    low = np.where(content, heat, np.inf).min(-1, keepdims=True)
    high = np.where(content, heat, -np.inf).max(-1, keepdims=True)
    shown = np.where(content, heat, low) - low
    level = np.divide(shown, high - low, out=(content & (heat > 0)).astype(heat.dtype), where=high > low)
    return np.where(content, level, 0)


def extremes(heat: np.ndarray, content: np.ndarray) -> np.ndarray:
    """Each view's weakest and strongest content patch as multiples of an even share, (..., 2); 0 without heat."""
    low = np.where(content, heat, np.inf).min(-1)
    high = np.where(content, heat, 0).max(-1)
    mean = np.where(content, heat, 0).sum(-1) / np.maximum(content.sum(-1), 1)
    both = np.stack([np.where(np.isfinite(low), low, 0), high], axis=-1)
    return np.divide(both, mean[..., None], out=np.zeros_like(both), where=mean[..., None] > 0)


def palette() -> np.ndarray:
    """Colour and opacity of heat 0..255, (256, 4) uint8 RGBA: cold is transparent, so that the image stays visible."""
    level = np.linspace(0.0, 1.0, 256)
    where = np.linspace(0.0, 1.0, len(_STOPS))
    colours = np.stack([np.interp(level, where, _STOPS[:, channel]) for channel in range(3)], axis=1)
    return np.concatenate([colours, 255 * 0.8 * level[:, None]], axis=1).round().astype(np.uint8)


def heat_png(levels: np.ndarray, image_size: tuple[int, int], size: tuple[int, int] = HEAT_SIZE, place: Any = None) -> bytes:
    """A transparent PNG of one view's levels (P,) of 0..1 (see ``spread``), to be laid over its image."""
    levels = (over_image(levels, image_size, size, place) * 255).round().astype(np.uint8)
    colours = palette()
    picture = Image.fromarray(levels).convert("P")
    picture.putpalette(colours[:, :3].tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True, transparency=colours[:, 3].tobytes())
    return file.getvalue()
