"""What a question showed, small: its views in one JPEG, placed as round the car."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.image_files import open_image
from senna_autoprune.nuscenes.view_order import TWO_ROWS
from senna_autoprune.replay.pages import jpeg_uri

TILE = (208, 117)  # pixels of a view
GAP = 3
ACROSS = 3  # views in a row
QUALITY = 78


def thumbnail(images: Sequence[Path], views: Sequence[str]) -> tuple[str, tuple[int, int]] | None:
    """The views as one picture: its data URI and its size (width, height); None if a file is missing or broken.

    Args:
        images: files in the order in which they were fed.
        views: what each shows (``replay.sources.views_of``); all six known, they are placed as round the car.
    """
    names = [name for row in TWO_ROWS for name in row]
    paths = list(images)
    if sorted(views) == sorted(names):
        place = dict(zip(views, images, strict=True))
        paths = [place[name] for name in names]
    across = min(ACROSS, len(paths))
    down = -(-len(paths) // ACROSS)
    size = (across * (TILE[0] + GAP) - GAP, down * (TILE[1] + GAP) - GAP)
    picture = Image.new("RGB", size, (0, 0, 0))
    try:
        for index, path in enumerate(paths):
            tile = ImageOps.fit(open_image(path), TILE, Image.Resampling.LANCZOS)
            picture.paste(tile, (index % ACROSS * (TILE[0] + GAP), index // ACROSS * (TILE[1] + GAP)))
    except SennaPruneError:
        return None
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return jpeg_uri(file.getvalue()), size
