"""nuScenes tables to keyframes with the geometry their questions need, through the official devkit.

Frame: LIDAR_TOP at the keyframe, x right, y forward (spec: nuscenes_qa). LIDAR files are not needed, only their rows.
Image files are not opened here. Source of the steps: hustvl/Senna at cddce26, data_tools/senna_nusc_data_converter.py,
whose per-keyframe loops over devkit boxes are done here with arrays, scene by scene (equal: tests/nuscenes/twins.py).
What that converter takes for granted is checked here, keyframe by keyframe, and ends in ``Sample.not_asked`` or ``Sample.remarks``.
"""

from __future__ import annotations

import os
from bisect import bisect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.nuscenes.builders import Geometry
from senna_autoprune.nuscenes.can_bus import CanBus, believed
from senna_autoprune.nuscenes.frames import Pose
from senna_autoprune.nuscenes.rules import STEP_S, Navigation, navigation_command
from senna_autoprune.nuscenes.splits import scene_key
from senna_autoprune.nuscenes.splits import scenes_of_split as scenes_of_split  # scripts know these two by this address
from senna_autoprune.nuscenes.strings import channel, strings, view_names
from senna_autoprune.nuscenes.tables import LIDAR
from senna_autoprune.nuscenes.tables import load_tables as load_tables
from senna_autoprune.nuscenes.timeline import FUTURE_STEPS, LONGEST_GAP_S, LONGEST_STEP_S, SHORTEST_STEP_S, resampled, steps_ahead
from senna_autoprune.nuscenes.tracks import any_ahead, keyframe_tracks, resampled_tracks, seen

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes

NAVIGATION_STEPS = 12  # keyframes ahead of the navigation target, 6 s

SHORT_FUTURE = "less than six keyframes ahead"
SPACING = "keyframes ahead not 0.5 s apart (see --resample)"
GAP = "a gap in the poses ahead"
NO_BOXES = "no boxes in the scene"
BOXES_END = "before the scene's first box or after its last"
BOXES_GAP = "no box, but the same objects before and after"
UNKNOWN_KIND = "a box of unknown category within 20 m ahead (see --categories)"
TURNED = "LIDAR not mounted x right, y forward: labels in the ego frame"
NO_LIDAR = f"no {LIDAR} row"


@dataclass(frozen=True)
class Sample:
    """One keyframe: where it stands in its scene, its six image files (which may not exist), and its geometry."""

    token: str
    prev: str
    next: str
    scene_token: str
    scene: str  # the name, with the token where two scenes share the name
    timestamp_us: int
    images: dict[str, str]  # view -> path, "" where the tables have no row
    geometry: Geometry
    annotated: bool  # False before the scene's first box, after its last and in gaps: nothing is known of other road users
    speed_source: str  # "can_bus" or "displacement"
    navigation_steps: int  # half seconds between this keyframe and its navigation target, 12 but near a scene's end
    speed_why: str = ""  # why the speed is not the CAN bus's: one of can_bus's reasons
    not_asked: Mapping[str, str] | None = None  # question type -> why it has no answer here
    remarks: tuple[str, ...] = ()  # what was unlike nuScenes and is put right
    unknown_categories: tuple[str, ...] = ()  # of boxes, one for each box


@contextmanager
def rows_present(nusc: NuScenes, asking: str) -> Iterator[None]:
    """A row or channel that ``asking`` needs and the tables do not have, as a SennaPruneError."""
    try:
        yield
    except KeyError as error:
        raise SennaPruneError(
            f"tables in {nusc.table_root}: {asking} needs a row or channel {error} that is not there: unpack them again"
        ) from error


def iter_samples(
    nusc: NuScenes,
    scene: dict[str, Any],
    can_bus: CanBus,
    navigation: Navigation,
    *,
    categories: Mapping[str, str] | None = None,
    resample: bool = False,
    on_lost: Callable[[str], None] = lambda why: None,
) -> Iterator[Sample]:
    """The keyframes of a scene in order.

    ``navigation`` decides the ego vehicle's side alone: ``reference`` takes the command from LIDAR axes, the CAN speed
    only where steering messages exist too, and a displacement over two steps for one second's, as the released
    converter does; ``fixed`` and ``none`` repair these (spec: nuscenes_qa). Boxes and tracks are the same in all three.

    Args:
        categories: the tables' own category names -> ours, beside nuScenes' own.
        resample: take the future from the poses (and boxes) at each half second, not from the keyframes.
        on_lost: called with the reason for each keyframe that has no pose and is left out.
    Raises:
        SennaPruneError: a row leads to one that the tables do not have.
    """
    with rows_present(nusc, scene["name"]):
        yield from _iter_samples(nusc, scene, can_bus, navigation, categories or {}, resample, on_lost)


def _iter_samples(
    nusc: NuScenes,
    scene: dict[str, Any],
    can_bus: CanBus,
    navigation: Navigation,
    categories: Mapping[str, str],
    resample: bool,
    on_lost: Callable[[str], None],
) -> Iterator[Sample]:
    every = keyframes_of(nusc, scene)
    keyframes = [keyframe for keyframe in every if LIDAR in keyframe["data"]]
    for _ in range(len(every) - len(keyframes)):
        on_lost(NO_LIDAR)
    poses = [Pose.of(nusc, keyframe) for keyframe in keyframes]
    path = np.array([pose.lidar_in_global for pose in poses]).reshape(-1, 3)  # (N, 3)
    utimes = np.array([keyframe["timestamp"] for keyframe in keyframes], dtype=np.int64)  # (N,)
    times_s = utimes / 1e6
    boxed = [i for i, keyframe in enumerate(keyframes) if keyframe["anns"]]
    dense = _dense_path(nusc, keyframes, times_s, path) if resample else None
    messages = can_bus.speeds(scene["name"], with_steering=navigation == "reference")
    moved = np.array([_displacement_speed(path, times_s, i, pose, False) for i, pose in enumerate(poses)])
    one_sided = np.isin(np.arange(len(path)), (0, len(path) - 1))
    from_can, why = believed(messages, utimes, moved, one_sided)
    known, key = {**strings()["categories"], **categories}, scene_key(nusc, scene)

    for i, keyframe in enumerate(keyframes):
        if dense is None:
            ahead = poses[i].to_lidar(path[i : i + steps_ahead(times_s, i, NAVIGATION_STEPS) + 1])  # (<= 13, 3), starts with this keyframe
        else:
            ahead = poses[i].to_lidar(resampled(*dense, times_s[i], NAVIGATION_STEPS))  # (<= 13, 3), the same
        complete = min(FUTURE_STEPS, len(ahead) - 1)
        future = ahead[np.minimum(np.arange(FUTURE_STEPS + 1), len(ahead) - 1)]  # (7, 3), last pose repeated
        if np.isnan(from_can[i]):
            speed, source = _displacement_speed(path, times_s, i, poses[i], navigation == "reference"), "displacement"
        else:
            speed, source = from_can[i], "can_bus"
        boxes = [nusc.get("sample_annotation", token) for token in keyframe["anns"]]
        names = [known.get(box["category_name"], box["category_name"]) for box in boxes]
        unknown = [box["category_name"] not in known and box["category_name"] not in nusc.colormap for box in boxes]
        if dense is None:
            tracks = keyframe_tracks(nusc, boxes, keyframe, [k["token"] for k in keyframes[i + 1 : i + 1 + complete]])
        else:
            tracks = resampled_tracks(nusc, boxes, times_s[i])
        box_xy, seen_tracks = seen(boxes, *tracks, poses[i])
        without = None if boxes else _why_no_box(nusc, keyframes, boxed, i)
        not_asked = {}
        if complete < FUTURE_STEPS:
            lasting = times_s[-1] - times_s[i] >= FUTURE_STEPS * STEP_S if resample else len(keyframes) - i > FUTURE_STEPS
            not_asked["plan"] = not_asked["explanation"] = (GAP if resample else SPACING) if lasting else SHORT_FUTURE
            if lasting and boxes:
                not_asked["motion"] = not_asked["plan"]
        if without is not None:
            not_asked["vru"] = not_asked["motion"] = without
        elif any_ahead(box_xy[unknown]):
            not_asked["vru"] = UNKNOWN_KIND
        yield Sample(
            token=keyframe["token"],
            prev=keyframe["prev"],
            next=keyframe["next"],
            scene_token=scene["token"],
            scene=key,
            timestamp_us=keyframe["timestamp"],
            images={view: _image_path(nusc, keyframe, view) for view in view_names()},
            geometry=Geometry(
                box_xy=box_xy,
                names=names,
                tracks=seen_tracks,
                track_masks=tracks[1],
                ego_offsets=(future[1:] - future[:-1])[:, :2].astype(np.float32),  # (6, 2)
                ego_masks=(np.arange(FUTURE_STEPS) < complete).astype(np.float32),  # (6,)
                ego_speed=float(np.float32(speed)),  # through float32, as released: int() can feel it
                command=navigation_command(ahead[-1, :2], navigation),
            ),
            annotated=without is None,
            speed_source=source,
            navigation_steps=len(ahead) - 1,
            speed_why=why[i],
            not_asked=not_asked,
            remarks=(TURNED,) if poses[i].turned else (),
            unknown_categories=tuple(box["category_name"] for box, no in zip(boxes, unknown, strict=True) if no),
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


def _why_no_box(nusc: NuScenes, keyframes: list[dict[str, Any]], boxed: list[int], i: int) -> str | None:
    """Why keyframe i, which has no box, is not annotated; None: its road is empty. boxed: keyframes that have boxes, in order."""
    if not boxed:
        return NO_BOXES
    place = bisect(boxed, i)
    if place in (0, len(boxed)):
        return BOXES_END
    before, after = (
        {nusc.get("sample_annotation", token)["instance_token"] for token in keyframes[j]["anns"]} for j in (boxed[place - 1], boxed[place])
    )
    return BOXES_GAP if before & after else None


def _image_path(nusc: NuScenes, keyframe: dict[str, Any], view: str) -> str:
    token = keyframe["data"].get(channel(view))
    return os.path.join(nusc.dataroot, nusc.get("sample_data", token)["filename"]) if token else ""


def _dense_path(nusc: NuScenes, keyframes: list[dict[str, Any]], times_s: np.ndarray, path: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(P,) times and (P, 3) positions of the LIDAR at the keyframes and, where the tables keep them, at its sweeps between."""
    found = dict(zip(times_s.tolist(), path, strict=True))
    sweeps = nusc.sweeps_of_sample if hasattr(nusc, "sweeps_of_sample") else {}
    for keyframe in keyframes:
        for row in sweeps.get(keyframe["token"], ()):
            found.setdefault(row["timestamp"] / 1e6, Pose.of_file(nusc, row).lidar_in_global)
    times = np.array(sorted(found))
    return times, np.array([found[time] for time in times]).reshape(-1, 3)


def _displacement_speed(path: np.ndarray, times_s: np.ndarray, i: int, pose: Pose, as_released: bool) -> float:
    """Speed in m/s from the keyframes before and after keyframe i; path (N, 3) in global, times_s (N,). NaN if gaps part it from both.

    As released the displacement over both steps is taken for one second's, the step before a scene's first keyframe is
    extrapolated, the one after its last is zero. Otherwise (and where steps are no half seconds) displacement over true time between
    the keyframes there are.
    """
    if len(path) == 1:
        return 0.0  # a scene of one keyframe
    before = i - 1 if i > 0 and 0 < times_s[i] - times_s[i - 1] <= LONGEST_GAP_S else i
    after = i + 1 if i + 1 < len(path) and 0 < times_s[i + 1] - times_s[i] <= LONGEST_GAP_S else i
    if before == after:
        return float("nan")
    start, here, end = pose.to_lidar(path[[before, i, after]])[:, :2]
    steps = np.diff(times_s[max(i - 1, 0) : i + 2])
    if not as_released or np.any((steps < SHORTEST_STEP_S) | (steps > LONGEST_STEP_S)):
        return float(np.linalg.norm(end - start) / (times_s[after] - times_s[before]))
    history = here - start if i > 0 else end - here
    return float(np.sqrt(np.sum((history + (end - here)) ** 2)))
