"""A picture of one sample: six views with boxes and the future path on the ground, question, label, a plan view.

It is how a label is believed or doubted. The path is the true one (ego poses of the next six keyframes), each box the
annotation at the keyframe, projected with the devkit through each camera's own pose and calibration.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.image_files import open_image
from senna_autoprune.nuscenes.questions_file import Question
from senna_autoprune.nuscenes.scenes import FUTURE_STEPS, rows_present
from senna_autoprune.nuscenes.strings import channel, strings
from senna_autoprune.nuscenes.view_order import TWO_ROWS

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes

TILE = (640, 360)  # pixels, of a 1600 x 900 image
HEADER = 300  # pixels, at least
MARGIN = 16  # pixels
EGO_WIDTH_M = 1.73
PLAN_VIEW_M = 40.0  # half side of the plan view
FULL_WIDTH = 1600  # px of a nuScenes image; lines and dots are drawn in proportion
LONGEST_STEP_M = 1000.0  # in half a second; beyond it the poses are broken, and drawing them would take hours
NEAR_M = 0.5  # nothing nearer to the camera plane is drawn

PATH_COLOUR = (60, 220, 120)  # all colours RGB
EDGE_COLOUR = (20, 140, 70)
TEXT_COLOUR = (32, 32, 32)
FAINT_COLOUR = (110, 110, 110)


def draw_sample(nusc: NuScenes, question: Question) -> np.ndarray:
    """The picture of a question's sample, (H, W, 3) uint8 RGB. Missing image files become grey tiles that say so.

    Raises:
        SennaPruneError: the tables do not have the sample or a row of it, a position is not a number, or an image file
            cannot be decoded.
    """
    try:
        sample = nusc.get("sample", question.token)
    except KeyError as error:
        raise SennaPruneError(f"{nusc.table_root} has no sample {question.token}: name the tables it comes from") from error
    with rows_present(nusc, f"sample {question.token}"):
        path = _future_path(nusc, sample)
        boxes = [nusc.get("sample_annotation", box)[key] for box in sample["anns"] for key in ("translation", "size")]
        if not (np.isfinite(path).all() and np.isfinite(boxes).all() and (np.abs(np.diff(path, axis=0)) < LONGEST_STEP_M).all()):
            raise SennaPruneError(f"tables in {nusc.table_root}: a position or size at sample {question.token} is not a possible number")
        rows = [np.hstack([_tile(nusc, sample, view, path) for view in names]) for names in TWO_ROWS]
    return np.vstack([_header(nusc, sample, question, path, rows[0].shape[1]), *rows])


def save_sample(nusc: NuScenes, question: Question, out: str | os.PathLike[str]) -> None:
    """``draw_sample`` to an image file (format by its suffix). Raises SennaPruneError if it cannot be written."""
    from PIL import Image

    picture = Image.fromarray(draw_sample(nusc, question))
    try:
        picture.save(out)
    except (OSError, ValueError) as error:
        raise SennaPruneError(f"cannot write the picture {os.fspath(out)} ({error}): name a .png or .jpg file") from error


def _future_path(nusc: NuScenes, sample: dict[str, Any]) -> np.ndarray:
    """(<= 7, 3) ego positions on the ground in global coordinates, this keyframe's first."""
    path = []
    for _ in range(FUTURE_STEPS + 1):
        lidar = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
        path.append(nusc.get("ego_pose", lidar["ego_pose_token"])["translation"])
        if not sample["next"]:
            break
        sample = nusc.get("sample", sample["next"])
    return np.array(path)


def _ribbon(path: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Left and right edge, (m, 3) each, of the ground an ego vehicle's width sweeps along a path (k, 3)."""
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])  # (k,)
    if length[-1] < 0.5:  # standing: no direction, nothing to sweep
        return np.zeros((0, 3)), np.zeros((0, 3))
    steps = np.linspace(0.0, length[-1], max(2, int(length[-1] / 0.25)))
    points = np.stack([np.interp(steps, length, path[:, axis]) for axis in range(3)], axis=1)  # (m, 3)
    ahead = np.gradient(points, axis=0)[:, :2]
    left = np.stack([-ahead[:, 1], ahead[:, 0]], axis=1) / np.linalg.norm(ahead, axis=1, keepdims=True)
    side = np.concatenate([left, np.zeros((len(left), 1))], axis=1) * EGO_WIDTH_M / 2
    return points + side, points - side


def _tile(nusc: NuScenes, sample: dict[str, Any], view: str, path: np.ndarray) -> np.ndarray:
    """One view, (360, 640, 3): image or grey, boxes, path, name."""
    from nuscenes.utils.geometry_utils import BoxVisibility

    token = sample["data"][channel(view)]
    file, boxes, intrinsic = nusc.get_sample_data(token, box_vis_level=BoxVisibility.ANY)
    row = nusc.get("sample_data", token)
    missing = not os.path.isfile(file)
    image = np.full((row["height"], row["width"], 3), 90, dtype=np.uint8) if missing else np.array(open_image(file))
    for box in sorted(boxes, key=lambda box: -box.center[2]):  # far ones first
        colour = tuple(int(part) for part in nusc.colormap[box.name]) if box.name in nusc.colormap else (200, 200, 200)
        colours = (colour[::-1],) * 3  # the devkit draws for BGR images
        box.render_cv2(image, view=intrinsic, normalize=True, colors=colours, linewidth=max(1, round(3 * row["width"] / FULL_WIDTH)))
    image = _draw_path(nusc, row, image, intrinsic, path)
    image = cv2.resize(image, TILE, interpolation=cv2.INTER_AREA)
    _label(image, view.upper() + (" (image file missing)" if missing else ""))
    return image


def _draw_path(nusc: NuScenes, row: dict[str, Any], image: np.ndarray, intrinsic: np.ndarray, path: np.ndarray) -> np.ndarray:
    """The ribbon, half transparent, and a dot at each keyframe."""
    left, right = (_in_camera(nusc, row, edge) for edge in _ribbon(path))
    cover = image.copy()
    for i in range(len(left) - 1):
        quad = np.stack([left[i], left[i + 1], right[i + 1], right[i]])  # (4, 3)
        if np.all(quad[:, 2] > NEAR_M):
            cv2.fillConvexPoly(cover, _pixels(quad, intrinsic), PATH_COLOUR)
    image = cv2.addWeighted(cover, 0.45, image, 0.55, 0.0)
    dots, radius = _in_camera(nusc, row, path[1:]), max(2, round(9 * image.shape[1] / FULL_WIDTH))
    dots = dots[dots[:, 2] > NEAR_M]
    for centre in _pixels(dots, intrinsic):
        if np.all(np.abs(centre) < 10_000):
            cv2.circle(image, (int(centre[0]), int(centre[1])), radius, EDGE_COLOUR, thickness=-1, lineType=cv2.LINE_AA)
    return image


def _in_camera(nusc: NuScenes, row: dict[str, Any], points: np.ndarray) -> np.ndarray:
    """(m, 3) global points in the frame of a camera at its own time, (m, 3), z ahead."""
    from nuscenes.utils.geometry_utils import transform_matrix
    from pyquaternion import Quaternion

    pose = nusc.get("ego_pose", row["ego_pose_token"])
    mount = nusc.get("calibrated_sensor", row["calibrated_sensor_token"])
    ego = transform_matrix(pose["translation"], Quaternion(pose["rotation"]), inverse=True)
    camera = transform_matrix(mount["translation"], Quaternion(mount["rotation"]), inverse=True)
    whole = camera @ ego  # (4, 4)
    return points @ whole[:3, :3].T + whole[:3, 3]


def _pixels(points: np.ndarray, intrinsic: np.ndarray) -> np.ndarray:
    """(m, 3) camera points, z > 0, as (m, 2) int32 pixels, clipped to what OpenCV can draw."""
    pixels = points @ intrinsic.T
    return np.clip(pixels[:, :2] / pixels[:, 2:], -30_000, 30_000).round().astype(np.int32)


def _header(nusc: NuScenes, sample: dict[str, Any], question: Question, path: np.ndarray, width: int) -> np.ndarray:
    """(>= 300, width, 3): where and what, the question and its label on the left, the plan view on the right."""
    from PIL import Image, ImageDraw

    plan_view = _plan_view(nusc, sample, path)
    scene = nusc.get("scene", sample["scene_token"])
    about = question.get("senna_prune", {})
    variant = f"navigation {about['navigation']}, views {about['views']}" if "navigation" in about else "variant unknown"
    room = width - plan_view.shape[1] - 2 * MARGIN
    label = "   ".join(question.answer.strip().splitlines()) or "(none)"  # a motion answer has a line per object
    lines: list[tuple[int, str, Any, tuple[int, int, int]]] = []  # y, text, font, colour
    y = MARGIN
    for text, size, bold, colour in (
        (f"{scene['name']}: {scene['description']}", 15, False, FAINT_COLOUR),
        (f"sample {question.token}, {question.type} question, {variant}", 15, False, FAINT_COLOUR),
        (f"Label: {label}", 21 if len(label) < 60 else 16, True, EDGE_COLOUR),
        (question.text.removeprefix(strings()["image_prompt"]).strip(), 16, False, TEXT_COLOUR),
    ):
        font = _font(size, bold)
        for line in _wrapped(text, font, room):
            lines.append((y, line, font, colour))
            y += size + 6
        y += 4
    canvas = Image.new("RGB", (width, max(HEADER, y + MARGIN)), (250, 250, 250))
    canvas.paste(Image.fromarray(plan_view), (width - plan_view.shape[1], 0))
    draw = ImageDraw.Draw(canvas)
    for y, line, font, colour in lines:
        draw.text((MARGIN, y), line, fill=colour, font=font)
    return np.array(canvas)


def _plan_view(nusc: NuScenes, sample: dict[str, Any], path: np.ndarray) -> np.ndarray:
    """(300, 300, 3): the road users and the path from above, ego at the centre heading up, rings every 10 m."""
    from nuscenes.utils.geometry_utils import transform_matrix
    from pyquaternion import Quaternion

    lidar = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
    pose = nusc.get("ego_pose", lidar["ego_pose_token"])
    to_ego = transform_matrix(pose["translation"], Quaternion(pose["rotation"]), inverse=True)
    scale = HEADER / (2 * PLAN_VIEW_M)

    def pixels(points: np.ndarray) -> np.ndarray:
        ego = points @ to_ego[:3, :3].T + to_ego[:3, 3]  # (m, 3), x ahead, y left
        return np.stack([HEADER / 2 - ego[:, 1] * scale, HEADER / 2 - ego[:, 0] * scale], axis=1).round().astype(np.int32)

    image = np.full((HEADER, HEADER, 3), 255, dtype=np.uint8)
    for ring in range(10, int(PLAN_VIEW_M) + 1, 10):
        cv2.circle(image, (HEADER // 2, HEADER // 2), int(ring * scale), (225, 225, 225), 1, cv2.LINE_AA)
    for token in sample["anns"]:
        box = nusc.get_box(token)
        colour = tuple(int(part) for part in nusc.colormap.get(box.name, (150, 150, 150)))
        cv2.fillConvexPoly(image, pixels(box.bottom_corners().T), colour, cv2.LINE_AA)
    left, right = _ribbon(path)
    if len(left):
        cv2.fillPoly(image, [pixels(np.concatenate([left, right[::-1]]))], PATH_COLOUR, cv2.LINE_AA)
    for dot in pixels(path[1:]):
        cv2.circle(image, (int(dot[0]), int(dot[1])), 2, EDGE_COLOUR, -1, cv2.LINE_AA)
    ego = np.array([[-8, 10], [8, 10], [0, -12]]) + HEADER // 2
    cv2.fillConvexPoly(image, ego.astype(np.int32), (40, 40, 40), cv2.LINE_AA)
    cv2.rectangle(image, (0, 0), (HEADER - 1, HEADER - 1), (200, 200, 200), 1)
    return image


def _font(size: int, bold: bool) -> Any:
    """DejaVu Sans, which matplotlib brings along."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", name), size)


def _wrapped(text: str, font: Any, room: int) -> list[str]:
    """Lines of at most ``room`` pixels; the text's own line breaks stay."""
    lines = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}".strip()
            if line and font.getlength(longer) > room:
                lines.append(line)
                line = word
            else:
                line = longer
        lines.append(line)
    return lines


def _label(image: np.ndarray, text: str) -> None:
    """A view's name in its upper left corner."""
    (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 1)
    cv2.rectangle(image, (0, 0), (wide + 12, high + 12), (0, 0, 0), -1)
    cv2.putText(image, text, (6, high + 6), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
