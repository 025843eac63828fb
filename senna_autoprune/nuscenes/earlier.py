"""Camera images before a keyframe: earlier keyframes, and the sweeps between them where there are any."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.nuscenes.scenes import rows_present

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes

NEAR_S = 0.15  # a frame stands for a time at most so far from its own: half a keyframe's distance is 0.25
SWEEP_S = 1.0  # a sweep belongs to a keyframe at most so far from it

Found = dict[tuple[str, float], str]  # (camera, seconds before the keyframe) -> path


def earlier_images(nusc: NuScenes, tokens: Collection[str], cameras: Sequence[str], frames: Sequence[float]) -> dict[str, Found]:
    """sample -> (camera, seconds before its keyframe) -> path of the image nearest to that time; those that are not there are left out.

    Sweeps are looked for in one pass over ``sample_data.json``, where the data root has a folder of them.

    Args:
        frames: seconds, negative.
    Raises:
        SennaPruneError: the tables miss a row of a sample.
    """
    longest = -min(frames) + NEAR_S
    before = {token: _samples_before(nusc, token, longest + SWEEP_S) for token in tokens}
    rows = _rows(nusc, set().union(*before.values()) if before else set(), cameras)
    by_sample: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_sample.setdefault(row["sample_token"], []).append(row)
    found: dict[str, Found] = {}
    for token, samples in before.items():
        found[token] = {}
        with rows_present(nusc, f"sample {token}"):
            data = nusc.get("sample", token)["data"]
            for camera in (camera for camera in cameras if camera in data):
                start = nusc.get("sample_data", data[camera])["timestamp"]
                mine = [row for sample in samples for row in by_sample.get(sample, ()) if row["channel"] == camera]
                times = [((row["timestamp"] - start) / 1e6, os.path.join(nusc.dataroot, row["filename"])) for row in mine]
                for frame in frames:
                    near = [one for one in times if one[0] < 0 and abs(one[0] - frame) <= NEAR_S and os.path.isfile(one[1])]
                    if near:
                        found[token][camera, frame] = min(near, key=lambda one: abs(one[0] - frame))[1]
    return found


def _samples_before(nusc: NuScenes, token: str, longest_s: float) -> list[str]:
    """The sample and those before it in its scene, as far back as ``longest_s``."""
    with rows_present(nusc, f"sample {token}"):
        row = nusc.get("sample", token)
        start, samples = row["timestamp"], [token]
        while row["prev"]:
            row = nusc.get("sample", row["prev"])
            if row["token"] in samples:
                raise SennaPruneError(f"tables in {nusc.table_root}: sample {row['token']} comes round again")
            if (start - row["timestamp"]) / 1e6 > longest_s:
                break
            samples.append(row["token"])
    return samples


def _rows(nusc: NuScenes, samples: Collection[str], cameras: Sequence[str]) -> Iterable[dict[str, Any]]:
    """Rows of ``sample_data`` about these cameras at and around these samples."""
    if samples and hasattr(nusc, "image_rows") and os.path.isdir(os.path.join(nusc.dataroot, "sweeps")):
        return list(nusc.image_rows(samples, cameras))
    found = []
    for sample in samples:
        with rows_present(nusc, f"sample {sample}"):
            data = nusc.get("sample", sample)["data"]
            found += [nusc.get("sample_data", data[camera]) for camera in cameras if camera in data]
    return found
