"""What the world knows of a question's difficulty: the decisive bodies, where they are seen, steps to the answer, what distracts.

For the sidecar of the question file and the evidence file; no model ever sees it.

- views: views of the prompt in which a decisive body is seen; - patches: patches in which it is; - steps: facts that must be put together;
- distractors: road users that are seen and are not decisive; - complexity: steps + views + distractors / 4, by which bands are made.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from demo_world.asks import boxed, geometry
from demo_world.facts import RELATIONS, relation
from demo_world.render import Views
from demo_world.shown import GRID_COLUMNS, GRID_ROWS, body_pixels, patch_pixels
from demo_world.teacher import NAMED_PIXELS, NOUNS, named
from demo_world.traffic import Question, Scene
from senna_autoprune.nuscenes.strings import strings

LEAST_PIXELS = 4  # of a body in a patch of 576
SIGNAL_M = (4.0, 50.0, 8.0)  # from, to, aside: as in ``facts``
CLASS_OF = {"pedestrian": "pedestrian", "bicycle": "cyclist", "motorcycle": "cyclist", "signal": "light"}
CAUSED = tuple(RELATIONS.index(name) for name in RELATIONS if name not in ("nothing", "elsewhere"))


def decisive(scene: Scene, question: Question, kind: str, view: str | None, seen: dict[str, dict[int, int]]) -> list[int]:
    """Indices of the bodies that settle the answer to a question of a type."""
    k = question.keyframe
    if kind == "light":
        return _signals(scene, k)
    if kind == "description":
        return named(scene, k, seen.get(str(view), {})) + (_signals(scene, k) if view == "front" else [])
    if kind in ("plan", "explanation"):
        found = [i for i in range(len(scene.bodies)) if relation(scene, question, i) in CAUSED]
        found += _signals(scene, k) if "signal" in question.cause or question.cause == "green or empty" else []
        return found + [i for i, body in enumerate(scene.bodies) if body.role == "lead" and i not in found]
    known, present = geometry(scene, k), boxed(scene, k)
    near = np.linalg.norm(known.box_xy, axis=1)
    if kind == "vru":
        vru, view = strings()["vru"], "front"
        good = [d < vru["distance_m"] and name in vru["classes"] for d, name in zip(near, known.names, strict=True)]
    else:
        limit = strings()["views"][str(view)]["motion_distance_m"]
        good = [d < limit and bool(mask.all()) for d, mask in zip(near, known.track_masks, strict=True)]
    return [body for body, fits, sector in zip(present, good, known.sectors, strict=True) if fits and sector == view]


def _signals(scene: Scene, k: int) -> list[int]:
    ego = scene.ego_keyframes[k]
    found = []
    for index, body in enumerate(scene.bodies):
        dx, dy = body.track[k, :2] - ego[:2]
        ahead, left = dx * np.cos(ego[2]) + dy * np.sin(ego[2]), -dx * np.sin(ego[2]) + dy * np.cos(ego[2])
        if body.kind == "signal" and SIGNAL_M[0] < ahead < SIGNAL_M[1] and abs(left) < SIGNAL_M[2]:
            found.append(index)
    return found


def steps(question: Question, kind: str, decisive_bodies: int) -> int:
    """Facts to put together: one for a red light; the lorry, the left and the right lane for a change to the right."""
    if kind in ("vru", "description"):
        return 1 + decisive_bodies
    if kind == "motion":
        return max(1, decisive_bodies)
    if kind == "light":
        return 1
    if ":" in question.cause:  # the fast road: its own lane, then the left one, then the right one
        return {"keep": 1, "left_change": 2}.get(question.manoeuvre, 3)
    return 2 if question.cause in ("green or empty", "walker at the exit", "exit free") or question.cause.endswith("gone") else 1


def complexity(scene: Scene, question: Question, kind: str, view: str | None, views: Views) -> dict[str, Any]:
    """views, patches, steps, distractors and their sum, of one question; light and explanation are asked of the front view alone."""
    seen = body_pixels(views, len(scene.bodies))
    bodies = decisive(scene, question, kind, view, seen)
    asked = {"light": ("front",), "explanation": ("front",), "vru": ("front",)}.get(kind, (view,) if view else tuple(seen))
    shown = {name: int((pixels >= LEAST_PIXELS).sum()) for name, pixels in patch_pixels(views, bodies).items() if name in asked}
    others = {i for name in asked for i, n in seen[name].items() if n >= NAMED_PIXELS and i not in bodies and scene.bodies[i].kind in NOUNS}
    count, needed = sum(n > 0 for n in shown.values()), steps(question, kind, len(bodies))
    whole = needed + count + len(others) / 4
    return {"views": count, "patches": sum(shown.values()), "steps": needed, "distractors": len(others), "complexity": whole}


def evidence(scene: Scene, question: Question, views: Views) -> list[dict[str, Any]]:
    """Every body that is seen, as the objects of an evidence file: its patches with the share of their pixels that show it."""
    ego, k = scene.ego_keyframes[question.keyframe], question.keyframe
    seen = body_pixels(views, len(scene.bodies))
    plan = set(decisive(scene, question, "plan", None, seen))
    found = []
    for index in sorted({i for of_view in seen.values() for i in of_view}):
        regions = []
        for view, pixels in patch_pixels(views, [index]).items():
            for patch in np.flatnonzero(pixels >= LEAST_PIXELS):
                regions.append([view, *_rectangle(int(patch)), round(float(pixels[patch]) / 576, 3)])
        body = scene.bodies[index]
        if regions:
            distance = round(float(np.hypot(*(body.track[k, :2] - ego[:2]))), 1)
            name = CLASS_OF.get(body.kind, "vehicle")
            found.append({"class": name, "distance_m": distance, "decides_plan": index in plan, "regions": regions})
    return found


def _rectangle(patch: int) -> list[float]:
    """Of a whole patch, as shares of a 16:9 picture (16 x 9 patches, of which the middle eight rows are whole)."""
    row, column = divmod(patch, GRID_COLUMNS)
    edge = (9 - GRID_ROWS) / 2
    numbers = (column / 16, (row + edge) / 9, (column + 1) / 16, (row + 1 + edge) / 9)
    return [round(number, 4) for number in numbers]
