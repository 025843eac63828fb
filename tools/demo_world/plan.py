"""The plan question of a simulated keyframe without going through files: for the trainer, with the rules of ``nuscenes``."""

import numpy as np

from demo_world.cameras import LIDAR_PLACE
from demo_world.traffic import Scene
from senna_autoprune.nuscenes.rules import navigation_command, plan_label


def plan(scene: Scene, keyframe: int) -> dict | None:
    """``speed`` (int m/s), ``command`` and ``answer``; None where six future keyframes are missing."""
    poses = scene.ego_keyframes
    if keyframe + 6 >= len(poses):
        return None
    heading = np.stack([np.cos(poses[:, 2]), np.sin(poses[:, 2])], 1)
    lidar = poses[:, :2] + LIDAR_PLACE[0] * heading  # (K, 2)
    away = lidar - lidar[keyframe]
    forward = away @ heading[keyframe]
    right = away @ np.array([heading[keyframe][1], -heading[keyframe][0]])
    track = np.stack([right, forward], 1)  # (K, 2) LIDAR_TOP at the keyframe: x right, y forward
    speed_plan, path_plan = plan_label(track[keyframe + 1 : keyframe + 7].astype(np.float32))
    target = track[min(keyframe + 12, len(poses) - 1)]
    return {
        "speed": int(poses[keyframe, 3]),
        "command": navigation_command(target, "fixed"),
        "answer": f"{speed_plan}, {path_plan}",
    }
