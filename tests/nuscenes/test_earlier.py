"""Images before a keyframe: keyframes and sweeps by time, against a twin that looks at every row."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from senna_autoprune import SennaPruneError
from senna_autoprune.nuscenes.earlier import NEAR_S, earlier_images
from senna_autoprune.nuscenes.tables import load_tables
from tests.nuscenes.altered import VERSION, scene_rows, write

CAMERAS, FRAMES = ("CAM_FRONT", "CAM_BACK"), (-1.5, -1.0, -0.8, -0.5, -0.2)


def with_sweeps(tables: dict[str, list[dict[str, Any]]]) -> None:
    """Between the keyframes of one scene two more images of each camera, as nuScenes has them at 12 Hz."""
    samples = {row["token"] for row in scene_rows(tables, "scene-0103")[:6]}
    for row in [row for row in tables["sample_data"] if row["sample_token"] in samples and "CAM_" in row["filename"]]:
        for number, before in enumerate((170_000, 330_000)):
            sweep = {**copy.deepcopy(row), "token": f"{row['token']}-{number}", "is_key_frame": False}
            sweep["timestamp"] = row["timestamp"] - before
            sweep["filename"] = row["filename"].replace("samples/", "sweeps/") + f"-{number}.jpg"
            tables["sample_data"].append(sweep)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All images of the scene are there, as empty files, but for one sweep in five."""
    root = write(tmp_path_factory.mktemp("earlier") / "data", with_sweeps)
    rows = json.loads((root / VERSION / "sample_data.json").read_text())
    for number, row in enumerate(row for row in rows if "CAM_" in row["filename"]):
        if row["is_key_frame"] or number % 5:
            (root / row["filename"]).parent.mkdir(parents=True, exist_ok=True)
            (root / row["filename"]).touch()
    return root


def twin(root: Path, token: str) -> dict[tuple[str, float], str]:
    """Every row of the scene's camera is looked at, for every frame."""
    tables = {name: json.loads((root / VERSION / f"{name}.json").read_text()) for name in ("sample_data", "sample")}
    scenes = {row["token"]: row["scene_token"] for row in tables["sample"]}
    found = {}
    for camera in CAMERAS:
        mine = [row for row in tables["sample_data"] if f"/{camera}/" in row["filename"] and scenes[row["sample_token"]] == scenes[token]]
        (now,) = [row["timestamp"] for row in mine if row["sample_token"] == token and row["is_key_frame"]]
        for frame in FRAMES:
            best, nearest = None, NEAR_S
            for row in mine:
                away = abs((row["timestamp"] - now) / 1e6 - frame)
                if row["timestamp"] < now and away <= nearest and (root / row["filename"]).is_file():
                    best, nearest = str(root / row["filename"]), away
            if best is not None:
                found[camera, frame] = best
    return found


def test_the_nearest_in_time_sweeps_included(root: Path) -> None:
    nusc = load_tables(root, VERSION)
    tokens = [row["token"] for row in scene_rows({"scene": nusc.scene, "sample": nusc.sample}, "scene-0103")[:6]]
    found = earlier_images(nusc, tokens, CAMERAS, FRAMES)
    assert found == {token: twin(root, token) for token in tokens}
    assert any("sweeps" in path for path in found[tokens[4]].values()) and any("samples" in path for path in found[tokens[4]].values())
    assert {frame for _, frame in found[tokens[5]]} >= {-1.5, -1.0, -0.5} and len(found[tokens[5]]) > len(found[tokens[0]])


def test_without_a_folder_of_sweeps_keyframes_do(root: Path, tmp_path: Path) -> None:
    for name in (VERSION, "samples", "can_bus"):
        (tmp_path / name).symlink_to(root / name)
    nusc = load_tables(tmp_path, VERSION)
    tokens = [row["token"] for row in scene_rows({"scene": nusc.scene, "sample": nusc.sample}, "scene-0103")[:6]]
    found = earlier_images(nusc, tokens, CAMERAS, FRAMES)
    assert {frame for _, frame in found[tokens[5]]} == {-1.5, -1.0, -0.5} and found[tokens[0]] == {}
    assert not any("sweeps" in path for one in found.values() for path in one.values())
    with pytest.raises(SennaPruneError, match="nowhere"):
        earlier_images(nusc, ["nowhere"], CAMERAS, FRAMES)
