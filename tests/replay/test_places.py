"""Cells of a view's heat: an even grid is itself, anything else a raster whose cells ask which boxes hold their centre."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from senna_autoprune.replay.heat import over_image
from senna_autoprune.replay.places import place_of, stacked
from senna_autoprune.replay.token_boxes import token_boxes
from tests.adapters import tiny


def boxes_of(rows, columns, left=0.0, top=0.0, right=1.0, bottom=1.0):
    """By plain loops, row by row."""
    wide, high = (right - left) / columns, (bottom - top) / rows
    return np.array(
        [[left + c * wide, top + r * high, left + (c + 1) * wide, top + (r + 1) * high] for r in range(rows) for c in range(columns)]
    )


def painted(boxes, values, width, height):
    """The slow twin: every pixel adds up the boxes that hold its centre."""
    picture = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            for (left, top, right, bottom), value in zip(boxes, values, strict=True):
                if left <= (x + 0.5) / width < right and top <= (y + 0.5) / height < bottom:
                    picture[y, x] += value
    return picture


def test_an_even_grid_is_its_own_cells_whatever_was_cropped():
    for boxes in (boxes_of(3, 5), boxes_of(4, 4, left=0.25, right=0.75), boxes_of(2, 2, top=-0.5, bottom=1.5)):
        place, covers = place_of(boxes, 60, 40)
        assert torch.equal(covers, torch.eye(len(boxes)))
        values = np.arange(1.0, len(boxes) + 1)
        np.testing.assert_allclose(over_image(values, (60, 40), (60, 40), place), painted(boxes, values, 60, 40))


def test_two_scales_add_up_and_newlines_are_nowhere():
    boxes = np.concatenate([boxes_of(2, 2), boxes_of(3, 4), np.zeros((1, 4))])
    place, covers = place_of(boxes, 160, 80)
    assert (place.columns, place.rows) == (160, 80) and covers[-1].sum() == 0
    values = np.arange(1.0, len(boxes) + 1)
    heat = (torch.from_numpy(values).float() @ covers).numpy()
    np.testing.assert_allclose(over_image(heat, (160, 80), (160, 80), place), painted(boxes, values, 160, 80))


def test_internvl_tokens_are_where_its_tiles_and_its_shuffle_put_them():
    """Each token of a picture that says where it is, averaged over its patches as the model's own shuffle orders them."""
    model, processor = tiny._internvl(tiny.byte_tokenizer("internvl"))
    images, base = processor.image_processor, model.base_model
    width, height = 112, 56  # two tiles and the thumbnail
    (boxes,) = token_boxes(SimpleNamespace(config=model.config, base_model=base), images, [(width, height)])
    across = np.repeat(np.linspace(0, 1, 2 * tiny.TILE, endpoint=False)[None] + 0.5 / (2 * tiny.TILE), tiny.TILE, 0)  # the canvas
    down = np.repeat((np.arange(tiny.TILE)[:, None] + 0.5) / tiny.TILE, 2 * tiny.TILE, 1)
    canvas = np.stack([across, down], -1)
    tiles = [canvas[:, : tiny.TILE], canvas[:, tiny.TILE :], canvas[:, ::2]]
    cells = tiny.TILE // tiny.PATCH
    seen = []
    for tile in tiles:
        patches = tile.reshape(cells, tiny.PATCH, cells, tiny.PATCH, 2).mean((1, 3))  # (h, w, 2)
        shuffled = base.pixel_shuffle(torch.from_numpy(patches)[None].contiguous(), scale_factor=0.5)
        seen.append(shuffled.reshape(4, 4, 2).mean(1).numpy())
    assert len(boxes) == 12
    np.testing.assert_allclose((boxes[:, :2] + boxes[:, 2:]) / 2, np.concatenate(seen), atol=0.02)


def test_views_of_different_sizes_are_filled_up_with_nothing():
    found = stacked([torch.ones(2, 3), torch.ones(4, 1)])
    assert found.shape == (2, 4, 3) and found[0, :2].sum() == found.sum() - 4 == 6 and found[1, :, 0].sum() == 4
