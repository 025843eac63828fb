"""The six cameras of the synthetic world: nuScenes' mounting angles and fields of view, at a smaller image size.

Frames: *ego* x forward, y left, z up, origin on the ground below the rear axle; *camera* x right, y down, z forward.
Angles are nuScenes' nominal mounting angles (0, +-55, +-110, 180 degrees), focal lengths its calibrated ones to the nearest
half per cent, scaled from 1600x900.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

WIDTH, HEIGHT = 384, 216
NUSCENES_WIDTH = 1600
SCALE = WIDTH / NUSCENES_WIDTH
HORIZON = 0.54  # principal point's row, as a share of the height (nuScenes: 0.53-0.56)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: channel name, yaw in degrees (left positive), mounting place in metres, focal length at 1600 px."""

    channel: str
    yaw_deg: float
    place: tuple[float, float, float]
    focal_1600: float

    @property
    def focal(self) -> float:
        """Focal length in pixels of the rendered image."""
        return self.focal_1600 * SCALE

    @property
    def cx(self) -> float:
        return WIDTH / 2

    @property
    def cy(self) -> float:
        return HEIGHT * HORIZON

    @property
    def intrinsic(self) -> list[list[float]]:
        """3 x 3 camera matrix as nuScenes' ``camera_intrinsic``."""
        return [[self.focal, 0.0, self.cx], [0.0, self.focal, self.cy], [0.0, 0.0, 1.0]]

    @cached_property
    def ego_to_camera(self) -> np.ndarray:
        """(3, 3) rotation: ego axes to camera axes."""
        yaw = np.radians(self.yaw_deg)
        forward = np.array([np.cos(yaw), np.sin(yaw), 0.0])
        right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
        return np.stack([right, np.array([0.0, 0.0, -1.0]), forward]).astype(np.float32)

    @property
    def quaternion(self) -> list[float]:
        """Camera-to-ego rotation (w, x, y, z), as in ``calibrated_sensor``."""
        half = np.radians(self.yaw_deg) / 2
        spin = np.array([np.cos(half), 0.0, 0.0, np.sin(half)])
        return [float(v) for v in _multiply(spin, np.array([0.5, -0.5, 0.5, -0.5]))]

    @cached_property
    def azimuth(self) -> np.ndarray:
        """(W,) direction of each pixel column in the ego frame, radians, left positive."""
        u = np.arange(WIDTH) + 0.5
        return np.radians(self.yaw_deg) - np.arctan((u - self.cx) / self.focal)

    @cached_property
    def ground_rows(self) -> int:
        """First pixel row that looks at the ground."""
        return int(np.ceil(self.cy + 1))

    @cached_property
    def ground(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where each pixel below the horizon meets the ground: ego x, ego y (rows, W) and depth of each row (rows,)."""
        v = np.arange(self.ground_rows, HEIGHT) + 0.5
        depth = self.place[2] * self.focal / (v - self.cy)
        lateral = (np.arange(WIDTH) + 0.5 - self.cx) / self.focal
        yaw = np.radians(self.yaw_deg)
        right = depth[:, None] * lateral[None, :]
        x = self.place[0] + depth[:, None] * np.cos(yaw) + right * np.sin(yaw)
        y = self.place[1] + depth[:, None] * np.sin(yaw) - right * np.cos(yaw)
        return x.astype(np.float32), y.astype(np.float32), depth.astype(np.float32)


def _multiply(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Hamilton product of two (w, x, y, z) quaternions."""
    w, v, u, t = a[0], a[1:], b[0], b[1:]
    return np.concatenate([[w * u - v @ t], w * t + u * v + np.cross(v, t)])


# nuScenes' order in the released converter; the order of the prompt is the reader's affair
CAMERAS = (
    Camera("CAM_FRONT", 0.0, (1.70, 0.0, 1.51), 1266.0),
    Camera("CAM_FRONT_RIGHT", -55.0, (1.55, -0.49, 1.50), 1260.0),
    Camera("CAM_FRONT_LEFT", 55.0, (1.52, 0.49, 1.51), 1272.0),
    Camera("CAM_BACK", 180.0, (0.03, 0.0, 1.58), 809.0),
    Camera("CAM_BACK_LEFT", 110.0, (1.04, 0.48, 1.59), 1257.0),
    Camera("CAM_BACK_RIGHT", -110.0, (1.01, -0.48, 1.56), 1260.0),
)
LIDAR_PLACE = (0.94, 0.0, 1.84)
LIDAR_QUATERNION = [0.7071067811865476, 0.0, 0.0, -0.7071067811865476]  # x right, y forward
