"""What is to be seen of each body in a keyframe's pictures, by the renderer's part numbers."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from demo_world.cameras import CAMERAS, HEIGHT, WIDTH
from demo_world.render import Views
from senna_autoprune.nuscenes.strings import strings

VIEW_OF = {entry["channel"]: view for view, entry in strings()["views"].items()}
GRID_ROWS, GRID_COLUMNS = 8, 16  # whole patch rows of a 16:9 picture padded to a square of 16 x 16 patches


def body_pixels(views: Views, bodies: int) -> dict[str, dict[int, int]]:
    """view -> body -> pixels, for the first ``bodies`` bodies (the rest are rails)."""
    assert views.parts is not None
    seen: dict[str, dict[int, int]] = {}
    for camera, parts in zip(CAMERAS, views.parts, strict=True):
        counts = np.bincount(parts.ravel(), minlength=len(views.part_body))[: len(views.part_body)]
        of_body: dict[int, int] = {}
        for part, body in enumerate(views.part_body):
            if 0 <= body < bodies and counts[part]:
                of_body[int(body)] = of_body.get(int(body), 0) + int(counts[part])
        seen[VIEW_OF[camera.channel]] = of_body
    return seen


def patch_pixels(views: Views, bodies: Collection[int]) -> dict[str, np.ndarray]:
    """view -> (128,) pixels of these bodies in each of the 8 x 16 whole patches, in reading order."""
    assert views.parts is not None
    side = WIDTH // GRID_COLUMNS
    top = (HEIGHT - GRID_ROWS * side) // 2
    wanted = np.isin(views.part_body, list(bodies))
    found = {}
    for camera, parts in zip(CAMERAS, views.parts, strict=True):
        mine = wanted[parts[top : top + GRID_ROWS * side]]
        found[VIEW_OF[camera.channel]] = mine.reshape(GRID_ROWS, side, GRID_COLUMNS, side).sum((1, 3)).reshape(-1)
    return found
