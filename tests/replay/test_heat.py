"""Patches land where the processor took them from."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from senna_autoprune.replay.heat import LEAST_TOP, MOST_TOP, extremes, heat_png, image_crop, levels, multiples, over_image, scale_top
from senna_autoprune.senna.images import SennaImageProcessor, content_patches, pad_to_square

GRID = 4


@pytest.mark.parametrize(("width", "height"), [(1600, 900), (900, 1600), (64, 64), (99, 70), (1601, 3)])
def test_a_bright_spot_is_found_where_it_is(width: int, height: int) -> None:
    """The pixels that the processor turned into a patch are the pixels that the patch's heat covers."""
    processor = SennaImageProcessor(image_size=GRID * 8, patch_size=8)
    ramp = np.zeros((height, width, 3), np.uint8)
    ramp[..., 0] = np.linspace(0, 255, width).astype(np.uint8)
    ramp[..., 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    image = Image.fromarray(ramp)
    seen = processor.preprocess(image)
    mean = np.array(processor.image_mean)[:, None, None]
    std = np.array(processor.image_std)[:, None, None]
    pixels = seen["pixel_values"][0].numpy() * std + mean  # (3, 32, 32) of 0..1
    means = pixels.reshape(3, GRID, 8, GRID, 8).mean((2, 4)).reshape(3, -1)  # (3, P) a patch's mean colour
    inside = content_patches(width, height, GRID).ravel()
    for p in np.flatnonzero(inside):
        heat = np.zeros(GRID * GRID)
        heat[p] = 1
        area = over_image(heat, (width, height), (width, height)) > 0
        if area.sum() < 0.9 * (max(width, height) / GRID) ** 2:
            continue  # partly padding: its mean colour is mixed
        colour = ramp[area].mean(0) / 255
        np.testing.assert_allclose(means[:, p], colour, atol=0.03)


def test_every_pixel_shows_a_content_patch() -> None:
    for width, height in ((1600, 900), (900, 1600), (99, 70), (7, 7)):
        index = over_image(np.arange(576), (width, height), (width, height))
        assert content_patches(width, height, 24).ravel()[index].all()


def test_crop_of_a_camera_image() -> None:
    assert image_crop(1600, 900, 24) == pytest.approx((0, 350 * 24 / 1600, 24, 13.5))


@pytest.mark.parametrize(("width", "height"), [(4, 1), (1, 4), (101, 70), (70, 101), (5, 5)])
def test_the_crop_begins_at_the_pixel_where_the_padding_ends(width: int, height: int) -> None:
    """The odd pixel of padding goes to the far side: the crop is floored as the padding is, not halved."""
    side = max(width, height)
    white = pad_to_square(Image.new("L", (width, height), 255).convert("RGB"), (0, 0, 0))
    rows, columns = np.nonzero(np.asarray(white)[..., 0])
    crop = image_crop(width, height, grid=side)  # a patch is a pixel
    assert crop == pytest.approx((columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1))


def test_overlay_is_transparent_where_cold() -> None:
    heat = np.zeros(16)
    heat[5] = 1.0
    picture = np.asarray(Image.open(io.BytesIO(heat_png(heat, (64, 64), (64, 64)))).convert("RGBA"))
    assert picture.shape == (64, 64, 4)
    assert (picture[16:32, 16:32, 3] > 200).all() and picture[:16, :, 3].max() == 0
    assert len(heat_png(heat, (64, 64))) < 3000


CONTENT = np.array([[True, True, True, False]] * 3)
HEAT = np.array([[1.0, 3.0, 2.0, 0.0], [0.0, 0.0, 0.0, 0.0], [2.0, 2.0, 2.0, 0.0]])


def test_multiples_and_extremes() -> None:
    assert multiples(HEAT, CONTENT).tolist() == [[0.5, 1.5, 1, 0], [0, 0, 0, 0], [1, 1, 1, 0]]
    assert extremes(HEAT, CONTENT).tolist() == [[0.5, 1.5], [0, 0], [1, 1]]


def test_one_scale_for_all_views() -> None:
    """Noise around an even share stays dark beside a view that looks sharply at one place, and alone."""
    noise, sharp = np.linspace(0.76, 1.26, 200), np.array([0.1] * 190 + [18.0] * 10)
    top = scale_top([noise, sharp])
    assert top == MOST_TOP and levels(noise, top).max() < 0.09 and levels(sharp, top).max() == 1
    assert scale_top([noise, np.array([0.1] * 190 + [9.0] * 30)]) == 9
    assert scale_top([noise]) == scale_top([]) == LEAST_TOP
    assert levels(noise, LEAST_TOP).max() == pytest.approx(np.log(1.26) / np.log(4))  # stretched to its own range it was 1
    assert levels(np.array([0.0, 1.0, 2.0, 4.0, 99.0]), 4.0).tolist() == [0, 0, 0.5, 1, 1]
