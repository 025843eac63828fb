"""Shapes of the things on the road: quads and lamps in the body's own frame (x forward, y left, z up, origin on the ground)."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from demo_world.traffic import SIZES

# what a patch can show; the order is the priority with which a patch is labelled (later wins)
CLASSES = (
    "nothing",
    "road",
    "verge",
    "zebra",
    "rail",
    "car",
    "lorry",
    "post",
    "two-wheeler",
    "pedestrian",
    "brake light",
    "green light",
    "amber light",
    "red light",
    "indicator",
)
CLASS_ID = {name: i for i, name in enumerate(CLASSES)}
BRAKE_RED, TAIL_RED, HEAD_WHITE, AMBER = (40, 30, 255), (25, 20, 75), (235, 250, 255), (20, 170, 255)
LAMPS = {0: (90, 235, 40), 1: (20, 170, 255), 2: (30, 25, 255)}


@dataclass
class Mesh:
    """``quads`` (P, 4, 3) metres, outward ``normals`` (P, 3), ``colours`` (P, 3) BGR, ``lit`` (P,) whether shaded by daylight.

    ``lamps``: rows of (x, y, z, radius, normal x, b, g, r, class id); a lamp shines by itself and shows from its normal's side only.
    """

    quads: list = field(default_factory=list)
    normals: list = field(default_factory=list)
    colours: list = field(default_factory=list)
    lamps: list = field(default_factory=list)

    def box(self, centre: tuple, size: tuple, colour: tuple, skip_bottom: bool = True) -> None:
        """An axis-aligned box: five faces (nobody looks from below)."""
        (x, y, z), (a, b, c) = centre, (size[0] / 2, size[1] / 2, size[2] / 2)
        corner = {(i, j, k): (x + i * a, y + j * b, z + k * c) for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)}
        faces = (
            ((1, 0, 0), ((1, -1, -1), (1, 1, -1), (1, 1, 1), (1, -1, 1))),
            ((-1, 0, 0), ((-1, -1, -1), (-1, 1, -1), (-1, 1, 1), (-1, -1, 1))),
            ((0, 1, 0), ((-1, 1, -1), (1, 1, -1), (1, 1, 1), (-1, 1, 1))),
            ((0, -1, 0), ((-1, -1, -1), (1, -1, -1), (1, -1, 1), (-1, -1, 1))),
            ((0, 0, 1), ((-1, -1, 1), (1, -1, 1), (1, 1, 1), (-1, 1, 1))),
        )
        for normal, names in faces:
            self.quads.append([corner[n] for n in names])
            self.normals.append(normal)
            self.colours.append(colour)

    def plate(self, x: float, y: float, z: float, width: float, height: float, colour: tuple, facing: int) -> None:
        """An upright rectangle across the body, facing forward (+1) or back (-1)."""
        b, c = width / 2, height / 2
        self.quads.append([(x, y - b, z - c), (x, y + b, z - c), (x, y + b, z + c), (x, y - b, z + c)])
        self.normals.append((facing, 0, 0))
        self.colours.append(colour)

    def side_plate(self, x: float, y: float, z: float, length: float, height: float, colour: tuple) -> None:
        """An upright rectangle along the body, on its left (y > 0) or right side."""
        a, c = length / 2, height / 2
        self.quads.append([(x - a, y, z - c), (x + a, y, z - c), (x + a, y, z + c), (x - a, y, z + c)])
        self.normals.append((0, int(np.sign(y)), 0))
        self.colours.append(colour)

    def lamp(self, place: tuple, radius: float, facing: int, colour: tuple, name: str) -> None:
        self.lamps.append((*place, radius, facing, *colour, CLASS_ID[name]))

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        return (
            np.array(self.quads, dtype=np.float32).reshape(-1, 4, 3),
            np.array(self.normals, dtype=np.float32).reshape(-1, 3),
            np.array(self.colours, dtype=np.float32).reshape(-1, 3),
            np.array(self.lamps, dtype=np.float32).reshape(-1, 9),
        )


@lru_cache(maxsize=4096)
def mesh(kind: str, paint: tuple, clothes: tuple, lamp: int) -> tuple[tuple[np.ndarray, ...], int]:
    """Arrays of a body's shape (see :class:`Mesh`) and its class id."""
    m = Mesh()
    if kind in ("car", "van"):
        _car(m, kind, paint, lamp)
        return m.arrays(), CLASS_ID["car"]
    if kind == "lorry":
        _lorry(m, paint)
        return m.arrays(), CLASS_ID["lorry"]
    if kind in ("motorcycle", "bicycle"):
        _two_wheeler(m, paint)
        return m.arrays(), CLASS_ID["two-wheeler"]
    if kind == "pedestrian":
        m.box((0, 0.12, 0.42), (0.22, 0.2, 0.84), (50, 45, 40))
        m.box((0.1, -0.12, 0.42), (0.22, 0.2, 0.84), (50, 45, 40))
        m.box((0, 0, 1.17), (0.36, 0.6, 0.68), tuple(min(255, c + 40) for c in paint))
        m.box((0, 0, 1.65), (0.24, 0.22, 0.26), (140, 165, 205))
        return m.arrays(), CLASS_ID["pedestrian"]
    if kind == "signal":
        m.box((0, 0, 1.6), (0.14, 0.14, 3.2), (70, 75, 70))
        m.box((0, 0, 3.75), (0.4, 0.75, 1.75), (25, 28, 25))
        for state, z in ((2, 4.28), (1, 3.75), (0, 3.22)):
            on = state == lamp
            name = ("green light", "amber light", "red light")[state] if on else "post"
            m.lamp((-0.22, 0, z), 0.27 if on else 0.2, -1, LAMPS[state] if on else (40, 42, 40), name)
        return m.arrays(), CLASS_ID["post"]
    if kind == "rail":
        m.box((0, 0, 0.62), (20.0, 0.12, 0.34), (150, 155, 150))
        for x in (-8, -4, 0, 4, 8):
            m.box((x, 0, 0.25), (0.12, 0.14, 0.5), (110, 115, 110))
        return m.arrays(), CLASS_ID["rail"]
    raise KeyError(kind)


def _car(m: Mesh, kind: str, paint: tuple, lamp: int) -> None:
    length, width, _ = SIZES[kind]
    glass = (70, 60, 50)
    if kind == "car":
        m.box((0, 0, 0.58), (length, width, 0.66), paint)
        m.box((-0.25, 0, 1.17), (2.3, width * 0.86, 0.56), glass)
        m.box((-0.25, 0, 1.46), (1.9, width * 0.8, 0.05), paint)
    else:
        m.box((0, 0, 1.15), (length, width, 1.8), paint)
        m.plate(-length / 2 - 0.01, 0, 1.6, width * 0.8, 0.55, glass, -1)
        m.plate(length / 2 + 0.01, 0, 1.6, width * 0.85, 0.65, glass, 1)
        for side in (-1, 1):
            m.side_plate(0.9, side * (width / 2 + 0.01), 1.6, 2.2, 0.5, glass)
    for side in (-1, 1):
        for x in (-length * 0.3, length * 0.3):
            m.side_plate(x, side * (width / 2 + 0.02), 0.33, 0.62, 0.6, (25, 25, 25))
        y = side * (width / 2 - 0.27)
        m.plate(-length / 2 - 0.02, 0, 0.6, 0.5, 0.12, (200, 200, 200), -1)
        on = lamp == 1
        m.lamp((-length / 2 - 0.03, y, 0.82), 0.16 if on else 0.12, -1, BRAKE_RED if on else TAIL_RED, "brake light" if on else "car")
        m.lamp((length / 2 + 0.03, y, 0.66), 0.14, 1, HEAD_WHITE, "car")
    if lamp in (2, 3):  # indicates to its left or right, on both ends
        side = 1 if lamp == 2 else -1
        for x, facing in ((-length / 2 - 0.04, -1), (length / 2 + 0.04, 1)):
            m.lamp((x, side * (width / 2 - 0.2), 0.98), 0.24, facing, AMBER, "indicator")
    if lamp == 1:
        m.lamp((-length / 2 + (0.9 if kind == "car" else -0.03), 0, 1.42 if kind == "car" else 2.0), 0.1, -1, BRAKE_RED, "brake light")


def _lorry(m: Mesh, paint: tuple) -> None:
    length, width, _ = SIZES["lorry"]
    m.box((length / 2 - 1.0, 0, 1.45), (2.0, width * 0.94, 2.3), paint)
    m.plate(length / 2 + 0.01, 0, 1.9, width * 0.85, 0.8, (70, 60, 50), 1)
    m.box((-1.0, 0, 2.05), (length - 2.2, width, 2.7), (185, 195, 200))
    m.box((-1.0, 0, 0.55), (length - 2.4, width * 0.8, 0.35), (50, 50, 50))
    m.plate(-length / 2 - 0.02, 0, 2.1, 0.06, 2.5, (120, 125, 130), -1)
    m.plate(-length / 2 - 0.02, 0, 0.95, width, 0.22, (40, 140, 240), -1)
    for side in (-1, 1):
        for x in (-3.2, -2.2, 2.9):
            m.side_plate(x, side * (width / 2 + 0.02), 0.48, 0.9, 0.9, (25, 25, 25))
        m.lamp((-length / 2 - 0.03, side * 1.0, 0.72), 0.13, -1, TAIL_RED, "lorry")
        m.lamp((length / 2 + 0.03, side * 0.95, 0.75), 0.15, 1, HEAD_WHITE, "lorry")


def _two_wheeler(m: Mesh, paint: tuple) -> None:
    m.box((0.68, 0, 0.32), (0.64, 0.16, 0.64), (25, 25, 25))
    m.box((-0.68, 0, 0.32), (0.64, 0.16, 0.64), (25, 25, 25))
    m.box((0, 0, 0.68), (1.5, 0.34, 0.42), paint)
    m.box((-0.15, 0, 1.15), (0.4, 0.56, 0.66), (60, 50, 45))
    m.box((-0.1, 0, 1.58), (0.28, 0.28, 0.28), tuple(min(255, c + 60) for c in paint))
    m.lamp((0.85, 0, 0.85), 0.13, 1, HEAD_WHITE, "two-wheeler")
    m.lamp((-0.85, 0, 0.8), 0.1, -1, TAIL_RED, "two-wheeler")
