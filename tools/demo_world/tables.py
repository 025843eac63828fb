"""Simulated scenes as nuScenes v1.0 tables, JPEG files and CAN messages, which the official devkit loads.

Deviations from a real download, all allowed by the format: every sensor of a keyframe shares its ego pose, there are no sweeps and no lidar
or radar files, numbers are rounded to a millimetre, and only keyframes that are asked about have image files (the rows of the others name
files that are not there, as with real metadata without its images). Boxes farther than 50 m from the ego are left out.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from demo_world.cameras import CAMERAS, HEIGHT, LIDAR_PLACE, LIDAR_QUATERNION, WIDTH
from demo_world.render import Renderer, Views
from demo_world.traffic import KEYFRAMES, PER_KEYFRAME, STEP_S, Body, Scene
from demo_world.world import JPEG_QUALITY, LOCATIONS

OnViews = Callable[[Scene, int, Views], None]
TOKEN_LENGTH = 10
ANNOTATED_M = 50.0
CAN_STEPS = 5  # a CAN message every 0.25 s (real ones come at 50 Hz)
EPOCH_US = 1_530_000_000_000_000
CATEGORIES = {
    "car": "vehicle.car",
    "van": "vehicle.car",
    "lorry": "vehicle.truck",
    "motorcycle": "vehicle.motorcycle",
    "bicycle": "vehicle.bicycle",
    "pedestrian": "human.pedestrian.adult",
}
ATTRIBUTES = (
    "vehicle.moving",
    "vehicle.stopped",
    "vehicle.parked",
    "cycle.with_rider",
    "pedestrian.standing",
    "pedestrian.moving",
)
VISIBILITY = ("v0-40", "v40-60", "v60-80", "v80-100")


def token(*parts: object) -> str:
    """A token that depends on its parts only (shorter than nuScenes' own, for the size of the package)."""
    return hashlib.md5("/".join(map(str, parts)).encode()).hexdigest()[:TOKEN_LENGTH]


def _quaternion(yaw: float) -> list[float]:
    return [round(float(np.cos(yaw / 2)), 6), 0.0, 0.0, round(float(np.sin(yaw / 2)), 6)]


class TableWriter:
    """Collects the rows of several scenes; ``write`` puts them on disk."""

    def __init__(self, root: Path, version: str) -> None:
        self.root, self.version = root, version
        self.tables: dict[str, list[dict]] = {
            name: []
            for name in (
                *("attribute", "calibrated_sensor", "category", "ego_pose", "instance", "log", "map", "sample"),
                *("sample_annotation", "sample_data", "scene", "sensor", "visibility"),
            )
        }
        self._fixed()

    def _fixed(self) -> None:
        rows = self.tables
        for name in sorted(set(CATEGORIES.values())):
            rows["category"].append({"token": token("category", name), "name": name, "description": "Synthetic."})
        for name in ATTRIBUTES:
            rows["attribute"].append({"token": token("attribute", name), "name": name, "description": "Synthetic."})
        for number, level in enumerate(VISIBILITY, 1):
            rows["visibility"].append({"token": str(number), "level": level, "description": f"visibility of whole object is {level[1:]} %"})
        mounts: list[tuple[str, str, list[float], list[float], list[list[float]]]]
        mounts = [(c.channel, "camera", list(c.place), c.quaternion, c.intrinsic) for c in CAMERAS]
        mounts.append(("LIDAR_TOP", "lidar", list(LIDAR_PLACE), LIDAR_QUATERNION, []))
        for channel, modality, place, rotation, intrinsic in mounts:
            rows["sensor"].append({"token": token("sensor", channel), "channel": channel, "modality": modality})
            rows["calibrated_sensor"].append(
                {
                    "token": token("mount", channel),
                    "sensor_token": token("sensor", channel),
                    "translation": place,
                    "rotation": rotation,
                    "camera_intrinsic": intrinsic,
                }
            )
        for location in LOCATIONS:
            log = token("log", location)
            rows["log"].append(
                {"token": log, "logfile": f"synthetic-{location}", "vehicle": "synthetic", "date_captured": "2018-07-01"}
                | {"location": location}
            )
            rows["map"].append(
                {"token": token("map", location), "log_tokens": [log], "category": "semantic_prior", "filename": f"maps/{location}.png"}
            )

    def add(self, scene: Scene, keyframes: list[int], on_views: OnViews | None = None) -> None:
        """A scene's rows, the images of ``keyframes``, and its CAN messages. on_views: is shown each keyframe's labelled views."""
        place = _Placement(scene)
        start = EPOCH_US + 10_000_000 * int(scene.name[-4:]) * 10
        stamps = [start + k * 500_000 for k in range(KEYFRAMES)]
        samples = [token(scene.name, "sample", k) for k in range(KEYFRAMES)]
        rows = self.tables
        rows["scene"].append(
            {
                "token": token(scene.name),
                "log_token": token("log", scene.location),
                "nbr_samples": KEYFRAMES,
                "first_sample_token": samples[0],
                "last_sample_token": samples[-1],
                "name": scene.name,
                "description": scene.description,
            }
        )
        channels = [("LIDAR_TOP", None), *((c.channel, c) for c in CAMERAS)]
        for k in range(KEYFRAMES):
            x, y, yaw = place.pose(scene.ego_keyframes[k, :3])
            around = {"prev": samples[k - 1] if k else "", "next": samples[k + 1] if k + 1 < KEYFRAMES else ""}
            rows["sample"].append({"token": samples[k], "timestamp": stamps[k], **around, "scene_token": token(scene.name)})
            pose = token(scene.name, "pose", k)
            rows["ego_pose"].append(
                {"token": pose, "timestamp": stamps[k], "rotation": _quaternion(yaw), "translation": [round(x, 4), round(y, 4), 0.0]}
            )
            for channel, camera in channels:
                size = {"height": HEIGHT, "width": WIDTH} if camera else {"height": 0, "width": 0}
                ending = "jpg" if camera else "pcd.bin"
                rows["sample_data"].append(
                    {
                        "token": token(scene.name, channel, k),
                        "sample_token": samples[k],
                        "ego_pose_token": pose,
                        "calibrated_sensor_token": token("mount", channel),
                        "timestamp": stamps[k],
                        "fileformat": ending[:3],
                        "is_key_frame": True,
                        **size,
                        "filename": f"samples/{channel}/{scene.name}_{k:02d}.{ending}",
                        "prev": token(scene.name, channel, k - 1) if k else "",
                        "next": token(scene.name, channel, k + 1) if k + 1 < KEYFRAMES else "",
                    }
                )
        for number, body in enumerate(scene.bodies):
            self._instance(scene, place, number, body, samples)
        self._images(scene, keyframes, on_views)
        self._can(scene, place, start)

    def _instance(self, scene: Scene, place: "_Placement", number: int, body: Body, samples: list[str]) -> None:
        """The boxes of a body while it is near; every stretch of presence is an instance of its own, as after a long occlusion."""
        if body.kind not in CATEGORIES:
            return
        away = np.hypot(*(body.track[:, :2] - scene.ego_keyframes[:, :2]).T)
        near = away < ANNOTATED_M
        edges = np.flatnonzero(np.diff(np.concatenate([[0], near.astype(int), [0]])))
        length, width, height = body.box
        for first, last in zip(edges[::2], edges[1::2] - 1, strict=True):
            name = token(scene.name, "instance", number, first)
            boxes = [token(scene.name, "box", number, k) for k in range(first, last + 1)]
            self.tables["instance"].append(
                {
                    "token": name,
                    "category_token": token("category", CATEGORIES[body.kind]),
                    "nbr_annotations": len(boxes),
                    "first_annotation_token": boxes[0],
                    "last_annotation_token": boxes[-1],
                }
            )
            for i, k in enumerate(range(first, last + 1)):
                x, y, yaw = place.pose(body.track[k])
                self.tables["sample_annotation"].append(
                    {
                        "token": boxes[i],
                        "sample_token": samples[k],
                        "instance_token": name,
                        "visibility_token": "4",
                        "attribute_tokens": [token("attribute", _attribute(body, k))],
                        "translation": [round(x, 3), round(y, 3), round(height / 2, 3)],
                        "size": [width, length, height],
                        "rotation": _quaternion(yaw),
                        "prev": boxes[i - 1] if i else "",
                        "next": boxes[i + 1] if i + 1 < len(boxes) else "",
                        "num_lidar_pts": 1,
                        "num_radar_pts": 0,
                    }
                )

    def _images(self, scene: Scene, keyframes: list[int], on_views: OnViews | None) -> None:
        renderer = Renderer(scene)
        for k in keyframes:
            views = renderer.render(k, labels=on_views is not None)
            if on_views is not None:
                on_views(scene, k, views)
            for camera, image in zip(CAMERAS, views.images, strict=True):
                file = self.root / "samples" / camera.channel / f"{scene.name}_{k:02d}.jpg"
                file.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(
                    str(file),
                    image,
                    [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1, cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
                )

    def _can(self, scene: Scene, place: "_Placement", start: int) -> None:
        """Pose and steering messages (``can_bus/``); steering angle of a bicycle model, 2.8 m wheelbase, ratio 16."""
        folder = self.root / "can_bus"
        folder.mkdir(parents=True, exist_ok=True)
        pose, steering = [], []
        yaw_rate = np.gradient(np.unwrap(scene.ego[:, 2]), STEP_S)
        accel = np.gradient(scene.ego[:, 3], STEP_S)
        for step in range(0, KEYFRAMES * PER_KEYFRAME, CAN_STEPS):
            x, y, yaw = place.pose(scene.ego[step, :3])
            speed, utime = float(scene.ego[step, 3]), start + int(step * STEP_S * 1e6)
            pose.append(
                {
                    "accel": [round(float(accel[step]), 3), round(speed * float(yaw_rate[step]), 3), 9.81],
                    "orientation": _quaternion(yaw),
                    "pos": [round(x, 3), round(y, 3), 0.0],
                    "rotation_rate": [0.0, 0.0, round(float(yaw_rate[step]), 4)],
                    "utime": utime,
                    "vel": [round(speed, 4), 0.0, 0.0],
                }
            )
            angle = 16 * float(np.arctan2(2.8 * yaw_rate[step], max(speed, 0.5)))
            steering.append({"utime": utime, "value": round(angle, 4)})
        for name, messages in (("pose", pose), ("steeranglefeedback", steering)):
            (folder / f"{scene.name}_{name}.json").write_text(json.dumps(messages, separators=(",", ":")))

    def write(self, split: str) -> None:
        """All tables, compact, the devkit's ``splits.json`` that calls these scenes ``split``, and a small all-road map
        mask a location (the devkit wants one)."""
        folder = self.root / self.version
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in self.tables.items():
            (folder / f"{name}.json").write_text(json.dumps(rows, separators=(",", ":")))
        (folder / "splits.json").write_text(json.dumps({split: [row["name"] for row in self.tables["scene"]]}))
        (self.root / "maps").mkdir(exist_ok=True)
        for place in LOCATIONS:
            cv2.imwrite(str(self.root / "maps" / f"{place}.png"), np.full((64, 64), 255, np.uint8))


class _Placement:
    """Where in the world a scene's own coordinates lie: another heading and place a scene."""

    def __init__(self, scene: Scene) -> None:
        rng = np.random.default_rng((scene.seed, 99))
        self.turn = float(rng.uniform(-np.pi, np.pi))
        self.shift = rng.uniform(300, 1500, 2)

    def pose(self, pose: np.ndarray) -> tuple[float, float, float]:
        cos, sin = np.cos(self.turn), np.sin(self.turn)
        x, y, yaw = (float(v) for v in pose)
        return float(cos * x - sin * y + self.shift[0]), float(sin * x + cos * y + self.shift[1]), yaw + self.turn


def _attribute(body: Body, k: int) -> str:
    a, b = max(k - 1, 0), min(k + 1, KEYFRAMES - 1)
    moving = np.hypot(*(body.track[b, :2] - body.track[a, :2])) / ((b - a) * 0.5) > 0.3
    if body.kind == "pedestrian":
        return "pedestrian.moving" if moving else "pedestrian.standing"
    if body.kind in ("motorcycle", "bicycle"):
        return "cycle.with_rider"
    return "vehicle.moving" if moving else "vehicle.parked" if body.role == "parked" else "vehicle.stopped"
