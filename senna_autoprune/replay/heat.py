"""From patches back to the image: the square padding and the resize of the processor undone, and heat as a picture."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

LEAST_TOP, MOST_TOP = 4.0, 16.0  # of the scale, times an even share
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


def multiples(heat: np.ndarray, content: np.ndarray) -> np.ndarray:
    """Each patch's heat (..., P) as a multiple of an even share of its view's; 0 where there is no heat, and in padding.

    Args:
        content: (..., P) bool, False where a patch is padding.
    """
    inside = np.where(content, heat, 0)
    even = inside.sum(-1, keepdims=True) / np.maximum(content.sum(-1, keepdims=True), 1)
    return np.divide(inside, even, out=np.zeros_like(inside), where=even > 0)


def scale_top(found: Iterable[np.ndarray]) -> float:
    """The multiple that is shown as hottest, one for a whole replay: 95 of 100 warm patches lie below, but at least 4, so that views that
    look everywhere alike (x0.8 to x1.2) stay dark instead of being stretched to sharp attention, and at most 16: the last tokens of a
    view are hundreds of times an even share, and nothing else would be seen.
    """
    warm = [values[values > 1] for values in found]
    together = np.concatenate(warm) if warm else np.empty(0)
    return min(max(LEAST_TOP, round(float(np.quantile(together, 0.95)), 1)), MOST_TOP) if len(together) else LEAST_TOP


def levels(shares: np.ndarray, top: float) -> np.ndarray:
    """``multiples`` on the scale from an even share (0) to ``top`` (1), every doubling the same step; what is colder or hotter stays at
    its end.
    """
    return (np.log(np.maximum(shares, 1)) / np.log(top)).clip(0, 1)


def extremes(heat: np.ndarray, content: np.ndarray) -> np.ndarray:
    """Each view's weakest and strongest content patch as multiples of an even share, (..., 2); 0 without heat."""
    shares = multiples(heat, content)
    low = np.where(content, shares, np.inf).min(-1)
    return np.stack([np.where(np.isfinite(low), low, 0), shares.max(-1)], axis=-1)


def palette() -> np.ndarray:
    """Colour and opacity of heat 0..255, (256, 4) uint8 RGBA: cold is transparent, so that the image stays visible."""
    level = np.linspace(0.0, 1.0, 256)
    where = np.linspace(0.0, 1.0, len(_STOPS))
    colours = np.stack([np.interp(level, where, _STOPS[:, channel]) for channel in range(3)], axis=1)
    return np.concatenate([colours, 255 * 0.8 * level[:, None]], axis=1).round().astype(np.uint8)


def heat_png(shown: np.ndarray, image_size: tuple[int, int], size: tuple[int, int] = HEAT_SIZE, place: Any = None) -> bytes:
    """A transparent PNG of one view's ``levels`` (P,) of 0..1, to be laid over its image."""
    shades = (over_image(shown, image_size, size, place) * 255).round().astype(np.uint8)
    colours = palette()
    picture = Image.fromarray(shades).convert("P")
    picture.putpalette(colours[:, :3].tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True, transparency=colours[:, 3].tobytes())
    return file.getvalue()
