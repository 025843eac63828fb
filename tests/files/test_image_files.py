"""Images of 16 bits are scaled, not cut to white."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from senna_autoprune.files.image_files import open_image

RAMP = np.linspace(0, 65535, 64 * 36).astype(np.uint16).reshape(36, 64)


@pytest.mark.parametrize("name", ["ramp.png", "ramp.pgm"])
def test_sixteen_bits_are_scaled(tmp_path, name):
    if name.endswith("png"):
        Image.fromarray(RAMP).save(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(b"P5\n64 36\n65535\n" + RAMP.astype(">u2").tobytes())
    image = open_image(tmp_path / name)
    assert image.mode == "RGB"
    for channel in np.moveaxis(np.asarray(image), -1, 0):
        np.testing.assert_array_equal(channel, RAMP >> 8)


def test_eight_bits_stay_as_they_are():
    eight = (RAMP >> 8).astype(np.int32)
    np.testing.assert_array_equal(np.asarray(open_image(Image.fromarray(eight)))[..., 0], eight)
    np.testing.assert_array_equal(np.asarray(open_image(Image.fromarray(eight.astype(np.uint8))))[..., 0], eight)
