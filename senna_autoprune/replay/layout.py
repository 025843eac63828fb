"""A Foxglove layout for the recording beside it: cameras, map, numbers over time, texts. There: Layouts, Import from file."""

from __future__ import annotations

import json
from typing import Any

from senna_autoprune.nuscenes.strings import channel
from senna_autoprune.nuscenes.view_order import TWO_ROWS
from senna_autoprune.replay.frames import Replay

PLOTS = (("mutual_information", "k"), ("retention_tokens", "flops_share"), ("prefill_ms_unpruned", "prefill_ms_pruned"))


def foxglove_layout(replay: Replay) -> str:
    """The layout as JSON. Cameras are those of the first frame: known views as round the car, others in their order."""
    first = replay.frames[0].shot
    names = [channel(view) if view else f"view_{index + 1}" for index, view in enumerate(first.views)]
    ring = [channel(view) for row in TWO_ROWS for view in row if channel(view) in names]
    cameras = [*ring, *(name for name in names if name not in ring)]
    panels: dict[str, Any] = {f"Image!{name}": _image(name, first.geometry is not None) for name in cameras}
    rows = [_joined([f"Image!{name}" for name in cameras[start : start + 3]], "row") for start in range(0, len(cameras), 3)]
    below = ["RawMessages!question"]
    panels["RawMessages!question"] = {"topicPath": "/question", "diffEnabled": False}
    for number, series in enumerate(PLOTS):
        below.append(f"Plot!{number}")
        panels[f"Plot!{number}"] = {
            "paths": [{"value": f"/pruning.{name}", "enabled": True, "timestampMethod": "receiveTime"} for name in series],
            "title": ", ".join(series).replace("_", " "),
            "xAxisVal": "timestamp",
            "showLegend": True,
        }
    if first.geometry is not None:
        below.insert(0, "3D!map")
        topics = {topic: {"visible": True} for topic in ("/boxes", "/future_path", "/pose")}
        panels["3D!map"] = {"followTf": "base_link", "followMode": "follow-pose", "topics": topics}
    layout = {
        "configById": panels,
        "globalVariables": {},
        "userNodes": {},
        "playbackConfig": {"speed": 1},
        "layout": _joined([*rows, _joined(below, "row")], "column"),
    }
    return json.dumps(layout, indent=1) + "\n"


def _image(name: str, calibrated: bool) -> dict[str, Any]:
    mode: dict[str, Any] = {"imageTopic": f"/{name}/image", "annotations": {f"/{name}/meta_action": {"visible": True}}}
    return {"imageMode": {**mode, **({"calibrationTopic": f"/{name}/calibration"} if calibrated else {})}}


def _joined(parts: list[Any], direction: str) -> Any:
    """Panels side by side or one above the other, in equal shares: the tree of halves that Foxglove keeps."""
    if len(parts) == 1:
        return parts[0]
    first, *others = parts
    return {"first": first, "second": _joined(others, direction), "direction": direction, "splitPercentage": 100 / len(parts)}
