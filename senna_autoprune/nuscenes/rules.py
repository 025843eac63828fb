"""Pure label rules: speed and path of a track, sector of a position, navigation command.

Frame everywhere: LIDAR_TOP at the keyframe, x right, y forward, metres. Tracks are points 0.5 s apart. No devkit, no
torch. Source: hustvl/Senna at cddce26, ``data_tools/senna_qa_utils.py`` and the converter; thresholds, strict and
non-strict borders and dtypes as there (a float32 track is judged in float32). Names of behaviours are the original's;
``plan_label`` makes the words of an answer of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from senna_autoprune.nuscenes.strings import strings

STEP_S = 0.5  # keyframes come at 2 Hz; the original divides by this whatever the timestamps say
STOP_MPS = 2.0
SPEED_CHANGE_MPS = 3.0
LATERAL_M = 4.0
TURN_DEG = 5.0
NAVIGATION_FORWARD_M = 20.0
NAVIGATION_LATERAL_M = 10.0

Navigation = Literal["fixed", "reference", "none"]
NAVIGATION_COMMANDS = (
    "go straight",
    "turn left",
    "turn right",
    "go straight and turn left",
    "go straight and turn right",
)

# (view, from, to, in 0..360), degrees from the x axis: the first sector that holds the angle wins, neighbours overlap.
_SECTORS = (
    ("front", 55.0, 125.0, True),
    ("front left", 110.0, 180.0, True),
    ("back left", 165.0, 235.0, True),
    ("front right", 0.0, 70.0, True),
    ("back right", -55.0, 15.0, False),
    ("back", -145.0, -35.0, False),
)


def speed_behaviour(track: np.ndarray) -> str:
    """``stop``, ``accelerate``, ``decelerate`` or ``const`` from the speeds between successive points.

    ``stop`` if every speed is below 2 m/s; otherwise last minus first speed against +-3 m/s (both borders included).
    NaN speeds give ``const``, as in the original.

    Args:
        track: (T, 2) points 0.5 s apart, T >= 2; whether the origin is one is the caller's choice (the ego's is not).
    Raises:
        ValueError: fewer than two points (the original raises there, too).
    """
    if len(track) < 2:
        raise ValueError(f"a speed needs at least two points, the track has {len(track)}")
    speeds = np.linalg.norm(track[1:] - track[:-1], axis=-1) / STEP_S  # (T - 1,)
    if np.max(speeds) < STOP_MPS:
        return "stop"
    change = speeds[-1] - speeds[0]
    if change >= SPEED_CHANGE_MPS:
        return "accelerate"
    if change <= -SPEED_CHANGE_MPS:
        return "decelerate"
    return "const"


def path_behaviour(track: np.ndarray) -> str:
    """``right turn``, ``right lane change``, ``left turn``, ``left lane change`` or ``straight``, from the end alone.

    The end must lie more than 4 m to the right (strict) or at least 4 m to the left; 5 degrees off the forward axis
    part a turn from a lane change. The angle wraps behind the car: reversing to the left is ``straight``, to the right
    ``right turn``.

    Args:
        track: (T, 2), T >= 1.
    Raises:
        ValueError: no point at all (the original raises there, too).
    """
    if len(track) == 0:
        raise ValueError("a path needs at least one point, the track has none")
    x, y = track[-1, 0], track[-1, 1]
    off_forward = math.degrees(math.atan2(y, x)) - 90.0
    if x > LATERAL_M:
        if off_forward <= -TURN_DEG:
            return "right turn"
        if abs(off_forward) < TURN_DEG:
            return "right lane change"
    elif x <= -LATERAL_M:
        if off_forward >= TURN_DEG:
            return "left turn"
        if abs(off_forward) < TURN_DEG:
            return "left lane change"
    return "straight"


def plan_label(track: np.ndarray) -> tuple[str, str]:
    """(SPEED, PATH) words of a track (T, 2), e.g. ``("KEEP", "STRAIGHT")``. Raises ValueError as the two rules do."""
    return strings()["speeds"][speed_behaviour(track)], strings()["paths"][path_behaviour(track)]


def sector(position: Sequence[float] | np.ndarray) -> str:
    """The view in whose sector a position (x right, y forward) lies: ``front``, ``front left``, ...

    Every finite position has one.

    Raises:
        ValueError: a coordinate is NaN (the original raises there, too).
    """
    signed = math.degrees(math.atan2(position[1], position[0]))
    wrapped = signed if signed >= 0 else signed + 360
    for view, start, end, in_circle in _SECTORS:
        if start <= (wrapped if in_circle else signed) < end:
            return view
    raise ValueError(f"position ({position[0]}, {position[1]}) lies in no view's sector")


def navigation_command(target: Sequence[float] | np.ndarray, variant: Navigation = "fixed") -> str:
    """The navigation command for a target position (x right, y forward) six seconds ahead.

    The released rule takes x for forward and y for left, although the frame is x right, y forward: driving straight on
    for 10 m is "turn left". ``reference`` keeps that, ``fixed`` puts the same thresholds (forward >= 20, side >= 10) on
    the right axes, ``none`` says "go straight" to all.

    Raises:
        ValueError: an unknown variant.
    """
    if variant == "none":
        return "go straight"
    if variant == "reference":
        forward, left = target[0], target[1]
    elif variant == "fixed":
        forward, left = target[1], -target[0]
    else:
        raise ValueError(f"unknown navigation variant {variant!r}: use reference, fixed or none")
    far = "go straight and " if forward >= NAVIGATION_FORWARD_M else ""
    if left >= NAVIGATION_LATERAL_M and (far or forward < NAVIGATION_FORWARD_M):  # the second part fails on NaN only
        return far + "turn left"
    if left <= -NAVIGATION_LATERAL_M and (far or forward < NAVIGATION_FORWARD_M):
        return far + "turn right"
    return "go straight"


def future_command(target: Sequence[float] | np.ndarray) -> tuple[int, int, int]:
    """One-hot (right, left, straight) of the position three seconds ahead, 2 m to a side. In no question.

    It is the command Senna's planner takes; kept because the converter's recordings hold it.
    """
    if target[0] >= 2:
        return (1, 0, 0)
    if target[0] <= -2:
        return (0, 1, 0)
    return (0, 0, 1)
