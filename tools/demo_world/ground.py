"""The ground as a picture from above: asphalt, marks, zebras, pavements, grass; one per scene."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from demo_world.fast_road import LANE_M as FAST_LANE
from demo_world.meshes import CLASS_ID
from demo_world.path import Path
from demo_world.urban import LEFT_KERB, RIGHT_KERB

RESOLUTION = 0.15  # metres a pixel
MARGIN = 45.0
ASPHALT, MARK, PAVEMENT, GRASS, KERB = (92, 90, 88), (225, 228, 228), (150, 152, 156), (62, 112, 84), (185, 185, 185)


@dataclass
class Ground:
    """``colour`` (H, W, 3), a four times coarser ``coarse`` for far rows, ``label`` (H, W) class ids, world place of pixel (0, 0)."""

    colour: np.ndarray
    coarse: np.ndarray
    label: np.ndarray
    origin: tuple[float, float]


@lru_cache(maxsize=1)
def _noise() -> np.ndarray:
    rng = np.random.default_rng(7)
    fine = rng.normal(0, 3, (1024, 1024)).astype(np.float32)
    broad = cv2.resize(rng.normal(0, 9, (64, 64)).astype(np.float32), (1024, 1024), interpolation=cv2.INTER_CUBIC)
    return np.repeat(np.clip(fine + broad, -30, 30).astype(np.int16)[..., None], 3, 2)


class _Canvas:
    def __init__(self, low: np.ndarray, high: np.ndarray) -> None:
        self.origin = (float(low[0]), float(low[1]))
        shape = tuple(int(v) for v in np.ceil((high - low) / RESOLUTION))[::-1]
        self.colour = np.full((*shape, 3), GRASS, dtype=np.uint8)
        self.label = np.full(shape, CLASS_ID["verge"], dtype=np.uint8)

    def fill(self, world: np.ndarray, colour: tuple, name: str | None) -> None:
        """A polygon given in world metres (n, 2)."""
        points = np.round((world - np.array(self.origin)) / RESOLUTION * 16).astype(np.int32)
        cv2.fillPoly(self.colour, [points], colour, shift=4)
        if name:
            cv2.fillPoly(self.label, [points], (CLASS_ID[name],), shift=4)


def _strip(path: Path, start: float, end: float, right: float, left: float) -> np.ndarray:
    """Polygon of a strip along the path between two offsets."""
    if path.side:
        s = np.unique(np.concatenate([[start, end], np.clip(path.lead_in + np.linspace(0, path.arc_length, 13), start, end)]))
    else:
        s = np.array([start, end])
    return np.concatenate([path.pose(s, right)[:, :2], path.pose(s[::-1], left)[:, :2]])


def _dashes(canvas: _Canvas, path: Path, start: float, end: float, offset: float, length: float, gap: float, width: float = 0.16) -> None:
    for s in np.arange(np.floor(start / (length + gap)) * (length + gap), end, length + gap):
        canvas.fill(_strip(path, s, s + length, offset - width / 2, offset + width / 2), MARK, None)


def draw(path: Path, road: dict) -> Ground:
    """The ground of a scene from its ``road`` description."""
    start, end = -60.0, road["length"] + 90.0
    reach = path.pose(np.linspace(start, end, 40))[:, :2]
    margin = np.array([20.0, 22.0 if road["kind"] == "fast" else MARGIN])
    canvas = _Canvas(reach.min(0) - margin, reach.max(0) + margin)
    if road["kind"] == "fast":
        half = 1.5 * FAST_LANE
        canvas.fill(_strip(path, start, end, -half - 0.5, half + 0.5), ASPHALT, "road")
        canvas.fill(_strip(path, start, end, half + 2.5, half + 16), ASPHALT, "road")
        for offset in (-half, half, half + 3.0):
            canvas.fill(_strip(path, start, end, offset - 0.11, offset + 0.11), MARK, None)
        for offset in (-half / 3, half / 3):
            _dashes(canvas, path, start, end, offset, 4.0, 6.0)
    else:
        _town(canvas, path, road, start, end)
    noise = _noise()
    shift = road["seed"] % 512
    height, width = canvas.colour.shape[:2]
    colour = canvas.colour
    for top in range(0, height, 1024 - shift):  # tiles of noise, in place
        for left in range(0, width, 1024):
            part = colour[top : top + 1024 - shift, left : left + 1024]
            part[:] = cv2.add(part, noise[shift : shift + part.shape[0], : part.shape[1]], dtype=cv2.CV_8U)
    coarse = cv2.resize(colour, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    return Ground(colour, coarse, canvas.label, canvas.origin)


def _town(canvas: _Canvas, path: Path, road: dict, start: float, end: float) -> None:
    canvas.fill(_strip(path, start, end, RIGHT_KERB - 5.0, LEFT_KERB + 5.0), PAVEMENT, "verge")
    if path.side:  # the street that goes straight on, and its other arm
        straight = Path()
        ahead = path.lead_in + path.radius
        canvas.fill(_strip(straight, start, ahead + 60, RIGHT_KERB - 5.0, LEFT_KERB + 5.0), PAVEMENT, "verge")
    for line in road["signals"]:
        canvas.fill(_strip(path, line + 1.0, line + 9.0, -45, 45), ASPHALT, "road")
    canvas.fill(_strip(path, start, end, RIGHT_KERB - 0.18, LEFT_KERB + 0.18), KERB, None)
    canvas.fill(_strip(path, start, end, RIGHT_KERB, LEFT_KERB), ASPHALT, "road")
    if path.side:
        canvas.fill(_strip(straight, start, ahead + 60, RIGHT_KERB, LEFT_KERB), ASPHALT, "road")
        corner = path.pose(np.array([path.lead_in, path.lead_in + path.arc_length / 2, path.lead_in + path.arc_length]))[:, :2]
        outer = np.array([corner[0], corner[1], corner[2], [corner[2][0] + 4, corner[2][1]], [corner[0][0], corner[0][1]]])
        canvas.fill(outer, ASPHALT, "road")
        x, sign = ahead, path.side  # the cross street runs through
        low, high = sorted((-sign * 45.0, sign * 4.0))
        canvas.fill(np.array([[x - 4, low], [x + 4, low], [x + 4, high], [x - 4, high]]), ASPHALT, "road")
    middle = (LEFT_KERB - (-RIGHT_KERB)) / 2
    if road["mark"] != 2:
        _dashes(canvas, path, start, end, middle + 0.1, 3.0, 3.0 if road["mark"] else 5.0, 0.14)
    for line in road["signals"]:
        canvas.fill(_strip(path, line + 1.0, line + 9.0, RIGHT_KERB, LEFT_KERB), ASPHALT, "road")
        canvas.fill(_strip(path, line, line + 0.45, RIGHT_KERB, 1.7), MARK, None)
    for near in road["crossings"]:
        canvas.fill(_strip(path, near, near + 3.0, RIGHT_KERB, LEFT_KERB), ASPHALT, "zebra")
        for offset in np.arange(RIGHT_KERB + 0.25, LEFT_KERB - 0.4, 1.05):
            canvas.fill(_strip(path, near, near + 3.0, offset, offset + 0.55), MARK, None)
