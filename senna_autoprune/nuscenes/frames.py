"""The frame of every label: LIDAR_TOP at a keyframe, x right, y forward, z up.

That the LIDAR is mounted so is checked, not taken for granted: nuScenes' mounts are 1.4 to 2.7 degrees off. Where a mount is another
one (x forward, say), labels are made in the ego frame turned accordingly, at the mount's place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes

MOUNT_TOLERANCE_DEG = 10.0
_UPRIGHT = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])  # ego (x forward, y left) to x right, y forward


@dataclass(frozen=True)
class Pose:
    """The ego pose and the LIDAR mount at a keyframe. Rotations are those *into* the inner frame."""

    ego: np.ndarray  # (3,) in global
    to_ego_rotation: np.ndarray  # (3, 3)
    mount: np.ndarray  # (3,) in ego
    to_lidar_rotation: np.ndarray  # (3, 3)
    lidar_in_global: np.ndarray  # (3,)
    turned: bool  # the mount's own axes are not x right, y forward: the ego's, turned, stand for them

    @classmethod
    def of(cls, nusc: NuScenes, keyframe: dict[str, Any]) -> Pose:
        """The pose at a keyframe (a ``sample`` row). KeyError if the tables lack a row."""
        return cls.of_file(nusc, nusc.get("sample_data", keyframe["data"]["LIDAR_TOP"]))

    @classmethod
    def of_file(cls, nusc: NuScenes, lidar: dict[str, Any]) -> Pose:
        """The pose at a LIDAR file's time (a ``sample_data`` row)."""
        from nuscenes.utils.geometry_utils import transform_matrix
        from pyquaternion import Quaternion

        pose = nusc.get("ego_pose", lidar["ego_pose_token"])
        mount = nusc.get("calibrated_sensor", lidar["calibrated_sensor_token"])
        ego_rotation, lidar_rotation = Quaternion(pose["rotation"]), Quaternion(mount["rotation"])
        global_from_ego = transform_matrix(pose["translation"], ego_rotation)
        ego_from_lidar = transform_matrix(mount["translation"], lidar_rotation)
        to_lidar = lidar_rotation.inverse.rotation_matrix
        turned = mount_angle_deg(to_lidar) > MOUNT_TOLERANCE_DEG
        return cls(
            ego=np.array(pose["translation"]),
            to_ego_rotation=ego_rotation.inverse.rotation_matrix,
            mount=np.array(mount["translation"]),
            to_lidar_rotation=_UPRIGHT if turned else to_lidar,
            lidar_in_global=global_from_ego.dot(ego_from_lidar)[:3, 3],
            turned=turned,
        )

    def to_lidar(self, points: np.ndarray) -> np.ndarray:
        """(n, 3) global points in this keyframe's LIDAR frame, (n, 3)."""
        with np.errstate(invalid="ignore"):  # poses may be NaN or infinite: nothing is asked about them
            in_ego = (points - self.ego) @ self.to_ego_rotation.T
            return (in_ego - self.mount) @ self.to_lidar_rotation.T


def mount_angle_deg(to_lidar_rotation: np.ndarray) -> float:
    """Angle between a mount (3, 3), ego to LIDAR, and the one that labels take for granted, 0..180 degrees."""
    cosine = (np.trace(to_lidar_rotation @ _UPRIGHT.T) - 1) / 2
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))
