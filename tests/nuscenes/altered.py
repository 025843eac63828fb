"""Real tables of two scenes, cut out once and written with something altered: data a little unlike nuScenes."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.fixtures import shared

VERSION = "v1.0-mini"
SCENES = ("scene-0103", "scene-0916")
Tables = dict[str, list[dict[str, Any]]]


@lru_cache(maxsize=1)
def excerpt() -> Tables:
    """The rows of v1.0-mini that belong to the two scenes of mini_val."""
    folder = shared("nuscenes", "mini_meta") / VERSION
    tables = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    scenes = {row["token"] for row in tables["scene"] if row["name"] in SCENES}
    tables["scene"] = [row for row in tables["scene"] if row["token"] in scenes]
    tables["sample"] = [row for row in tables["sample"] if row["scene_token"] in scenes]
    samples = {row["token"] for row in tables["sample"]}
    for name in ("sample_data", "sample_annotation"):
        tables[name] = [row for row in tables[name] if row["sample_token"] in samples]
    for name, key in (("ego_pose", "ego_pose_token"), ("calibrated_sensor", "calibrated_sensor_token")):
        kept = {row[key] for row in tables["sample_data"]}
        tables[name] = [row for row in tables[name] if row["token"] in kept]
    kept = {row["instance_token"] for row in tables["sample_annotation"]}
    tables["instance"] = [row for row in tables["instance"] if row["token"] in kept]
    return tables


def write(root: Path, change: Callable[[Tables], Any] = lambda tables: None) -> Path:
    """A data root with the excerpt after ``change``, and its CAN messages (links)."""
    tables = copy.deepcopy(excerpt())
    change(tables)
    (root / VERSION).mkdir(parents=True)
    (root / "can_bus").mkdir()
    for name, rows in tables.items():
        (root / VERSION / f"{name}.json").write_text(json.dumps(rows))
    for scene in SCENES:
        os.symlink(shared("nuscenes", "mini_meta") / "can_bus" / f"{scene}_pose.json", root / "can_bus" / f"{scene}_pose.json")
    return root


def messages(scene: str) -> list[dict[str, Any]]:
    """The CAN pose messages of a scene."""
    return json.loads((shared("nuscenes", "mini_meta") / "can_bus" / f"{scene}_pose.json").read_text())


def scene_rows(tables: Tables, name: str) -> list[dict[str, Any]]:
    """The samples of a scene in order of time."""
    (token,) = {row["token"] for row in tables["scene"] if row["name"] == name}
    return sorted((row for row in tables["sample"] if row["scene_token"] == token), key=lambda row: row["timestamp"])
