"""The true geometry of a keyframe for pictures in space: ego poses, cameras, boxes, the path that was driven.

All in nuScenes' global frame, metres, rotations as quaternions (w, x, y, z), times in microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from senna_autoprune.nuscenes.scenes import FUTURE_STEPS
from senna_autoprune.nuscenes.strings import channel, view_names

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes

LIDAR = "LIDAR_TOP"


@dataclass(frozen=True)
class Pose:
    """Of a frame in its parent: translation (3,) and rotation (4,) w first."""

    translation: tuple[float, ...]
    rotation: tuple[float, ...]


@dataclass(frozen=True)
class Sensor:
    """A camera (or the LIDAR, without intrinsic) at the moment of its own measurement."""

    channel: str
    timestamp_us: int
    ego: Pose  # of the vehicle in the global frame at that moment
    mount: Pose  # of the sensor in the vehicle
    intrinsic: np.ndarray | None  # (3, 3)
    size: tuple[int, int]  # width, height in pixels


@dataclass(frozen=True)
class Box:
    """An annotated object. size: width, length, height."""

    pose: Pose
    size: tuple[float, ...]
    name: str
    instance: str


@dataclass(frozen=True)
class SampleGeometry:
    """One keyframe. path: (<= 7, 3) ego positions, this keyframe's first, then up to six future ones 0.5 s apart."""

    timestamp_us: int
    sensors: dict[str, Sensor]  # by channel, LIDAR_TOP and the six cameras
    boxes: tuple[Box, ...]
    path: np.ndarray


def sample_geometry(nusc: NuScenes, token: str) -> SampleGeometry:
    """The geometry of a sample of the tables. Raises KeyError where they lack a row."""
    sample = nusc.get("sample", token)
    sensors = {name: _sensor(nusc, sample, name) for name in (LIDAR, *map(channel, view_names()))}
    boxes = tuple(_box(nusc.get("sample_annotation", annotation)) for annotation in sample["anns"])
    return SampleGeometry(sample["timestamp"], sensors, boxes, _path(nusc, sample))


def _sensor(nusc: NuScenes, sample: dict[str, Any], name: str) -> Sensor:
    row = nusc.get("sample_data", sample["data"][name])
    mount = nusc.get("calibrated_sensor", row["calibrated_sensor_token"])
    intrinsic = np.array(mount["camera_intrinsic"], dtype=float) if mount["camera_intrinsic"] else None
    ego = nusc.get("ego_pose", row["ego_pose_token"])
    return Sensor(name, row["timestamp"], _pose(ego), _pose(mount), intrinsic, (row["width"] or 0, row["height"] or 0))


def _box(row: dict[str, Any]) -> Box:
    return Box(_pose(row), tuple(row["size"]), row["category_name"], row["instance_token"])


def _pose(row: dict[str, Any]) -> Pose:
    return Pose(tuple(row["translation"]), tuple(row["rotation"]))


def _path(nusc: NuScenes, sample: dict[str, Any]) -> np.ndarray:
    points = []
    for _ in range(FUTURE_STEPS + 1):
        lidar = nusc.get("sample_data", sample["data"][LIDAR])
        points.append(nusc.get("ego_pose", lidar["ego_pose_token"])["translation"])
        if not sample["next"]:
            break
        sample = nusc.get("sample", sample["next"])
    return np.array(points, dtype=float)
