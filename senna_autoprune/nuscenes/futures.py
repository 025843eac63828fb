"""What the tables say happens after a keyframe: the ego vehicle's true path, and the boxes that a planned one must not touch.

Frame: LIDAR_TOP at the keyframe, x right, y forward, metres, as everywhere here. Steps are keyframes, 0.5 s apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.nuscenes.scenes import FUTURE_STEPS, Pose, rows_present

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes

OBSTACLES = ("vehicle.", "human.")  # categories by their beginning: what ST-P3's and VAD's occupancy holds


@dataclass(frozen=True)
class Future:
    """The next T keyframes of a sample.

    Attributes:
        path: (T, 2) float64 true positions of the LIDAR; rows of missing keyframes are NaN.
        valid: (T,) bool, False where the scene has ended.
        boxes: for each step (n, 5) float64: centre x, y, length, width in metres, heading in radians from the x axis.
    """

    path: NDArray[np.float64]
    valid: NDArray[np.bool_]
    boxes: Sequence[NDArray[np.float64]]

    def to_dict(self) -> dict[str, Any]:
        """As plain data: missing positions are None."""
        path = [point.tolist() if there else None for point, there in zip(self.path, self.valid, strict=True)]
        return {"path": path, "boxes": [boxes.tolist() for boxes in self.boxes]}

    @classmethod
    def of(cls, values: dict[str, Any]) -> Future:
        """From plain data, to the bit. ValueError: it is not what ``to_dict`` makes."""
        try:
            path = np.array([(np.nan, np.nan) if point is None else point for point in values["path"]], dtype=np.float64)
            boxes = [np.array(rows, dtype=np.float64).reshape(-1, 5) for rows in values["boxes"]]
        except (KeyError, TypeError) as error:
            raise ValueError(f"no future ({error})") from error
        path = path.reshape(-1, 2)
        if len(path) != len(boxes):
            raise ValueError(f"{len(path)} positions and the boxes of {len(boxes)} steps")
        return cls(path, ~np.isnan(path[:, 0]), boxes)


def future_of(nusc: NuScenes, token: str, steps: int = FUTURE_STEPS) -> Future:
    """The future of a sample.

    Raises:
        SennaPruneError: the tables have no such sample, or miss a row of it.
    """
    with rows_present(nusc, f"sample {token}"):
        keyframe = nusc.get("sample", token)
        pose = Pose.of(nusc, keyframe)
        path = np.full((steps, 2), np.nan)
        boxes: list[NDArray[np.float64]] = []
        seen = {token}
        for step in range(steps):
            if keyframe["next"]:
                keyframe = nusc.get("sample", keyframe["next"])
                if keyframe["token"] in seen:
                    raise SennaPruneError(f"tables in {nusc.table_root}: sample {keyframe['token']} comes round again")
                seen.add(keyframe["token"])
                path[step] = pose.to_lidar(Pose.of(nusc, keyframe).lidar_in_global[None])[0, :2]
                boxes.append(_boxes(nusc, keyframe["anns"], pose))
            else:
                keyframe = {**keyframe, "next": ""}
                boxes.append(np.zeros((0, 5)))
        return Future(path, ~np.isnan(path[:, 0]), boxes)


def _boxes(nusc: NuScenes, tokens: Sequence[str], pose: Pose) -> NDArray[np.float64]:
    """(n, 5) boxes of road users among the annotations, in the frame of ``pose``."""
    from pyquaternion import Quaternion

    turn = pose.to_lidar_rotation @ pose.to_ego_rotation
    rows = []
    for box in (nusc.get("sample_annotation", token) for token in tokens):
        if box["category_name"].startswith(OBSTACLES):
            x, y, _ = pose.to_lidar(np.array([box["translation"]]))[0]
            ahead = turn @ Quaternion(box["rotation"]).rotation_matrix[:, 0]
            width, length, _ = box["size"]
            rows.append((x, y, length, width, math.atan2(ahead[1], ahead[0])))
    return np.array(rows, dtype=np.float64).reshape(-1, 5)
