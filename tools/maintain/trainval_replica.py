"""nuScenes tables as large as v1.0-trainval's, made up, to measure what loading and building cost.

    python tools/maintain/trainval_replica.py --out /tmp/replica                 # 850 scenes, 2.4 GB of tables, two minutes
    python tools/maintain/trainval_replica.py --out /tmp/replica --measure       # what is there: seconds and peak memory
    python tools/maintain/trainval_replica.py --out /tmp/replica --measure devkit

Counts are those of v1.0-trainval: 40 keyframes a scene at 2 Hz, cameras at 12 Hz, LIDAR at 20 Hz, radars at 13 Hz, a pose for each
of 2.6 million files, 1.16 million boxes. Scenes have the real names, so ``--split val`` works; places and boxes are nonsense. No
image, map or CAN file is made: none is read.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

VERSION = "v1.0-trainval"
KEYFRAMES, BOXES, INSTANCE_LENGTH = 40, 34, 18
CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK_RIGHT", "CAM_BACK_LEFT", "CAM_BACK")
RADARS = ("RADAR_FRONT", "RADAR_FRONT_LEFT", "RADAR_FRONT_RIGHT", "RADAR_BACK_LEFT", "RADAR_BACK_RIGHT")
FILES_A_KEYFRAME = {**dict.fromkeys(CAMERAS, 6), "LIDAR_TOP": 10, **dict.fromkeys(RADARS, 6)}
KINDS = ("vehicle.car", "human.pedestrian.adult", "vehicle.bicycle", "movable_object.barrier", "vehicle.truck")
MOVING = "cb5118da1ab342aa947717dc53544259"  # an attribute
MOUNT = [0.7077955119163518, -0.006492242056004365, 0.010646214713995808, -0.7063073142877817]


class Table:
    """A table file, written row by row as nuScenes lays it out: one key a line."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file = (folder / f"{name}.json").open("w", encoding="utf-8")
        self._next = "[\n"

    def add(self, row: dict[str, Any]) -> None:
        self._file.write(self._next + json.dumps(row, indent=0))
        self._next = ",\n"

    def add_text(self, row: str) -> None:
        """A row already in JSON: of the two large tables there are millions."""
        self._file.write(self._next + row)
        self._next = ",\n"

    def close(self) -> None:
        self._file.write("\n]\n")
        self._file.close()


def make(folder: Path, scenes: int, seed: int = 0) -> None:
    """Write the tables of so many scenes to ``folder``."""
    from nuscenes.utils.splits import train, val

    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder.parent / "maps").mkdir(exist_ok=True)
    (folder.parent / "maps" / "none.png").touch()  # the devkit alone asks for it

    def token() -> str:
        return f"{rng.getrandbits(128):032x}"

    names = ("calibrated_sensor", "ego_pose", "scene", "sample", "sample_data", "sample_annotation", "instance", "log", "map")
    tables = {name: Table(folder, name) for name in (*names, "category", "attribute", "visibility", "sensor")}
    kinds, log = {kind: token() for kind in KINDS}, token()
    for kind, key in kinds.items():
        tables["category"].add({"token": key, "name": kind, "description": ""})
    tables["log"].add({"token": log, "logfile": "", "vehicle": "n015", "date_captured": "2018-07-24", "location": "nowhere"})
    tables["map"].add({"token": token(), "log_tokens": [log], "category": "semantic_prior", "filename": "maps/none.png"})
    tables["attribute"].add({"token": MOVING, "name": "vehicle.moving", "description": ""})
    tables["visibility"].add({"token": "4", "level": "v80-100", "description": ""})
    sensors = {channel: token() for channel in FILES_A_KEYFRAME}
    for channel, key in sensors.items():
        tables["sensor"].add({"token": key, "channel": channel, "modality": {"C": "camera", "L": "lidar"}.get(channel[0], "radar")})
    for number, name in enumerate([*train, *val][:scenes]):
        _scene(tables, name, number, log, kinds, sensors, rng, token)
    for table in tables.values():
        table.close()


def _scene(tables: dict[str, Table], name: str, number: int, log: str, kinds: Any, sensors: Any, rng: random.Random, token: Any) -> None:
    start_us = 1_532_402_927_600_000 + number * 60_000_000
    scene, samples = token(), [token() for _ in range(KEYFRAMES)]
    tables["scene"].add(
        {
            "token": scene,
            "log_token": log,
            "nbr_samples": KEYFRAMES,
            "first_sample_token": samples[0],
            "last_sample_token": samples[-1],
            "name": name,
            "description": "Made up",
        }
    )
    for i, (key, before, after) in enumerate(_chain(samples)):
        row = {"token": key, "timestamp": start_us + 500_000 * i, "prev": before, "next": after, "scene_token": scene}
        tables["sample"].add(row)
    speed, bend = rng.uniform(0, 14), rng.uniform(-0.05, 0.05)
    for channel, each in FILES_A_KEYFRAME.items():
        mount = token()
        intrinsic = [[1266.4, 0.0, 816.3], [0.0, 1266.4, 491.5], [0.0, 0.0, 1.0]] if channel in CAMERAS else []
        mounted = {"token": mount, "sensor_token": sensors[channel], "translation": [0.943713, 0.0, 1.84023], "rotation": MOUNT}
        tables["calibrated_sensor"].add({**mounted, "camera_intrinsic": intrinsic})
        kind, width, height = ("jpg", 1600, 900) if channel in CAMERAS else ("pcd", 0, 0)
        for n, (key, before, after) in enumerate(_chain([token() for _ in range(each * (KEYFRAMES - 1) + 1)])):
            us, seconds = start_us + 500_000 * n // each, n / each / 2
            turned = bend * seconds
            x, y = speed * seconds * math.cos(turned / 2) + 1000.0, speed * seconds * math.sin(turned / 2) + 1000.0
            tables["ego_pose"].add_text(
                f'{{\n"token": "{key}",\n"timestamp": {us},\n"rotation": [\n{math.cos(turned / 2)},\n0.0021434844534272707,\n'
                f'-0.011564094980151613,\n{math.sin(turned / 2)}\n],\n"translation": [\n{x},\n{y},\n0.0\n]\n}}'
            )
            whole = n % each == 0
            tables["sample_data"].add_text(
                f'{{\n"token": "{key}",\n"sample_token": "{samples[round(n / each)]}",\n"ego_pose_token": "{key}",\n'
                f'"calibrated_sensor_token": "{mount}",\n"timestamp": {us},\n"fileformat": "{kind}",\n"is_key_frame": '
                f'{"true" if whole else "false"},\n"height": {height},\n"width": {width},\n"filename": "{"samples" if whole else "sweeps"}'
                f'/{channel}/n015-2018-07-24-11-22-45+0800__{channel}__{us}.{kind}",\n"prev": "{before}",\n"next": "{after}"\n}}'
            )
    for _ in range(BOXES * KEYFRAMES // INSTANCE_LENGTH):
        first = rng.randrange(KEYFRAMES - INSTANCE_LENGTH + 1)
        instance, chain = token(), [token() for _ in range(INSTANCE_LENGTH)]
        row = {"token": instance, "category_token": kinds[rng.choice(KINDS)], "nbr_annotations": INSTANCE_LENGTH}
        tables["instance"].add({**row, "first_annotation_token": chain[0], "last_annotation_token": chain[-1]})
        x, y, yaw, v = rng.uniform(-40, 40), rng.uniform(-40, 40), rng.uniform(-3, 3), rng.choice((0.0, 0.0, rng.uniform(1, 12)))
        for i, (key, before, after) in enumerate(_chain(chain), first):
            ahead, gone = speed * i / 2 * math.cos(bend * i / 4) + 1000.0, v * i / 2
            tables["sample_annotation"].add_text(
                f'{{\n"token": "{key}",\n"sample_token": "{samples[i]}",\n"instance_token": "{instance}",\n"visibility_token": "4",\n'
                f'"attribute_tokens": [\n"{MOVING}"\n],\n"translation": [\n{ahead + x + gone * math.cos(yaw):.3f},\n'
                f'{1000 + y + gone * math.sin(yaw):.3f},\n0.8\n],\n"size": [\n0.621,\n0.669,\n1.642\n],\n"rotation": [\n'
                f'{math.cos(yaw / 2)},\n0.0,\n0.0,\n{math.sin(yaw / 2)}\n],\n"prev": "{before}",\n"next": "{after}",\n"num_lidar_pts": 1,\n'
                f'"num_radar_pts": 0\n}}'
            )


def _chain(tokens: list[str]) -> Iterable[tuple[str, str, str]]:
    return zip(tokens, ["", *tokens], [*tokens[1:], ""], strict=False)


def measure(root: Path, loader: str) -> None:
    """Load (with ``devkit``: the devkit alone), say seconds on the clock and of CPU, and peak memory. Importing is no part of loading."""
    from nuscenes.nuscenes import NuScenes

    from senna_autoprune.nuscenes import devkit  # noqa: F401  # what load_tables imports

    started, spent = time.perf_counter(), time.process_time()
    if loader == "devkit":
        nusc = NuScenes(VERSION, str(root), verbose=False)
    else:
        from senna_autoprune.nuscenes.scenes import load_tables

        nusc = load_tables(root, VERSION)
    took = time.perf_counter() - started
    used = time.process_time() - spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{loader}: {len(nusc.scene)} scenes, {len(nusc.sample_data)} files' rows, {took:.1f} s, {used:.1f} s of CPU, peak {peak:.2f} GiB"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="data root to make")
    parser.add_argument("--scenes", type=int, default=850)
    parser.add_argument("--measure", nargs="*", choices=("devkit", "ours"), help="load what is there, each in a process of its own")
    parser.add_argument("--here", choices=("devkit", "ours"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        measure(options.out, options.here)
        return 0
    if options.measure is None:
        make(options.out / VERSION, options.scenes)
        print(f"{sum(path.stat().st_size for path in (options.out / VERSION).iterdir()) / 1e9:.2f} GB in {options.out / VERSION}")
        return 0
    codes = [
        subprocess.run([sys.executable, __file__, "--out", str(options.out), "--here", loader]).returncode
        for loader in options.measure or ("devkit", "ours")
    ]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
