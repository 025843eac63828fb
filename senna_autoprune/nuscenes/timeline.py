"""What lies half a second, one second, ... ahead: keyframes where they are that far apart, or positions between poses.

Every rule takes its points for 0.5 s apart. nuScenes' keyframes are: in all 850 scenes of v1.0-trainval the steps last 0.39 to 0.75 s,
six of them 2.65 to 3.40 s, twelve 5.60 to 6.35 s. Elsewhere (1 Hz, 10 Hz, a gap in the recording) they may not be; then keyframes are
no future of three seconds, and nothing is said of them, or the positions are taken between the poses (``resampled``).
"""

from __future__ import annotations

import numpy as np

from senna_autoprune.nuscenes.rules import STEP_S

FUTURE_STEPS = 6  # half seconds of a plan, 3 s
SHORTEST_STEP_S, LONGEST_STEP_S = 0.25, 0.8
TOLERANCE_S = 0.5  # of the k-th keyframe ahead, which should be k half seconds away: a plan's horizon is 3 s +- 0.5 s
LONGEST_GAP_S = 1.5  # between two poses; across more nothing is interpolated


def steps_ahead(times_s: np.ndarray, i: int, most: int) -> int:
    """How many keyframes after keyframe i, ``most`` at most, lie where the rules take them to be: k half seconds on.

    Args:
        times_s: (N,) times of all keyframes of a scene in order.
    """
    ahead = times_s[i : i + most + 1] - times_s[i]  # (<= most + 1,)
    steps = np.diff(ahead)
    due = np.abs(ahead[1:] - STEP_S * np.arange(1, len(ahead))) <= TOLERANCE_S
    good = due & (steps >= SHORTEST_STEP_S) & (steps <= LONGEST_STEP_S)
    return len(good) if good.all() else int(np.argmin(good))


def resampled(times_s: np.ndarray, positions: np.ndarray, start_s: float, most: int) -> np.ndarray:
    """Positions at ``start_s`` and each half second after it, by straight lines between the poses.

    They end before the first half second that no two poses at most 1.5 s apart enclose.

    Args:
        times_s, positions: (P,) ascending and (P, 3), the poses.
    Returns:
        (1 to most + 1, 3), or (0, 3) if ``start_s`` itself is not enclosed.
    """
    wanted = start_s + STEP_S * np.arange(most + 1)
    if len(times_s) == 0:
        return np.zeros((0, 3))
    after = np.searchsorted(times_s, wanted, side="left")  # first pose not before
    inside = after < len(times_s)
    after = np.minimum(after, len(times_s) - 1)
    before = np.where(times_s[after] == wanted, after, after - 1)
    inside &= (before >= 0) & (times_s[after] - times_s[before] <= LONGEST_GAP_S)
    # a gap between two wanted times ends the track as well as one around a wanted time
    gaps = np.flatnonzero(np.diff(times_s) > LONGEST_GAP_S)
    for gap in gaps:
        inside &= ~((times_s[gap] >= start_s) & (wanted > times_s[gap]))
    count = len(inside) if inside.all() else int(np.argmin(inside))
    return np.stack([np.interp(wanted[:count], times_s, positions[:, axis]) for axis in range(3)], axis=1)
