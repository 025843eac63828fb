"""All six question types of a simulated keyframe without going through files: for the trainer, with the builders of ``nuscenes``.

The same questions as ``questions build`` asks of the tables, but for a millimetre of rounding (tests/tools/demo_world/test_asks.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from demo_world import teacher
from demo_world.cameras import LIDAR_PLACE
from demo_world.tables import ANNOTATED_M, CATEGORIES
from demo_world.traffic import KEYFRAMES, Question, Scene
from senna_autoprune.nuscenes import builders
from senna_autoprune.nuscenes.builders import Geometry
from senna_autoprune.nuscenes.rules import navigation_command
from senna_autoprune.nuscenes.strings import strings, view_names

FUTURE, NAVIGATION = 6, 12  # keyframes


@dataclass(frozen=True)
class Asked:
    """A question (without image marks) of one keyframe, its answer, and the view it is about, if it is about one."""

    kind: str
    question: str
    answer: str
    view: str | None = None


def _into(points: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """(..., 2) world points in the frame of ``pose`` (x, y, yaw): x ahead, y left."""
    cos, sin = np.cos(pose[2]), np.sin(pose[2])
    away = points - pose[:2]
    return np.stack([away[..., 0] * cos + away[..., 1] * sin, -away[..., 0] * sin + away[..., 1] * cos], -1)


def _lidar(ahead_left: np.ndarray) -> np.ndarray:
    """Body frame (x ahead, y left) to that of a LIDAR mounted on it (x right, y forward)."""
    return np.stack([-ahead_left[..., 1], ahead_left[..., 0] - LIDAR_PLACE[0]], -1)


def boxed(scene: Scene, keyframe: int) -> list[int]:
    """Indices of the bodies that have a box at a keyframe, in the order of the tables."""
    ego = scene.ego_keyframes[keyframe]
    near = [np.hypot(*(body.track[keyframe, :2] - ego[:2])) < ANNOTATED_M for body in scene.bodies]
    return [i for i, body in enumerate(scene.bodies) if body.kind in CATEGORIES and near[i]]


def geometry(scene: Scene, keyframe: int) -> Geometry:
    """What ``nuscenes.scenes`` reads from the tables of this scene at this keyframe."""
    poses = scene.ego_keyframes
    heading = np.stack([np.cos(poses[:, 2]), np.sin(poses[:, 2])], 1)
    mounts = poses[:, :2] + LIDAR_PLACE[0] * heading  # (K, 2)
    ahead = _lidar(_into(mounts[keyframe : keyframe + NAVIGATION + 1], poses[keyframe, :3]))
    complete = min(FUTURE, len(ahead) - 1)
    future = ahead[np.minimum(np.arange(FUTURE + 1), len(ahead) - 1)]
    found = boxed(scene, keyframe)
    names = [strings()["categories"][CATEGORIES[scene.bodies[i].kind]] for i in found]
    centres = np.array([scene.bodies[i].track[keyframe, :2] for i in found]).reshape(-1, 2)
    tracks, masks = np.zeros((len(found), FUTURE, 2), np.float32), np.zeros((len(found), FUTURE), np.float32)
    for row, i in enumerate(found):
        body = scene.bodies[i]
        for step in range(FUTURE):
            k = keyframe + 1 + step
            if k >= KEYFRAMES or np.hypot(*(body.track[k, :2] - poses[k, :2])) >= ANNOTATED_M:
                break  # a later stretch of presence is another instance
            tracks[row, step] = _lidar(_into(body.track[k, :2], body.track[keyframe]))
            masks[row, step] = 1
    return Geometry(
        box_xy=_lidar(_into(centres, poses[keyframe, :3])),
        names=names,
        tracks=tracks,
        track_masks=masks,
        ego_offsets=(future[1:] - future[:-1]).astype(np.float32),
        ego_masks=(np.arange(FUTURE) < complete).astype(np.float32),
        ego_speed=float(np.float32(poses[keyframe, 3])),
        command=navigation_command(ahead[-1], "fixed"),
    )


def geometric(scene: Scene, question: Question) -> list[Asked]:
    """The questions that the tables alone answer, in the order of ``questions build``: vru, motion, plan."""
    known = geometry(scene, question.keyframe)
    pairs = [("vru", None, builders.vru_question)]
    pairs += [("motion", view, partial(builders.motion_question, view=view)) for view in view_names()]
    pairs += [("plan", None, builders.plan_question)]
    built = [(kind, view, build(known)) for kind, view, build in pairs]
    return [Asked(kind, pair.question, pair.answer, view) for kind, view, pair in built if pair is not None]


def taught(scene: Scene, question: Question, seen: dict[str, dict[int, int]]) -> list[Asked]:
    """The questions that a teacher answers: light, description of each view, explanation. seen: view -> body -> pixels."""
    asked = [Asked("light", builders.light_question(), teacher.light(scene, question))]
    for view in view_names():
        answer = teacher.description(scene, question, view, seen.get(view, {}))
        asked.append(Asked("description", builders.description_question(view), answer, view))
    why = builders.explanation_question(geometry(scene, question.keyframe))
    return asked + ([Asked("explanation", why, teacher.explanation(scene, question))] if why else [])
