"""What moves and stands in a scene, the ego's speed profile, and the IDM that the other vehicles follow."""

from dataclasses import dataclass, field

import numpy as np

from demo_world.path import Path

KEYFRAMES = 40  # 2 Hz over 20 s
KEYFRAME_S = 0.5
STEP_S = 0.05
STEPS = int(26.0 / STEP_S)  # the simulation runs on past the last keyframe, so that nothing stops dead at its end
PER_KEYFRAME = int(KEYFRAME_S / STEP_S)
EGO_FRONT = 3.8  # front bumper ahead of the ego origin (rear axle), metres

# length, width, height in metres
SIZES = {
    "car": (4.5, 1.85, 1.5),
    "van": (5.2, 2.0, 2.1),
    "lorry": (8.5, 2.5, 3.4),
    "motorcycle": (2.1, 0.8, 1.6),
    "bicycle": (1.8, 0.6, 1.7),
    "pedestrian": (0.6, 0.65, 1.78),
}


@dataclass
class Body:
    """One instance: a kind, a track of (KEYFRAMES, 3) world x, y, yaw, and what its lamps show at each keyframe.

    Centre of the box, not the rear axle. ``lamp``: for vehicles, brake lights on (1) or off (0); for signals 0 green, 1 amber, 2 red.
    """

    kind: str
    track: np.ndarray
    lamp: np.ndarray = field(default_factory=lambda: np.zeros(KEYFRAMES, dtype=np.int64))
    paint: tuple[int, int, int] = (128, 128, 128)
    size: tuple[float, float, float] | None = None
    role: str = ""
    clothes: tuple[int, int, int] = (60, 60, 60)

    @property
    def box(self) -> tuple[float, float, float]:
        return self.size or SIZES[self.kind]


@dataclass
class Question:
    """A keyframe worth asking about: what the driver decides there, and why (for tests and for the auxiliary questions)."""

    keyframe: int
    family: str
    manoeuvre: str  # keep, accelerate, decelerate, stop, left_change, right_change
    cause: str


@dataclass
class Scene:
    """A simulated scene, in road coordinates (world of the simulation, metres, radians)."""

    name: str
    seed: int
    kind: str
    night: bool
    rain: bool
    location: str
    path: Path
    ego: np.ndarray  # (STEPS, 4) x, y, yaw, speed of the rear axle every STEP_S
    bodies: list[Body]
    questions: list[Question]
    road: dict
    description: str = ""

    @property
    def ego_keyframes(self) -> np.ndarray:
        """(KEYFRAMES, 4)"""
        return self.ego[: KEYFRAMES * PER_KEYFRAME : PER_KEYFRAME]


class Profile:
    """The ego's speed over time, made of manoeuvres; a manoeuvre begun at a keyframe starts to act after a short reaction."""

    def __init__(self, speed: float) -> None:
        self.speed = np.full(STEPS, speed)

    def change(self, time_s: float, target: float, acceleration: float, reaction_s: float = 0.25) -> float:
        """From ``time_s`` on go to ``target`` m/s; returns the time when it is reached."""
        start = round((time_s + reaction_s) / STEP_S)
        before = self.speed[min(start, STEPS - 1)]
        needed = abs(target - before) / acceleration
        ramp = before + np.sign(target - before) * acceleration * STEP_S * np.arange(STEPS - start)
        low, high = min(before, target), max(before, target)
        self.speed[start:] = np.clip(ramp, low, high)
        return time_s + reaction_s + needed

    def distance(self) -> np.ndarray:
        """(STEPS,) metres driven."""
        return np.concatenate([[0.0], np.cumsum((self.speed[1:] + self.speed[:-1]) / 2 * STEP_S)])


def quintic(progress: np.ndarray) -> np.ndarray:
    """Smooth 0 -> 1 with zero speed and acceleration at both ends; ``progress`` is clipped to 0..1."""
    p = np.clip(progress, 0.0, 1.0)
    return p**3 * (10 - 15 * p + 6 * p * p)


def idm(speed: float, desired: float, gap: float, closing: float, headway_s: float = 1.2) -> float:
    """Intelligent Driver Model (Treiber 2000): acceleration in m/s2 for a free ``gap`` in metres and a ``closing`` speed in m/s."""
    a_max, comfort, standstill = 1.8, 2.5, 3.0
    wish = standstill + max(0.0, speed * headway_s + speed * closing / (2 * np.sqrt(a_max * comfort)))
    return max(-7.0, a_max * (1 - (speed / max(desired, 0.1)) ** 4 - (wish / max(gap, 0.5)) ** 2))


def follow(start: float, desired: float, leader: np.ndarray | None, length: float = 4.5, speed: float | None = None) -> np.ndarray:
    """(STEPS,) places s of a vehicle that follows ``leader``'s places (STEPS,) with the IDM; free driving when there is none."""
    place, v = start, desired if speed is None else speed
    track = np.empty(STEPS)
    for i in range(STEPS):
        track[i] = place
        gap, closing = 1e3, 0.0
        if leader is not None:
            gap = leader[i] - place - length
            closing = v - (leader[min(i + 1, STEPS - 1)] - leader[max(i - 1, 0)]) / (2 * STEP_S)
        v = max(0.0, v + idm(v, desired, gap, closing) * STEP_S)
        place += v * STEP_S
    return track


def keyframes(series: np.ndarray) -> np.ndarray:
    """Every keyframe's row of a (STEPS, …) series."""
    return series[: KEYFRAMES * PER_KEYFRAME : PER_KEYFRAME]
