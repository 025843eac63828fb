"""Camera images to pixel values, exactly as the original fed them (spec/senna.md item 7).

RGB, centred square padding in the mean colour, PIL bicubic to the tower's size in uint8, CLIP normalisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import BatchFeature
from transformers.image_processing_utils import BaseImageProcessor
from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.image_files import ImageLike, open_image


def pad_to_square(image: Image.Image, colour: tuple[int, int, int]) -> Image.Image:
    """``image`` in the centre of a square of its longer side; the odd pixel goes to the far side."""
    width, height = image.size
    if width == height:
        return image
    side = max(width, height)
    square = Image.new("RGB", (side, side), colour)
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square


def content_patches(width: int, height: int, grid: int) -> np.ndarray:
    """Which patches of the padded, resized square hold image content, (grid, grid) bool, rows first.

    A patch is padding when it lies wholly in the square padding of a ``width`` x ``height`` image.
    """

    def covered(length: int, side: int) -> np.ndarray:
        start = (side - length) // 2
        edges = np.arange(grid + 1) * side  # patch edges, in units of 1 / grid of a pixel
        return (edges[1:] > start * grid) & (edges[:-1] < (start + length) * grid)

    side = max(width, height)
    return np.outer(covered(height, side), covered(width, side))


class SennaImageProcessor(BaseImageProcessor):
    """Images of V views to ``pixel_values`` (V, 3, H, W) and ``patch_mask`` (V, P).

    Args:
        image_size: side of the square fed to the tower (336).
        patch_size: side of a patch (14); only ``patch_mask`` depends on it.
        image_mean, image_std: per channel, of values in 0..1.
    """

    model_input_names = ["pixel_values", "patch_mask"]  # noqa: RUF012 (the library's own declaration)

    def __init__(
        self,
        image_size: int = 336,
        patch_size: int = 14,
        image_mean: Sequence[float] = OPENAI_CLIP_MEAN,
        image_std: Sequence[float] = OPENAI_CLIP_STD,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.image_size = image_size
        self.patch_size = patch_size
        self.image_mean = list(image_mean)
        self.image_std = list(image_std)

    @property
    def padding_colour(self) -> tuple[int, int, int]:
        """(122, 116, 104) for CLIP's mean: truncated, as the original does."""
        red, green, blue = (int(255 * value) for value in self.image_mean)
        return red, green, blue

    def _levels(self) -> np.ndarray:
        """Normalised value of each of the 256 levels, (3, 256) float32."""
        levels = (np.arange(256) * (1 / 255)).astype(np.float32)
        mean = np.asarray(self.image_mean, dtype=np.float32)
        std = np.asarray(self.image_std, dtype=np.float32)
        return (levels - mean[:, None]) / std[:, None]

    def preprocess(self, images: ImageLike | Sequence[ImageLike], **kwargs: Any) -> BatchFeature:
        """Read, pad, resize and normalise one scene's views.

        Raises:
            SennaPruneError: there are no images, or one cannot be read (naming its file).
        """
        views = [images] if isinstance(images, (str, PathLike, Image.Image)) else list(images)
        if not views:
            raise SennaPruneError("zero views: give at least one image")
        levels = self._levels()
        grid = self.image_size // self.patch_size
        pixels, masks = [], []
        for view in views:
            image = open_image(view)
            masks.append(content_patches(image.width, image.height, grid).ravel())
            square = pad_to_square(image, self.padding_colour)
            size = (self.image_size, self.image_size)
            if square.size != size:
                square = square.resize(size, Image.Resampling.BICUBIC)
            channels = np.asarray(square).transpose(2, 0, 1)  # (3, H, W) uint8
            pixels.append(np.take_along_axis(levels[:, :, None], channels.reshape(3, -1, 1), axis=1).reshape(channels.shape))
        data = {
            "pixel_values": torch.from_numpy(np.stack(pixels)),  # (V, 3, H, W)
            "patch_mask": torch.from_numpy(np.stack(masks)),  # (V, P)
        }
        return BatchFeature(data)
