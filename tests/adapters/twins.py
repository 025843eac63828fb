"""Slow, obvious versions of the waypoint measures: loops over points, the devkit's own boxes, polygons clipped by hand."""

from __future__ import annotations

import math

import numpy as np
from nuscenes.utils.data_classes import Box
from pyquaternion import Quaternion


def lidar_of(nusc, sample):
    data = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
    return nusc.get("ego_pose", data["ego_pose_token"]), nusc.get("calibrated_sensor", data["calibrated_sensor_token"])


def into_lidar(box: Box, nusc, sample) -> Box:
    """A global box in a sample's LIDAR frame, as the devkit moves boxes."""
    pose, mount = lidar_of(nusc, sample)
    for place in (pose, mount):
        box.translate(-np.array(place["translation"]))
        box.rotate(Quaternion(place["rotation"]).inverse)
    return box


def future(nusc, token, steps=6):
    """[(x, y) or None] of the LIDAR and [[four corners]] of road users, half second by half second."""
    start = nusc.get("sample", token)
    sample, path, boxes = start, [], []
    for _ in range(steps):
        if sample is None or not sample["next"]:
            sample = None
            path.append(None)
            boxes.append([])
            continue
        sample = nusc.get("sample", sample["next"])
        pose, mount = lidar_of(nusc, sample)
        place = Quaternion(pose["rotation"]).rotate(np.array(mount["translation"])) + np.array(pose["translation"])
        moved = into_lidar(Box(list(place), [1, 1, 1], Quaternion()), nusc, start)
        path.append((moved.center[0], moved.center[1]))
        found = []
        for annotation in sample["anns"]:
            name = nusc.get("sample_annotation", annotation)["category_name"]
            if name.split(".")[0] in ("vehicle", "human"):
                box = into_lidar(nusc.get_box(annotation), nusc, start)
                ahead = box.orientation.rotation_matrix[:, 0]
                yaw = math.atan2(ahead[1], ahead[0])
                found.append(corners(box.center[0], box.center[1], box.wlh[1], box.wlh[0], yaw))
        boxes.append(found)
    return path, boxes


def corners(x, y, length, width, yaw):
    ahead, left = (math.cos(yaw), math.sin(yaw)), (-math.sin(yaw), math.cos(yaw))
    places = []
    for forth, side in ((1, 1), (-1, 1), (-1, -1), (1, -1)):
        a, b = forth * length / 2, side * width / 2
        places.append((x + a * ahead[0] + b * left[0], y + a * ahead[1] + b * left[1]))
    return places


def overlap_area(one, other) -> float:
    """Area two convex polygons share: one is clipped by every edge of the other (both counterclockwise)."""
    shape = list(one)
    for index, start in enumerate(other):
        end = other[(index + 1) % len(other)]

        def side(point, start=start, end=end):
            return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])

        kept = []
        for place, point in enumerate(shape):
            before = shape[place - 1]
            if (side(point) >= 0) != (side(before) >= 0):
                share = side(before) / (side(before) - side(point))
                kept.append((before[0] + share * (point[0] - before[0]), before[1] + share * (point[1] - before[1])))
            if side(point) >= 0:
                kept.append(point)
        shape = kept
        if not shape:
            return 0.0
    return 0.5 * abs(sum(shape[i - 1][0] * shape[i][1] - shape[i][0] * shape[i - 1][1] for i in range(len(shape))))


def struck(plan, boxes, turned=True):
    """For each step whether the car overlaps a box."""
    hits, heading, before = [], math.pi / 2, (0.0, 0.0)
    for (x, y), near in zip(plan, boxes, strict=False):
        if turned and math.hypot(x - before[0], y - before[1]) >= 0.1:
            heading = math.atan2(y - before[1], x - before[0])
        before = (x, y)
        car = corners(x + 0.5 * math.cos(heading), y + 0.5 * math.sin(heading), 4.084, 1.85, heading)
        hits.append(any(overlap_area(car, box) > 1e-9 for box in near))
    return hits


def row(plan, path, boxes, turned=True):
    """The measures of a plan of six half seconds, by name."""
    found = {}
    hits = struck(plan, boxes, turned)
    complete = 0
    while complete < len(path) and path[complete] is not None:
        complete += 1
    truly = struck(path[:complete], boxes, turned)
    for seconds in (1, 2, 3):
        steps = 2 * seconds
        if complete < steps or len(plan) < steps:
            values = dict.fromkeys(("l2_uniad", "l2_stp3", "collision_uniad", "collision_stp3"))
        else:
            gaps = [math.hypot(plan[i][0] - path[i][0], plan[i][1] - path[i][1]) for i in range(steps)]
            mine = [float(hits[i] and not truly[i]) for i in range(steps)]
            values = {"l2_uniad": gaps[-1], "l2_stp3": sum(gaps) / steps, "collision_uniad": mine[-1], "collision_stp3": sum(mine) / steps}
        found.update({f"{name}_{seconds}s": value for name, value in values.items()})
    return found
