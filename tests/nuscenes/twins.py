"""The slow, obvious way from tables to geometry: one devkit Box, one pose, one message at a time."""

from __future__ import annotations

import math

import numpy as np
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.data_classes import Box
from pyquaternion import Quaternion


def lidar_frame(nusc: NuScenes, sample: dict) -> tuple[dict, dict]:
    """(ego pose row, LIDAR mount row) of a keyframe."""
    row = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
    return nusc.get("ego_pose", row["ego_pose_token"]), nusc.get("calibrated_sensor", row["calibrated_sensor_token"])


def into(frame: dict, box: Box) -> Box:
    """A box from the frame outside a pose (or mount) into the one inside."""
    box.translate(-np.array(frame["translation"]))
    box.rotate(Quaternion(frame["rotation"]).inverse)
    return box


def out_of(frame: dict, point: np.ndarray) -> np.ndarray:
    return Quaternion(frame["rotation"]).rotate(point) + np.array(frame["translation"])


def annotation_box(row: dict) -> Box:
    return Box(row["translation"], row["size"], Quaternion(row["rotation"]), name=row["category_name"])


def boxes(nusc: NuScenes, sample: dict) -> np.ndarray:
    """(n, 2) centres as the devkit's own ``get_sample_data`` gives them."""
    _, found, _ = nusc.get_sample_data(sample["data"]["LIDAR_TOP"])
    return np.array([box.center[:2] for box in found]).reshape(-1, 2)


def tracks(nusc: NuScenes, sample: dict) -> tuple[np.ndarray, np.ndarray]:
    """(n, 6, 2) tracks and (n, 6) masks: each future box moved into the object's frame, then into 'its' LIDAR."""
    _, mount = lidar_frame(nusc, sample)
    points, masks = np.zeros((len(sample["anns"]), 6, 2)), np.zeros((len(sample["anns"]), 6))
    for i, token in enumerate(sample["anns"]):
        now = later = nusc.get("sample_annotation", token)
        for step in range(6):
            if later["next"] == "":
                break
            later = nusc.get("sample_annotation", later["next"])
            points[i, step] = into(mount, into(now, annotation_box(later))).center[:2]
            masks[i, step] = 1
    return points, masks


def walk(nusc: NuScenes, sample: dict, steps: int) -> list[dict]:
    """This keyframe and the next ones, as many as there are up to ``steps``."""
    found = [sample]
    while len(found) <= steps and found[-1]["next"]:
        found.append(nusc.get("sample", found[-1]["next"]))
    return found


def seen_from(nusc: NuScenes, sample: dict, other: dict) -> np.ndarray:
    """(3,) LIDAR position at keyframe ``other`` in the LIDAR frame of ``sample``."""
    ego, mount = lidar_frame(nusc, other)
    here = out_of(ego, out_of(mount, np.zeros(3)))
    ego, mount = lidar_frame(nusc, sample)
    box = Box(here, [1, 1, 1], Quaternion())
    return into(mount, into(ego, box)).center


def ego_offsets(nusc: NuScenes, sample: dict) -> tuple[np.ndarray, int]:
    """(6, 2) steps, the missing ones zero, and how many there are."""
    positions = [seen_from(nusc, sample, later) for later in walk(nusc, sample, 6)]
    steps = [after - before for before, after in zip(positions, positions[1:], strict=False)]
    offsets = np.zeros((6, 2))
    for i, step in enumerate(steps):
        offsets[i] = step[:2]
    return offsets, len(steps)


def target(nusc: NuScenes, sample: dict) -> np.ndarray:
    """(2,) position at the last of up to twelve keyframes ahead."""
    return seen_from(nusc, sample, walk(nusc, sample, 12)[-1])[:2]


def released_displacement_speed(nusc: NuScenes, sample: dict) -> float:
    """From the keyframe before to the one after, as if that were one second; before the first: extrapolated."""
    here = seen_from(nusc, sample, sample)
    after = seen_from(nusc, sample, nusc.get("sample", sample["next"])) if sample["next"] else here
    extrapolated = here - (after - here)
    before = seen_from(nusc, sample, nusc.get("sample", sample["prev"])) if sample["prev"] else extrapolated
    return math.hypot(*(after - before)[:2])


def true_displacement_speed(nusc: NuScenes, sample: dict) -> float:
    """The same displacement between the keyframes there are, over the time between them."""
    first = nusc.get("sample", sample["prev"]) if sample["prev"] else sample
    last = nusc.get("sample", sample["next"]) if sample["next"] else sample
    way = seen_from(nusc, sample, last) - seen_from(nusc, sample, first)
    return math.hypot(*way[:2]) / ((last["timestamp"] - first["timestamp"]) / 1e6)


def nearest_speed(messages: list[dict], timestamp: int) -> float:
    """Speed of the message nearest in time, the later one of two equally near."""
    best = messages[0]
    for message in messages[1:]:
        if abs(message["utime"] - timestamp) <= abs(best["utime"] - timestamp):
            best = message
    return best["vel"][0]
