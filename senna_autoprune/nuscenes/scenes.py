"""nuScenes tables to keyframes with the geometry their questions need, through the official devkit.

Frame: LIDAR_TOP at the keyframe, x right, y forward (spec: nuscenes_qa). LIDAR files are not needed, only their rows.
Image files are not opened here. Source of the steps: hustvl/Senna at cddce26, data_tools/senna_nusc_data_converter.py,
whose per-keyframe loops over devkit boxes are done here with arrays, scene by scene (equal: tests/nuscenes/twins.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.json_files import read_json
from senna_autoprune.nuscenes.builders import Geometry
from senna_autoprune.nuscenes.can_bus import CanBus, nearest_message
from senna_autoprune.nuscenes.rules import Navigation, navigation_command
from senna_autoprune.nuscenes.strings import channel, strings, view_names
from senna_autoprune.nuscenes.table_check import check_tables

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes

FUTURE_STEPS = 6  # keyframes of a plan, 3 s
NAVIGATION_STEPS = 12  # keyframes ahead of the navigation target, 6 s


@dataclass(frozen=True)
class Sample:
    """One keyframe: where it stands in its scene, its six image files (which may not exist), and its geometry."""

    token: str
    prev: str
    next: str
    scene_token: str
    scene: str
    timestamp_us: int
    images: dict[str, str]  # view -> path
    geometry: Geometry
    annotated: bool  # False where the scene has no box at all: nothing is known of other road users
    speed_source: str  # "can_bus" or "displacement"
    navigation_steps: int  # keyframes between this one and its navigation target, 12 but near a scene's end


def load_tables(dataroot: str | os.PathLike[str], version: str) -> NuScenes:
    """The devkit's tables of ``DATAROOT/VERSION``.

    Raises:
        SennaPruneError: the folder, a table or a map mask is missing or broken, or a column that is read holds what it
        must not.
    """
    from nuscenes.nuscenes import NuScenes

    root = os.path.abspath(dataroot)
    try:
        nusc = NuScenes(version=version, dataroot=root, verbose=False)
    except ValueError as error:  # no JSON, no UTF-8, an integer of thousands of digits
        raise SennaPruneError(f"a table in {root}/{version} is not valid JSON ({error}): unpack it again") from error
    except Exception as error:  # the devkit checks nothing: broken tables end in whatever it came upon
        raise SennaPruneError(
            f"cannot load nuScenes {version} from {root} ({type(error).__name__}: {error}): --dataroot must hold {version}/*.json and maps/"
        ) from error
    check_tables(nusc)
    return nusc


def scenes_of_split(
    nusc: NuScenes, split: str | None = None, names: Sequence[str] = ()
) -> tuple[list[dict[str, Any]], list[str]]:
    """Scene rows of a split (in the devkit's order) and the names of its scenes that the tables do not have.

    Args:
        split: a split name of the devkit (``mini_val``, ``val``, ...) or of the tables' own ``splits.json``, ``all`` for
            every scene of the tables, None for just ``names``.
        names: if given, only these scenes of the split.
    Raises:
        SennaPruneError: no such split, a named scene outside the split, or not one scene left.
    """
    rows = {row["name"]: row for row in nusc.scene}
    if split is None:
        wanted = list(names)
    elif split == "all":
        wanted = list(rows)
    else:
        wanted = _split_names(nusc, split)
    if names:
        outside = [name for name in names if name not in wanted]
        if outside:
            raise SennaPruneError(f"{', '.join(outside)}: not in split {split}; leave --split out to take any scene")
        wanted = [name for name in wanted if name in set(names)]
    absent = [name for name in wanted if name not in rows]
    if len(absent) == len(wanted):
        there = ", ".join(sorted(rows)[:12]) + (", ..." if len(rows) > 12 else "")
        raise SennaPruneError(f"none of the {len(wanted)} scenes asked for is in {nusc.table_root}, which has {there}")
    return [rows[name] for name in wanted if name in rows], absent


def _split_names(nusc: NuScenes, split: str) -> list[str]:
    """Scene names of one of the devkit's own splits, or of one that ``splits.json`` beside the tables defines (devkit 1.2)."""
    from nuscenes.utils.splits import create_splits_scenes

    splits = create_splits_scenes()
    own = Path(nusc.table_root) / "splits.json"
    if split not in splits and own.is_file():
        custom = read_json(own)
        lists = custom.values() if isinstance(custom, dict) else [None]
        if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
            raise SennaPruneError(f"{own}: it must map a split's name to a list of scene names")
        splits = {**splits, **custom}
    if split not in splits:
        raise SennaPruneError(f"unknown split {split!r}: use one of {', '.join(splits)}, all")
    return list(splits[split])


@contextmanager
def rows_present(nusc: NuScenes, asking: str) -> Iterator[None]:
    """A row or channel that ``asking`` needs and the tables do not have, as a SennaPruneError."""
    try:
        yield
    except KeyError as error:
        raise SennaPruneError(
            f"tables in {nusc.table_root}: {asking} needs a row or channel {error} that is not there: unpack them again"
        ) from error


def iter_samples(nusc: NuScenes, scene: dict[str, Any], can_bus: CanBus, navigation: Navigation) -> Iterator[Sample]:
    """The keyframes of a scene in order.

    ``navigation`` decides the ego vehicle's side alone: ``reference`` takes the command from LIDAR axes, the CAN speed
    only where steering messages exist too, and a displacement over two steps for one second's, as the released
    converter does; ``fixed`` and ``none`` repair these (spec: nuscenes_qa). Boxes and tracks are the same in all three.

    Raises:
        SennaPruneError: the tables miss a row (a keyframe without LIDAR_TOP, say).
    """
    with rows_present(nusc, scene["name"]):
        yield from _iter_samples(nusc, scene, can_bus, navigation)


def _iter_samples(nusc: NuScenes, scene: dict[str, Any], can_bus: CanBus, navigation: Navigation) -> Iterator[Sample]:
    keyframes = keyframes_of(nusc, scene)
    poses = [Pose.of(nusc, keyframe) for keyframe in keyframes]
    path = np.array([pose.lidar_in_global for pose in poses]).reshape(-1, 3)  # (N, 3)
    times_s = np.array([keyframe["timestamp"] for keyframe in keyframes], dtype=np.int64) / 1e6  # (N,)
    annotated = any(keyframe["anns"] for keyframe in keyframes)
    speeds = can_bus.speeds(scene["name"], with_steering=navigation == "reference")

    for i, keyframe in enumerate(keyframes):
        ahead = poses[i].to_lidar(path[i : i + NAVIGATION_STEPS + 1])  # (<= 13, 3), starts with this keyframe
        complete = min(FUTURE_STEPS, len(ahead) - 1)
        future = ahead[np.minimum(np.arange(FUTURE_STEPS + 1), len(ahead) - 1)]  # (7, 3), last pose repeated
        if speeds is None:
            speed, source = _displacement_speed(path, times_s, i, poses[i], navigation == "reference"), "displacement"
        else:
            speed, source = speeds[1][nearest_message(speeds[0], keyframe["timestamp"])], "can_bus"
        box_xy, names, tracks, track_masks = _agents(nusc, keyframe, poses[i])
        yield Sample(
            token=keyframe["token"],
            prev=keyframe["prev"],
            next=keyframe["next"],
            scene_token=scene["token"],
            scene=scene["name"],
            timestamp_us=keyframe["timestamp"],
            images={view: _image_path(nusc, keyframe, view) for view in view_names()},
            geometry=Geometry(
                box_xy=box_xy,
                names=names,
                tracks=tracks,
                track_masks=track_masks,
                ego_offsets=(future[1:] - future[:-1])[:, :2].astype(np.float32),  # (6, 2)
                ego_masks=(np.arange(FUTURE_STEPS) < complete).astype(np.float32),  # (6,)
                ego_speed=float(np.float32(speed)),  # through float32, as released: int() can feel it
                command=navigation_command(ahead[-1, :2], navigation),
            ),
            annotated=annotated,
            speed_source=source,
            navigation_steps=len(ahead) - 1,
        )


def keyframes_of(nusc: NuScenes, scene: dict[str, Any]) -> list[dict[str, Any]]:
    """The sample rows of a scene in order. SennaPruneError if they lead in a circle, KeyError if a row is missing."""
    found: dict[str, dict[str, Any]] = {}
    token = scene["first_sample_token"]
    while token:
        if token in found:
            raise SennaPruneError(f"tables in {nusc.table_root}: {scene['name']} never ends, its sample {token} comes round again")
        found[token] = nusc.get("sample", token)
        token = found[token]["next"]
    return list(found.values())


def _image_path(nusc: NuScenes, keyframe: dict[str, Any], view: str) -> str:
    return os.path.join(nusc.dataroot, nusc.get("sample_data", keyframe["data"][channel(view)])["filename"])


@dataclass(frozen=True)
class Pose:
    """The ego pose and the LIDAR mount at a keyframe. Rotations are those *into* the inner frame."""

    ego: np.ndarray  # (3,) in global
    to_ego_rotation: np.ndarray  # (3, 3)
    mount: np.ndarray  # (3,) in ego
    to_lidar_rotation: np.ndarray  # (3, 3)
    lidar_in_global: np.ndarray  # (3,)

    @classmethod
    def of(cls, nusc: NuScenes, keyframe: dict[str, Any]) -> Pose:
        from nuscenes.utils.geometry_utils import transform_matrix
        from pyquaternion import Quaternion

        lidar = nusc.get("sample_data", keyframe["data"]["LIDAR_TOP"])
        pose = nusc.get("ego_pose", lidar["ego_pose_token"])
        mount = nusc.get("calibrated_sensor", lidar["calibrated_sensor_token"])
        ego_rotation, lidar_rotation = Quaternion(pose["rotation"]), Quaternion(mount["rotation"])
        global_from_ego = transform_matrix(pose["translation"], ego_rotation)
        ego_from_lidar = transform_matrix(mount["translation"], lidar_rotation)
        return cls(
            ego=np.array(pose["translation"]),
            to_ego_rotation=ego_rotation.inverse.rotation_matrix,
            mount=np.array(mount["translation"]),
            to_lidar_rotation=lidar_rotation.inverse.rotation_matrix,
            lidar_in_global=global_from_ego.dot(ego_from_lidar)[:3, 3],
        )

    def to_lidar(self, points: np.ndarray) -> np.ndarray:
        """(n, 3) global points in this keyframe's LIDAR frame, (n, 3)."""
        in_ego = (points - self.ego) @ self.to_ego_rotation.T
        return (in_ego - self.mount) @ self.to_lidar_rotation.T


def _displacement_speed(path: np.ndarray, times_s: np.ndarray, i: int, pose: Pose, as_released: bool) -> float:
    """Speed in m/s from the keyframes before and after keyframe i; path (N, 3) in global, times_s (N,).

    As released the displacement over both steps is taken for one second's, the step before a scene's first keyframe is
    extrapolated, the one after its last is zero. Otherwise displacement over true time between the keyframes there are.
    """
    before, after = max(i - 1, 0), min(i + 1, len(path) - 1)
    if before == after:
        return 0.0  # a scene of one keyframe
    start, here, end = pose.to_lidar(path[[before, i, after]])[:, :2]
    if not as_released:
        return float(np.linalg.norm(end - start) / (times_s[after] - times_s[before]))
    history = here - start if i > 0 else end - here
    return float(np.sqrt(np.sum((history + (end - here)) ** 2)))


def _agents(
    nusc: NuScenes, keyframe: dict[str, Any], pose: Pose
) -> tuple[np.ndarray, list[str], np.ndarray, np.ndarray]:
    """Boxes of a keyframe: centres (n, 2) float64, names (n), tracks (n, 6, 2) and masks (n, 6) float32.

    A track is in the object's own frame, seen from the ego's LIDAR mount as if each object carried one (rule 8: 0.94 m
    ahead of its centre, with the mount's small tilt). This quirk is kept in every variant, as the checkpoint was
    trained on it and it hardly shows: on v1.0-mini it changes none of 6,305 labels and 18 printed speeds by 1 m/s.
    """
    from scipy.spatial.transform import Rotation

    categories = strings()["categories"]
    boxes = [nusc.get("sample_annotation", token) for token in keyframe["anns"]]
    names = [categories.get(box["category_name"], box["category_name"]) for box in boxes]
    n = len(boxes)
    masks = np.zeros((n, FUTURE_STEPS), dtype=np.float32)
    if n == 0:
        return np.zeros((0, 2)), names, np.zeros((0, FUTURE_STEPS, 2), dtype=np.float32), masks
    centres = np.array([box["translation"] for box in boxes])  # (n, 3)
    futures = np.zeros((n, FUTURE_STEPS, 3))
    for row, box in enumerate(boxes):
        for step in range(FUTURE_STEPS):
            if not box["next"]:
                break
            box = nusc.get("sample_annotation", box["next"])
            if box["sample_token"] == keyframe["token"]:
                raise SennaPruneError(f"tables in {nusc.table_root}: the track of box {boxes[row]['token']} comes round again")
            futures[row, step] = box["translation"]
            masks[row, step] = 1
    own = Rotation.from_quat(np.array([box["rotation"] for box in boxes])[:, [1, 2, 3, 0]])  # nuScenes: w first
    in_own = np.einsum("nij,nsi->nsj", own.as_matrix(), futures - centres[:, None])  # (n, 6, 3), x ahead, y left
    tracks = ((in_own - pose.mount) @ pose.to_lidar_rotation.T)[..., :2].astype(np.float32)  # (n, 6, 2)
    tracks[masks == 0] = 0
    return pose.to_lidar(centres)[:, :2], names, tracks, masks
