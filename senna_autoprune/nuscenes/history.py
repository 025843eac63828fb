"""Where the ego vehicle was before a keyframe: what prompts of driving models call its history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.nuscenes.scenes import Pose, rows_present

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes

HISTORY_STEPS = 4  # keyframes, 2 s
NO_HISTORY = "none"  # in a prompt, of a scene's first keyframe


def history_of(nusc: NuScenes, token: str, steps: int = HISTORY_STEPS) -> NDArray[np.float64]:
    """(n, 2) float64 positions of the LIDAR at up to ``steps`` keyframes before a sample, 0.5 s apart, the oldest first.

    Frame: LIDAR_TOP at the keyframe, x right, y forward. Near a scene's beginning there are fewer.

    Raises:
        SennaPruneError: the tables have no such sample, or miss a row of it.
    """
    with rows_present(nusc, f"sample {token}"):
        keyframe = nusc.get("sample", token)
        pose = Pose.of(nusc, keyframe)
        found: list[NDArray[np.float64]] = []
        seen = {token}
        while keyframe["prev"] and len(found) < steps:
            keyframe = nusc.get("sample", keyframe["prev"])
            if keyframe["token"] in seen:
                raise SennaPruneError(f"tables in {nusc.table_root}: sample {keyframe['token']} comes round again")
            seen.add(keyframe["token"])
            found.append(pose.to_lidar(Pose.of(nusc, keyframe).lidar_in_global[None])[0, :2])
        return np.array(found[::-1], dtype=np.float64).reshape(-1, 2)


def history_words(points: NDArray[np.float64]) -> str:
    """Positions (n, 2) in whatever axes as a prompt states them: ``[-0.02, -9.31], [0.01, -4.60]``, to the centimetre."""
    return ", ".join(f"[{x:.2f}, {y:.2f}]" for x, y in np.round(points, 2) + 0.0) or NO_HISTORY
