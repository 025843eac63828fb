"""nuScenes tables with missing, wrong, endless and impossible content."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.hostile.case import FAILED_SAMPLES, Corpus, Place
from tests.hostile.world import VERSION

CASES = Corpus("tables")
Row = dict[str, Any]
NOT_A_NUMBER = float("nan")
HUGE = 10**30


def build(root: Path) -> list[str]:
    """The command line that builds questions of all geometric types."""
    argv = ["questions", "build", "--dataroot", str(root), "--version", VERSION, "--split", "all"]
    return [*argv, "--types", "plan,vru,motion", "--out", "run/out.json"]


def _edit(place: Place, table: str, change: Callable[[list[Row]], Any]) -> Path:
    """The good tables with one of them changed (in place, or replaced by what ``change`` returns)."""
    root = place.tables()
    place.run.mkdir()
    path = root / VERSION / f"{table}.json"
    rows = json.loads(path.read_text())
    changed = change(rows)
    path.write_text(json.dumps(rows if changed is None else changed))
    return root


def _table(name: str, table: str, change: Callable[[list[Row]], Any], line: str, *codes: int) -> None:
    CASES.add(name, lambda place: build(_edit(place, table, change)), line, *codes)


def _every(**changes: Any) -> Callable[[list[Row]], None]:
    """Every row with other values."""
    return lambda rows: [row.update(changes) for row in rows] and None


def _without(key: str) -> Callable[[list[Row]], None]:
    return lambda rows: [row.pop(key) for row in rows] and None


def _raw(name: str, table: str, content: Callable[[], bytes | str], line: str) -> None:
    """A table file with other bytes."""

    def make(place: Place) -> list[str]:
        root = place.tables()
        place.run.mkdir()
        data = content()
        (root / VERSION / f"{table}.json").write_bytes(data if isinstance(data, bytes) else data.encode())
        return build(root)

    CASES.add(name, make, line)


# --- files ------------------------------------------------------------------------------------------------------------

LOAD = rf"cannot load nuScenes {VERSION} from .*input/nusc|a table in .*{VERSION} is not valid JSON"
_raw("table cut off", "sample", lambda: '[{"token": "a"', LOAD)
_raw("empty table file", "scene", lambda: "", LOAD)
_raw("table is an object", "sample", lambda: '{"token": "a"}', LOAD)
_raw("table is a number", "ego_pose", lambda: "7", LOAD)
_raw("table of numbers", "sample_data", lambda: "[1, 2, 3]", LOAD)
_raw("table of null", "calibrated_sensor", lambda: "[null]", LOAD)
_raw("table is no UTF-8", "scene", lambda: b"\xff\xfe[\x00]\x00", LOAD)
_raw("table nested beyond all depth", "log", lambda: "[" * 100_000, LOAD)
_raw("table with an integer of 10,000 digits", "sample", lambda: f'[{{"timestamp": {"9" * 10_000}}}]', LOAD)
_raw("table with a lone surrogate", "scene", lambda: '[{"name": "\\ud800"}]', LOAD)
_raw("empty list of scenes", "scene", lambda: "[]", r"none of the 0 scenes|no scene")
_raw("empty list of samples", "sample", lambda: "[]", r"lack|cannot load")
_raw("empty list of sensors", "sensor", lambda: "[]", LOAD)


@CASES.case("table file missing", LOAD)
def _missing(place: Place) -> list[str]:
    root = place.tables()
    (root / VERSION / "ego_pose.json").unlink()
    return build(root)


@CASES.case("table file is a folder", LOAD)
def _folder(place: Place) -> list[str]:
    root = place.tables()
    (root / VERSION / "ego_pose.json").unlink()
    (root / VERSION / "ego_pose.json").mkdir()
    return build(root)


@CASES.case("table file is a link to itself", LOAD)
def _link(place: Place) -> list[str]:
    root = place.tables()
    (root / VERSION / "scene.json").unlink()
    (root / VERSION / "scene.json").symlink_to("scene.json")
    return build(root)


NOT_NEEDED = "questions about 9 of 9 samples"


@CASES.case("map masks and their table missing", NOT_NEEDED, 0)
def _maps(place: Place) -> list[str]:
    root = place.tables()
    place.run.mkdir()
    shutil.rmtree(root / "maps")
    (root / VERSION / "map.json").unlink()
    return build(root)


@CASES.case("no such version", r"cannot load nuScenes \.\./\.\./etc from")
def _version(place: Place) -> list[str]:
    argv = build(place.tables())
    argv[argv.index(VERSION)] = "../../etc"
    return argv


@CASES.case("data root is a file", r"cannot load nuScenes")
def _file(place: Place) -> list[str]:
    return build(place.canary)


# --- rows that lack something -----------------------------------------------------------------------------------------

for table, keys in {
    "scene": ("token", "name", "first_sample_token", "nbr_samples", "description", "log_token"),
    "sample": ("token", "timestamp", "next", "prev", "scene_token"),
    "sample_data": ("token", "filename", "ego_pose_token", "calibrated_sensor_token", "sample_token", "is_key_frame"),
    "ego_pose": ("translation", "rotation"),
    "calibrated_sensor": ("translation", "rotation", "sensor_token"),
    "sample_annotation": ("translation", "rotation", "next", "instance_token", "sample_token"),
    "instance": ("category_token",),
    "category": ("name",),
    "sensor": ("channel",),
    "log": ("location",),
}.items():
    for key in keys:
        _table(f"{table} without {key}", table, _without(key), rf"(cannot load nuScenes|tables in ).*{key}")
for table, key in {
    "scene": "log_token",
    "sample": "next",
    "sample_data": "calibrated_sensor_token",
    "calibrated_sensor": "sensor_token",
    "sample_annotation": "next",
    "instance": "category_token",
}.items():
    _table(f"{key} of {table} leads nowhere", table, _every(**{key: "no-such-token"}), r"(cannot load nuScenes|tables in ).*no-such-token")

# --- chains without an end --------------------------------------------------------------------------------------------

ENDLESS = r"tables in .*comes round again"
_table("a sample is its own next", "sample", lambda rows: rows[3].update(next=rows[3]["token"]), ENDLESS)
_table("the last sample leads to the first", "sample", lambda rows: rows[-1].update(next=rows[0]["token"]), ENDLESS)
_table("two samples lead to each other", "sample", lambda rows: rows[4].update(next=rows[3]["token"]), ENDLESS)
_table("a box is its own next", "sample_annotation", lambda rows: [r.update(next=r["token"]) for r in rows] and None, ENDLESS)
_table(
    "samples share a token",
    "sample",
    lambda rows: [row.update(token=rows[0]["token"]) for row in rows] and None,
    r"cannot load nuScenes",
)


@CASES.case("a replayed scene that never ends", ENDLESS)
def _replay(place: Place) -> list[str]:
    root = _edit(place, "sample", lambda rows: rows[-1].update(next=rows[0]["token"]))
    return ["replay", "--model", str(place.world.checkpoint), "--dataroot", str(root), "--retention", "0.6", "--out", "run"]


@CASES.case("a replayed scene that never ends, by name", ENDLESS)
def _replay_named(place: Place) -> list[str]:
    return [*_replay(place), "--scene", "scene-9001"]


# --- values of the wrong kind -----------------------------------------------------------------------------------------

WRONG = r"(cannot load nuScenes|tables in ).*"
for table, key, value in (
    ("scene", "name", 7),
    ("scene", "name", None),
    ("scene", "name", ["scene-9001"]),
    ("scene", "nbr_samples", "nine"),
    ("scene", "nbr_samples", HUGE),
    ("scene", "nbr_samples", -5),
    ("scene", "first_sample_token", 7),
    ("scene", "first_sample_token", {"a": 1}),
    ("scene", "description", {"a": "rain"}),
    ("sample", "timestamp", "noon"),
    ("sample", "timestamp", None),
    ("sample", "timestamp", HUGE),
    ("sample", "timestamp", NOT_A_NUMBER),
    ("sample", "timestamp", [1]),
    ("sample", "next", 7),
    ("sample", "next", ["a"]),
    ("sample", "token", {"a": 1}),
    ("sample_data", "filename", 7),
    ("sample_data", "filename", None),
    ("sample_data", "filename", ["a.jpg"]),
    ("sample_data", "is_key_frame", False),
    ("sample_data", "ego_pose_token", []),
    ("ego_pose", "translation", None),
    ("ego_pose", "translation", "here"),
    ("ego_pose", "translation", [1.0, 2.0]),
    ("ego_pose", "translation", [1.0, 2.0, "3"]),
    ("ego_pose", "translation", [[1, 2, 3]]),
    ("ego_pose", "rotation", [1.0]),
    ("ego_pose", "rotation", []),
    ("ego_pose", "rotation", [0.0, 0.0, 0.0, 0.0]),
    ("ego_pose", "rotation", ["a", "b", "c", "d"]),
    ("ego_pose", "rotation", 3.5),
    ("calibrated_sensor", "translation", {"x": 1}),
    ("calibrated_sensor", "rotation", None),
    ("sample_annotation", "translation", [1]),
    ("sample_annotation", "translation", "x"),
    ("sample_annotation", "rotation", [0, 0, 0, 0]),
    ("sample_annotation", "rotation", [1, 2, 3, 4, 5]),
    ("sample_annotation", "next", 5),
    ("category", "name", 5),
    ("category", "name", None),
    ("log", "location", 5),
):
    shown = "10**30" if value == HUGE else repr(value)
    _table(f"{key} of {table} is {shown}", table, _every(**{key: value}), WRONG)


_table("a map mask that leads out of the folder", "map", _every(filename="../../home/canary.txt", log_tokens=7), NOT_NEEDED, 0)

# --- poses that are no numbers: nothing is asked about them, and that is counted --------------------------------------

NOT_ASKED = r"not asked: \d+ plan questions, position or speed not a number"
_table("ego positions are NaN", "ego_pose", _every(translation=[NOT_A_NUMBER] * 3), NOT_ASKED, 0)
_table("ego positions are infinite", "ego_pose", _every(translation=[float("inf")] * 3), NOT_ASKED, 0)
_table("ego positions are 1e308", "ego_pose", _every(translation=[1e308] * 3), WRONG + "translation")
_table("ego rotations are NaN", "ego_pose", _every(rotation=[NOT_A_NUMBER] * 4), WRONG + "rotation")
_table("LIDAR mount is NaN", "calibrated_sensor", _every(translation=[NOT_A_NUMBER] * 3), NOT_ASKED, 0)
_table("box positions are NaN", "sample_annotation", _every(translation=[NOT_A_NUMBER] * 3), r"not asked: \d+ (vru|motion) questions", 0)


@CASES.case("replayed poses are NaN", r"position or speed is not a number")
def _replay_nan(place: Place) -> list[str]:
    root = _edit(place, "ego_pose", _every(translation=[NOT_A_NUMBER] * 3))
    return ["replay", "--model", str(place.world.checkpoint), "--dataroot", str(root), "--retention", "0.6", "--out", "run"]


def _replayed(name: str, table: str, change: Callable[[list[Row]], Any], line: str, *codes: int) -> None:
    """The same tables through a replay, which needs more of them."""

    def make(place: Place) -> list[str]:
        root = _edit(place, table, change)
        model = ["--model", str(place.world.checkpoint), "--retention", "0.6", "--limit", "1"]
        return ["replay", *model, "--dataroot", str(root), "--out", "run"]

    CASES.add(f"replay: {name}", make, line, *codes)


_replayed("intrinsics of one number", "calibrated_sensor", _every(camera_intrinsic=[1.0]), WRONG)
_replayed("intrinsics are texts", "calibrated_sensor", _every(camera_intrinsic=[["a"] * 3] * 3), WRONG)
_replayed("box without size", "sample_annotation", _without("size"), WRONG)
_replayed("box of two sizes", "sample_annotation", _every(size=[1.0, 2.0]), WRONG)
_replayed("box size is a text", "sample_annotation", _every(size="large"), WRONG)
_replayed("image size is a text", "sample_data", _every(width="wide", height="high"), WRONG)
_replayed("camera without channel row", "sample_data", lambda rows: [r for r in rows if "CAM_BACK/" not in r["filename"]], WRONG)
_replayed("timestamps before all time", "sample", _every(timestamp=-5), WRONG + "timestamp")
_replayed("timestamps beyond all time", "sample_data", _every(timestamp=2**62), WRONG + "timestamp")
_replayed("no scenes", "scene", lambda rows: [], r"no keyframe|no scene")
_replayed("no images", "sample_data", _every(filename="samples/none.jpg"), r"no keyframe .* has all six image files")
_replayed(
    "image paths outside", "sample_data", _every(filename="../../home/canary.txt"), r"not one frame could be asked: broken image: .*canary"
)


def _drawn(name: str, table: str, change: Callable[[list[Row]], Any], line: str, *codes: int) -> None:
    """The same tables through the picture of a sample."""

    def make(place: Place) -> list[str]:
        root = _edit(place, table, change)
        built = place.world.folder / "built.json"
        token = json.loads(built.read_text())[0]["token"]
        tables = ["--dataroot", str(root), "--version", VERSION]
        return ["questions", "inspect", str(built), "--image", token, "run/x.png", *tables]

    CASES.add(f"draw: {name}", make, line, *codes)


_drawn("missing images of 10**9 x 10**9", "sample_data", _every(filename="none.jpg", width=10**9, height=10**9), WRONG)
_drawn("missing images of negative size", "sample_data", _every(filename="none.jpg", width=-1, height=-1), WRONG)
_drawn("image size is null", "sample_data", _every(filename="none.jpg", width=None, height=None), WRONG)
_drawn("no such sample", "sample", lambda rows: rows[3:], r"lack|has no sample|cannot load")
_drawn("boxes are NaN", "sample_annotation", _every(translation=[NOT_A_NUMBER] * 3, size=[NOT_A_NUMBER] * 3), WRONG)
_drawn("boxes of 10**30 m", "sample_annotation", _every(size=[1e30] * 3), WRONG)
_drawn(
    "path of 600,000 km",
    "ego_pose",
    lambda rows: [r.update(translation=[1e8 * (i % 2), 0, 0]) for i, r in enumerate(rows)] and None,
    WRONG + "possible number",
)
_drawn("path is NaN", "ego_pose", _every(translation=[NOT_A_NUMBER] * 3), WRONG)


# --- CAN messages: a fallback that is counted, never a fault -----------------------------------------------------------


def _can(name: str, content: str) -> None:
    def make(place: Place) -> list[str]:
        root = place.tables()
        place.run.mkdir()
        (root / "can_bus").mkdir(exist_ok=True)
        (root / "can_bus" / "scene-9001_pose.json").write_text(content)
        return build(root)

    CASES.add(f"CAN messages: {name}", make, r"fallback to displacement for 9", 0)


_can("speed is NaN", '[{"utime": 1, "vel": [NaN]}]')
_can("nested beyond all depth", "[" * 100_000)
_can("speed is a text", '[{"utime": 1, "vel": ["fast"]}]')
_can("time is huge", f'[{{"utime": {HUGE}, "vel": [1.0]}}]')
_can("an integer of 10,000 digits", "[" + "9" * 10_000 + "]")


@CASES.case("out is in a folder that is a link to nowhere", r"cannot write .*choose another --out")
def _out(place: Place) -> list[str]:
    os.symlink("nowhere", place.run)
    return build(place.world.tables)


@CASES.case("scene named like a path out of the folder", r"not one frame could be asked|none of its|fallback", 0, FAILED_SAMPLES, 2)
def _scene_name(place: Place) -> list[str]:
    return build(_edit(place, "scene", _every(name="../../../home/canary")))
