"""Camera images before a keyframe: sweeps and earlier keyframes, by the tables' own chain of each camera."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.nuscenes.scenes import rows_present

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes

NEAR_S = 0.15  # a frame stands for a time at most so far from its own: half a keyframe's distance is 0.25


def earlier_images(nusc: NuScenes, token: str, cameras: Sequence[str], frames: Sequence[float]) -> dict[tuple[str, float], str]:
    """(camera, seconds before the keyframe) -> path of the image nearest to that time; those that are not there are left out.

    Args:
        frames: seconds, negative.
    Raises:
        SennaPruneError: the tables miss a row of the sample.
    """
    found: dict[tuple[str, float], str] = {}
    with rows_present(nusc, f"sample {token}"):
        sample = nusc.get("sample", token)
        for camera in cameras:
            if camera not in sample["data"]:
                continue
            times = _chain(nusc, sample["data"][camera], -min(frames) + NEAR_S)
            for frame in frames:
                near = [one for one in times if abs(one[0] - frame) <= NEAR_S and os.path.isfile(one[1])]
                if near:
                    found[camera, frame] = min(near, key=lambda one: abs(one[0] - frame))[1]
    return found


def _chain(nusc: NuScenes, token: str, longest_s: float) -> list[tuple[float, str]]:
    """(seconds relative to the first, path) of an image and those before it."""
    row = nusc.get("sample_data", token)
    start, times, seen = row["timestamp"], [], {token}
    while row["prev"]:
        row = nusc.get("sample_data", row["prev"])
        if row["token"] in seen:
            raise SennaPruneError(f"tables in {nusc.table_root}: image {row['token']} comes round again")
        seen.add(row["token"])
        time = (row["timestamp"] - start) / 1e6
        if time < -longest_s:
            break
        times.append((time, os.path.join(nusc.dataroot, row["filename"])))
    return times
