"""Where evidence comes from: an evidence file (a renderer's), nuScenes boxes projected into the views, or DriveLM's key objects.

Boxes are what an annotation says, not what is visible: an object behind another counts where its box is. nuScenes' own visibility level
leaves out what is mostly hidden.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.json_files import read_json
from senna_autoprune.nuscenes.questions_file import read_sidecar
from senna_autoprune.nuscenes.scenes import load_tables, rows_present
from senna_autoprune.nuscenes.strings import channel, view_names
from senna_autoprune.replay.sources import find_version
from senna_autoprune.survival.evidence import Evidence, Region, evidence_of

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes

EvidenceOf = Callable[[str], Sequence[Evidence]]  # by sample token

FORMAT, BESIDE = "senna-prune evidence 1", "evidence.json"
NEAR_M = 0.1  # what is nearer to the camera's plane is cut off
LEAST_VISIBLE = 2  # nuScenes' visibility level: 1 is 0-40 %, 2 is 40-60 %
DRIVELM_SIZE = (1600.0, 900.0)
_EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))  # of the devkit's eight corners
_TAG = re.compile(r"<[^,<>]+,\s*(CAM_[A-Z_]+)\s*,[^<>]*>")
_DRIVELM = {"vehicle": "vehicle", "pedestrian": "pedestrian", "cyclist": "cyclist", "traffic element": "light", "traffic cone": "cone"}


def class_of(category: str) -> str:
    """A nuScenes category as one of ``evidence.CLASSES``."""
    if category.startswith("human.pedestrian"):
        return "pedestrian"
    if category in ("vehicle.bicycle", "vehicle.motorcycle"):
        return "cyclist"
    if category.startswith("vehicle."):
        return "vehicle"
    return "cone" if category == "movable_object.trafficcone" else "other"


def projected(corners: NDArray[Any], intrinsic: NDArray[Any], size: tuple[int, int]) -> tuple[float, float, float, float] | None:
    """The rectangle that a box covers in a picture, as shares of its width and height; None where it is not in it.

    Args:
        corners: (3, 8) in the camera's frame, z ahead, in the devkit's order. Edges are cut at ``NEAR_M``.
        size: width, height in pixels.
    """
    points = []
    for a, b in ((corners[:, i], corners[:, j]) for i, j in _EDGES):
        if max(a[2], b[2]) <= NEAR_M:
            continue
        if min(a[2], b[2]) < NEAR_M:
            near, far = (a, b) if a[2] < b[2] else (b, a)
            cut = near + (far - near) * (NEAR_M - near[2]) / (far[2] - near[2])
            a, b = cut, far
        points += [a, b]
    if not points:
        return None
    pixels = np.stack(points) @ intrinsic.T
    shares = pixels[:, :2] / pixels[:, 2:] / size
    left, top = shares.min(0).clip(0, 1)
    right, bottom = shares.max(0).clip(0, 1)
    return (float(left), float(top), float(right), float(bottom)) if right > left and bottom > top else None


def nuscenes_evidence(nusc: NuScenes, token: str, least_visible: int = LEAST_VISIBLE) -> list[Evidence]:
    """The annotated objects of a sample that are in one of its six views.

    Args:
        least_visible: nuScenes' visibility level (1 to 4) below which an object is left out.
    Raises:
        SennaPruneError: the tables lack the sample or one of its rows.
    """
    from nuscenes.utils.geometry_utils import BoxVisibility

    regions: dict[str, list[Region]] = {}
    with rows_present(nusc, f"sample {token}"):
        sample = nusc.get("sample", token)
        for view in view_names():
            data = sample["data"][channel(view)]
            row = nusc.get("sample_data", data)
            _, boxes, intrinsic = nusc.get_sample_data(data, box_vis_level=BoxVisibility.NONE)
            for box in boxes:
                rectangle = projected(box.corners(), intrinsic, (row["width"], row["height"]))
                if rectangle is not None:
                    regions.setdefault(box.token, []).append(Region(view, *rectangle))
        lidar = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
        ego = np.array(nusc.get("ego_pose", lidar["ego_pose_token"])["translation"])
        found = []
        for annotation, places in regions.items():
            box = nusc.get("sample_annotation", annotation)
            level = box.get("visibility_token")
            if level and str(level).isdigit() and int(level) < least_visible:
                continue
            distance = float(np.linalg.norm(np.array(box["translation"])[:2] - ego[:2]))
            found.append(Evidence(class_of(box["category_name"]), tuple(places), distance))
    return found


def find_evidence(
    questions: str | Path,
    dataroot: str | None = None,
    version: str | None = None,
    file: str | None = None,
    least_visible: int | None = None,
) -> tuple[EvidenceOf, str]:
    """Evidence by sample token, and where it comes from in words.

    Args:
        questions: the question file. Where nothing else is said and an ``evidence.json`` lies beside it, as beside a renderer's, that
            says what was seen; else boxes of the tables that it was made from.
        dataroot, version: of other tables. file: of ``read_evidence``. least_visible: of ``nuscenes_evidence``; boxes are meant.
    Raises:
        SennaPruneError: the file or the tables are missing or broken.
    """
    beside = Path(questions).parent / BESIDE
    if file is dataroot is version is least_visible is None and beside.is_file():
        file = str(beside)
    if file is not None:
        known = read_evidence(file)
        return lambda token: known.get(token, []), file
    sidecar = read_sidecar(questions)
    version = version or sidecar.get("data", {}).get("version")
    dataroot = dataroot or sidecar.get("dataroot") or str(Path(questions).parent)
    version = version or find_version(dataroot)
    nusc = load_tables(dataroot, version)
    level = LEAST_VISIBLE if least_visible is None else least_visible
    return lambda token: nuscenes_evidence(nusc, token, level), f"boxes of {version} in {dataroot}"


def read_evidence(path: str | Path) -> dict[str, list[Evidence]]:
    """Evidence by sample token, from an evidence file of ours or DriveLM's v1.1 frames (its key objects' boxes).

    Raises:
        SennaPruneError: the file is neither, or broken.
    """
    data = read_json(Path(path))
    if isinstance(data, dict) and data.get("format") == FORMAT and isinstance(data.get("samples"), dict):
        return {token: _objects(objects, f"{path}: sample {token}") for token, objects in data["samples"].items()}
    if isinstance(data, dict) and data and all(isinstance(one, dict) and isinstance(one.get("key_frames"), dict) for one in data.values()):
        frames = {token: frame for scene in data.values() for token, frame in scene["key_frames"].items()}
        return {token: _drivelm(frame, f"{path}: key frame {token}") for token, frame in frames.items()}
    raise SennaPruneError(f"{path}: neither an evidence file ({FORMAT}) nor DriveLM's frames with key_frames")


def _objects(value: Any, where: str) -> list[Evidence]:
    if not isinstance(value, list):
        raise SennaPruneError(f"{where}: not a list of objects")
    return [evidence_of(one, f"{where}, object {index}") for index, one in enumerate(value)]


def _drivelm(frame: Any, where: str) -> list[Evidence]:
    """The key objects of a DriveLM key frame; an object without a box is left out, as DriveLM has some."""
    infos = frame.get("key_object_infos") if isinstance(frame, Mapping) else None
    if not isinstance(infos, Mapping):
        raise SennaPruneError(f"{where}: no key_object_infos")
    views, found = {channel(view): view for view in view_names()}, []
    for tag, info in infos.items():
        match = _TAG.fullmatch(str(tag))
        box = info.get("2d_bbox") if isinstance(info, Mapping) else None
        if match is None or match[1] not in views or not isinstance(box, list) or len(box) != 4:
            continue
        width, height = DRIVELM_SIZE
        record = {
            "class": _DRIVELM.get(str(info.get("Category")).lower(), "other"),
            "regions": [[views[match[1]], box[0] / width, box[1] / height, box[2] / width, box[3] / height]],
        }
        found.append(evidence_of(record, f"{where}, {tag}"))
    return found
