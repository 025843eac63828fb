"""Open-loop measures of planned waypoints: L2 to the true path and collisions with true boxes, at 1, 2 and 3 s.

Two ways of averaging are in use, and papers mix them; here each figure is named by its own:

- ``uniad``: the value at the horizon itself (UniAD, CVPR 2023);
- ``stp3``: the mean over all half seconds up to the horizon (ST-P3, ECCV 2022; VAD); smaller for the same plan.

As in both, a collision counts only where the true path has none at that step, and is divided by all plans. Not as in them:
boxes overlap exactly (shapely) instead of on a grid of half metres, and the vehicle is turned along its path unless
``heading="fixed"`` (both leave it parallel to where it started).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from senna_autoprune.adapters.answers import Answer, Waypoints
from senna_autoprune.adapters.schema import Score
from senna_autoprune.errors import SennaPruneError

if TYPE_CHECKING:
    from senna_autoprune.nuscenes.futures import Future

STEP_S = 0.5  # of the true path: keyframes
EGO_LENGTH_M, EGO_WIDTH_M = 4.084, 1.85  # nuScenes' Renault Zoe, as in ST-P3
EGO_AHEAD_M = 0.5  # its centre, ahead of the LIDAR, as in ST-P3
STANDING_M = 0.1  # a shorter step says nothing of the heading

Array = NDArray[np.float64]


def at_steps(answer: Waypoints, steps: int) -> Array:
    """(t, 2) positions of a plan at the first ``steps`` half seconds it reaches, x right, y forward.

    Raises:
        SennaPruneError: its waypoints do not fall on half seconds.
    """
    ratio = STEP_S / answer.dt
    every = round(ratio)
    if every < 1 or abs(ratio - every) > 1e-6:
        raise SennaPruneError(f"waypoints every {answer.dt:g} s do not fall on each half second, where paths are compared: see parse.dt")
    return answer.right_forward()[every - 1 :: every][:steps]


def distances(plan: Array, path: Array) -> Array:
    """(t,) metres between a plan and the true path, step by step; NaN where the truth is missing."""
    count = min(len(plan), len(path))
    gaps: Array = np.linalg.norm(plan[:count] - path[:count], axis=-1)
    return gaps


def headings(plan: Array) -> Array:
    """(t,) radians from the x axis: the direction of each step, kept where the vehicle stands; it starts facing forward."""
    found, heading = [], math.pi / 2
    for step in np.diff(plan, axis=0, prepend=np.zeros((1, 2))):
        if math.hypot(*step) >= STANDING_M:
            heading = math.atan2(step[1], step[0])
        found.append(heading)
    return np.array(found)


def rectangles(centres: Array, lengths: Array, widths: Array, angles: Array) -> Any:
    """n shapely polygons; centres (n, 2), the others (n,)."""
    import shapely

    corners = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2  # (4, 2), of a box of side 1 along x
    scaled = corners[None] * np.stack([lengths, widths], axis=-1)[:, None]  # (n, 4, 2)
    cos, sin = np.cos(angles), np.sin(angles)
    turn = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)  # (n, 2, 2)
    return shapely.polygons(centres[:, None] + np.einsum("nij,nkj->nki", turn, scaled))


def collisions(plan: Array, boxes: Sequence[Array], heading: str = "path") -> NDArray[np.bool_]:
    """(t,) whether the ego vehicle, at each step of a plan (t, 2), overlaps one of that step's boxes (n, 5)."""
    import shapely

    count = min(len(plan), len(boxes))
    if count == 0:
        return np.zeros(0, dtype=bool)
    angles = headings(plan[:count]) if heading == "path" else np.full(count, math.pi / 2)
    ahead = np.stack([np.cos(angles), np.sin(angles)], axis=-1) * EGO_AHEAD_M
    sizes = np.full(count, EGO_LENGTH_M), np.full(count, EGO_WIDTH_M)
    ego = rectangles(plan[:count] + ahead, *sizes, angles)
    hit = np.zeros(count, dtype=bool)
    for step in range(count):
        near = boxes[step]
        if len(near):
            others = rectangles(near[:, :2], near[:, 2], near[:, 3], near[:, 4])
            hit[step] = bool((shapely.intersects(ego[step], others) & ~shapely.touches(ego[step], others)).any())
    return hit


def waypoint_row(answer: Answer, future: Future, score: Score) -> dict[str, float | None]:
    """Measures of one plan: ``l2_{convention}_{horizon}s`` in metres and ``collision_{convention}_{horizon}s`` as a share of steps.

    None: the plan cannot be read or ends before the horizon, or the scene does.
    """
    last = round(score.horizons_s[-1] / STEP_S)
    row: dict[str, float | None] = {}
    plan = at_steps(answer, last) if isinstance(answer, Waypoints) else np.zeros((0, 2))
    gaps = distances(plan, future.path)
    reached = _until_missing(future.valid)
    struck = collisions(plan, future.boxes, score.heading)
    truly = collisions(future.path[:reached], future.boxes, score.heading)
    for horizon in score.horizons_s:
        steps = round(horizon / STEP_S)
        there = len(gaps) >= steps and reached >= steps
        mine = struck[:steps] & ~truly[:steps] if there else None
        for convention in score.conventions:
            part = slice(steps - 1, steps) if convention == "uniad" else slice(0, steps)
            row[f"l2_{convention}_{horizon:g}s"] = float(gaps[part].mean()) if there else None
            row[f"collision_{convention}_{horizon:g}s"] = float(mine[part].mean()) if mine is not None else None
    return row


def waypoint_measures(answers: Sequence[Answer], futures: Sequence[Future], score: Score) -> dict[str, Any]:
    """Means of ``waypoint_row`` over the plans that have each figure, with their ``count``.

    Returns:
        ``count`` plans, ``invalid`` ones that cannot be read, ``short`` ones that end before the last horizon, ``ego_heading``;
        under ``l2_m`` and ``collision_rate`` by convention and horizon ``{"value", "count"}``.
    """
    rows = [waypoint_row(answer, future, score) for answer, future in zip(answers, futures, strict=True)]
    readable = [answer for answer in answers if isinstance(answer, Waypoints)]
    last = round(score.horizons_s[-1] / STEP_S)

    def mean(name: str) -> dict[str, Any]:
        values = [row[name] for row in rows if row[name] is not None]
        return {"value": sum(values) / len(values) if values else None, "count": len(values)}  # type: ignore[arg-type]

    def table(name: str) -> dict[str, Any]:
        return {kind: {f"{horizon:g}s": mean(f"{name}_{kind}_{horizon:g}s") for horizon in score.horizons_s} for kind in score.conventions}

    return {
        "count": len(answers),
        "invalid": len(answers) - len(readable),
        "short": sum(len(at_steps(answer, last)) < last for answer in readable),
        "ego_heading": score.heading,
        "l2_m": table("l2"),
        "collision_rate": table("collision"),
    }


def _until_missing(valid: NDArray[np.bool_]) -> int:
    """Steps before the first missing one."""
    return len(valid) if valid.all() else int(np.argmin(valid))
