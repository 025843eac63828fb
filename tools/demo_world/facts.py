"""What a keyframe shows, as the trainer's extra questions and as labels of patches. Nothing here reaches a shipped question."""

from dataclasses import dataclass

import numpy as np

from demo_world.cameras import CAMERAS, HEIGHT, WIDTH
from demo_world.fast_road import LANE_M, REACT_M, TAKEN
from demo_world.meshes import CLASS_ID, CLASSES
from demo_world.render import Views
from demo_world.traffic import Question, Scene

# the prompt names the views in this order (spec/senna.md item 6)
PROMPT_ORDER = ("CAM_FRONT", "CAM_FRONT_LEFT", "CAM_FRONT_RIGHT", "CAM_BACK_LEFT", "CAM_BACK_RIGHT", "CAM_BACK")
PROMPT_INDEX = [[c.channel for c in CAMERAS].index(name) for name in PROMPT_ORDER]
GRID_ROWS, GRID_COLUMNS = 8, 16  # whole patch rows of a 16:9 picture padded to a square of 16 x 16 patches
RELATIONS = ("nothing", "lorry ahead", "car ahead", "takes the left lane", "takes the right lane", "walker in the way", "elsewhere")
_MIN_PIXELS = np.array([0, 0, 40, 30, 30, 10, 10, 6, 5, 5, 2, 2, 2, 2, 2])  # per class of CLASSES, of a patch's 576
_TRUE_KINDS = (CLASS_ID["car"], CLASS_ID["lorry"], CLASS_ID["two-wheeler"], CLASS_ID["pedestrian"])
_LEAD_CAUSES = ("brake lights", "lead")


@dataclass
class Facts:
    """Answers to the extra questions of one keyframe."""

    night: bool
    rain: bool
    signal: str  # none, green, amber, red
    ahead: str  # nothing, car, lorry
    brake_lights: bool
    walker: bool
    left: str  # missing, free, taken, unclear, or "" where lanes are not the matter
    right: str


def facts(scene: Scene, question: Question) -> Facts:
    """The facts at a question's keyframe; they follow from the same state that the driver decided on."""
    k, cause = question.keyframe, question.cause
    left, right = cause.split(":")[1].split(",") if ":" in cause else ("", "")
    ahead = "lorry" if cause.startswith("lorry") else "nothing"
    ego = scene.ego_keyframes[k]
    signal = "none"
    for body in scene.bodies:
        forward, leftward = _relative(body.track[k], ego)
        near = 0 < forward < 60 and abs(leftward) < 2.0
        if near and ahead == "nothing" and body.role != "oncoming" and body.kind in ("car", "van") and _same_way(body.track[k], ego):
            ahead = "car"
        if body.kind == "signal" and 4 < forward < 50 and abs(leftward) < 8 and signal == "none":
            signal = ("green", "amber", "red")[int(body.lamp[k])]
    return Facts(scene.night, scene.rain, signal, ahead, cause in _LEAD_CAUSES, cause in ("walker", "walker at the exit"), left, right)


def _relative(pose: np.ndarray, ego: np.ndarray) -> tuple[float, float]:
    dx, dy = pose[0] - ego[0], pose[1] - ego[1]
    cos, sin = np.cos(ego[2]), np.sin(ego[2])
    return float(dx * cos + dy * sin), float(-dx * sin + dy * cos)


def _same_way(pose: np.ndarray, ego: np.ndarray) -> bool:
    return abs((pose[2] - ego[2] + np.pi) % (2 * np.pi) - np.pi) < 0.5


def relation(scene: Scene, question: Question, body_index: int) -> int:
    """What a body is to the ego's decision, index into ``RELATIONS``."""
    if body_index >= len(scene.bodies):
        return 0
    body, k = scene.bodies[body_index], question.keyframe
    ego = scene.ego_keyframes[k]
    forward, _ = _relative(body.track[k], ego)
    if body.role.startswith("lane"):
        lane = int(body.role[4:]) - round(ego[1] / LANE_M)
        place = forward - 1.4
        if lane == 0 and place > 0:
            return 1 if body.kind == "lorry" and place <= REACT_M else 2
        if abs(lane) == 1 and TAKEN[0] <= place <= TAKEN[1]:
            return 3 if lane == 1 else 4
        return 6
    if body.role == "lead":
        return 2
    if body.role == "walker" and question.cause in ("walker", "walker at the exit") and forward > 0:
        return 5
    return 6


def patch_labels(scene: Scene, question: Question, views: Views) -> tuple[np.ndarray, np.ndarray]:
    """Class and relation of each of the 8 x 16 whole patches, (6, 128) uint8 each, views in the order of ``CAMERAS``."""
    assert views.parts is not None and views.ground_class is not None
    side = WIDTH // GRID_COLUMNS
    top = (HEIGHT - GRID_ROWS * side) // 2
    patch = (np.arange(GRID_ROWS)[:, None, None, None] * GRID_COLUMNS + np.arange(GRID_COLUMNS)[None, None, :, None]).astype(np.int64)
    patch = np.broadcast_to(patch, (GRID_ROWS, side, GRID_COLUMNS, side))
    relations = np.array([0] + [relation(scene, question, b) for b in views.part_body[1:]], dtype=np.uint8)
    classes = np.zeros((6, GRID_ROWS * GRID_COLUMNS), dtype=np.uint8)
    relation_of = np.zeros_like(classes)
    n = len(CLASSES)
    for view in range(6):
        parts = views.parts[view, top : top + GRID_ROWS * side].reshape(GRID_ROWS, side, GRID_COLUMNS, side)
        ground = views.ground_class[view, top : top + GRID_ROWS * side].reshape(parts.shape)
        shown = np.where(parts == 0, ground, views.part_class[parts])
        counts = np.bincount((patch * n + shown).ravel(), minlength=128 * n).reshape(128, n)
        enough = counts >= np.maximum(_MIN_PIXELS, 1)
        label = n - 1 - np.argmax(enough[:, ::-1], 1)
        few = label <= 2  # ground only: what there is most of
        label[few] = counts[few, :3].argmax(1)
        classes[view] = label
        by_part = np.bincount((patch * 256 + parts).ravel(), minlength=128 * 256).reshape(128, 256)[:, : len(relations)]
        mine = by_part * (views.part_class[None] == label[:, None])
        best = mine.argmax(1)
        relation_of[view] = np.where((mine.max(1) > 0) & (label >= CLASS_ID["car"]) & (label != CLASS_ID["post"]), relations[best], 0)
    return classes, relation_of
