"""Where the cells of a view's heat lie on its image, and which cells each visual token was made of, for every family.

Senna's tokens are mixtures of the patches of a padded square (attribution.py). Of all other families a token is a patch, or a
merged square of patches, at a known box of its image (token_boxes.py): its cells are the ones whose centre lies in that box.
Where the boxes of a view are one even grid, the cells are that grid and the overlay is exact; where they overlap (LLaVA-NeXT's and
InternVL's two scales) the cells are a fine raster, and a place that several tokens saw counts each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from senna_autoprune.replay.heat import Crop

RASTER = 160  # cells along the longer side of an image whose boxes are no even grid


class Place(NamedTuple):
    """A view's cells, row by row, and the part of them that is image, in cells."""

    columns: int
    rows: int
    crop: Crop


def place_of(boxes: np.ndarray, width: int, height: int) -> tuple[Place, Tensor]:
    """Cells of one image, and which of them each token covers, (T, P) float32 of 0 and 1.

    Args:
        boxes: (T, 4) of ``token_boxes``: left, top, right, bottom as shares of the image; empty ones cover nothing.
        width, height: of the image in pixels.
    """
    even = _even_grid(boxes)
    if even is not None:
        return even, torch.eye(even.columns * even.rows)
    columns = max(1, round(RASTER * width / max(width, height)))
    rows = max(1, round(RASTER * height / max(width, height)))
    x, y = (np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows
    left, top, right, bottom = boxes.T[..., None]  # (T, 1) each
    across, down = (left <= x) & (x < right), (top <= y) & (y < bottom)  # (T, C), (T, R)
    covers = (down[:, :, None] & across[:, None, :]).reshape(len(boxes), -1)
    return Place(columns, rows, Crop(0.0, 0.0, columns, rows)), torch.from_numpy(covers).float()


def _even_grid(boxes: np.ndarray) -> Place | None:
    """The grid that the boxes are, row by row, with the image in cells of it; None if they are none."""
    columns = int(np.isclose(boxes[:, 1], boxes[0, 1]).sum())
    if columns == 0 or len(boxes) % columns:
        return None
    rows = len(boxes) // columns
    wide, high = boxes[0, 2] - boxes[0, 0], boxes[0, 3] - boxes[0, 1]
    if wide <= 0 or high <= 0:
        return None
    row, column = (part.ravel() for part in np.mgrid[:rows, :columns])
    corner = np.stack([boxes[0, 0] + column * wide, boxes[0, 1] + row * high], axis=-1)
    expected = np.concatenate([corner, corner + np.array([wide, high])], axis=-1)
    if not np.allclose(boxes, expected, atol=1e-9):
        return None
    return Place(columns, rows, Crop(float(-boxes[0, 0] / wide), float(-boxes[0, 1] / high), float(1 / wide), float(1 / high)))


def stacked(parts: Sequence[Tensor]) -> Tensor:
    """(T_v, P_v) of each view as (V, T, P), filled up with zeros."""
    tokens, cells = (max(part.shape[axis] for part in parts) for axis in (0, 1))
    return torch.stack([torch.nn.functional.pad(part, (0, cells - part.shape[1], 0, tokens - part.shape[0])) for part in parts])
