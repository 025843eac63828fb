"""The picture of a sample: the path lies on the road in front, views without an image file are grey."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.nuscenes import drawing
from senna_autoprune.nuscenes.inspection import find_question, inspect_questions
from senna_autoprune.nuscenes.questions import build_questions
from senna_autoprune.nuscenes.questions_file import Question
from senna_autoprune.nuscenes.view_order import TWO_ROWS

TOKEN = "3e8750f331d7499e9b5123e9eb70f2e2"  # scene-0103 #0: real images, drives on


@pytest.fixture(scope="module")
def file(subset, tmp_path_factory):
    path = tmp_path_factory.mktemp("drawing") / "q.json"
    build_questions(subset, path, split="all")
    return path


def view_of(picture: np.ndarray, view: str) -> np.ndarray:
    """One tile of a picture."""
    top = picture.shape[0] - 2 * drawing.TILE[1]
    for row, names in enumerate(TWO_ROWS):
        if view in names:
            x, y = names.index(view) * drawing.TILE[0], top + row * drawing.TILE[1]
            return picture[y : y + drawing.TILE[1], x : x + drawing.TILE[0]]
    raise AssertionError(view)


def greenish(tile: np.ndarray) -> np.ndarray:
    red, green, blue = (tile[..., c].astype(int) for c in range(3))
    return (green > red + 40) & (green > blue + 20)


def test_the_path_is_on_the_road_ahead(subset, file):
    picture = drawing.draw_sample(subset, find_question(file, TOKEN))
    assert picture.shape == (drawing.HEADER + 2 * drawing.TILE[1], 3 * drawing.TILE[0], 3)
    front = greenish(view_of(picture, "front"))
    rows, columns = np.nonzero(front)
    assert front.sum() > 5_000
    assert rows.min() > drawing.TILE[1] * 0.45  # below the horizon
    assert abs(columns[rows > rows.max() - 20].mean() - drawing.TILE[0] / 2) < 60  # starts under the car
    assert greenish(view_of(picture, "back")).sum() < 500


def test_path_dots_are_where_the_devkit_projects_them(subset):
    from nuscenes.utils.data_classes import Box
    from pyquaternion import Quaternion

    sample = subset.get("sample", TOKEN)
    path = drawing._future_path(subset, sample)
    assert path.shape == (7, 3)
    row = subset.get("sample_data", sample["data"]["CAM_FRONT"])
    mount = subset.get("calibrated_sensor", row["calibrated_sensor_token"])
    for point in path[1:]:
        box = Box(point, [1, 1, 1], Quaternion())
        for frame in (subset.get("ego_pose", row["ego_pose_token"]), mount):
            box.translate(-np.array(frame["translation"]))
            box.rotate(Quaternion(frame["rotation"]).inverse)
        np.testing.assert_allclose(drawing._in_camera(subset, row, point[None])[0], box.center, atol=1e-9)


def test_missing_images_are_grey_and_say_so(mini, tmp_path):
    build_questions(mini, tmp_path / "q.json", split="mini_val")
    token = mini.get("sample", mini.get("sample", TOKEN)["next"])["next"]  # the third keyframe has no images
    picture = drawing.draw_sample(mini, find_question(tmp_path / "q.json", token))
    tile = view_of(picture, "back left")
    assert (np.abs(tile.astype(int) - 90).max(axis=-1) < 3).mean() > 0.7


def test_a_standing_car_sweeps_nothing():
    left, right = drawing._ribbon(np.zeros((7, 3)))
    assert len(left) == len(right) == 0
    left, right = drawing._ribbon(np.array([[0.0, 0, 0], [10, 0, 0]]))
    np.testing.assert_allclose(left[:, 1], drawing.EGO_WIDTH_M / 2)  # heading +x: left is +y
    np.testing.assert_allclose(right[:, 1], -drawing.EGO_WIDTH_M / 2)


def test_long_questions_make_a_taller_picture(subset, file):
    question = find_question(file, f"{TOKEN}-motion-front")
    assert question.type == "motion"
    assert drawing.draw_sample(subset, question).shape[0] > drawing.HEADER + 2 * drawing.TILE[1]


def test_save(subset, file, tmp_path):
    drawing.save_sample(subset, find_question(file, TOKEN), tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert image.size == (1920, 1020)
    for name in ("x.what", "no/x.png"):
        with pytest.raises(SennaPruneError, match="cannot write the picture"):
            drawing.save_sample(subset, find_question(file, TOKEN), tmp_path / name)


def test_unknown_samples(subset, file):
    with pytest.raises(SennaPruneError, match="no question about sample zzz"):
        find_question(file, "zzz")
    question = find_question(file, TOKEN)
    with pytest.raises(SennaPruneError, match="has no sample zzz"):
        drawing.draw_sample(subset, Question({**question, "token": "zzz"}))


def test_inspection_counts(file):
    found = inspect_questions(file)  # 79 samples with boxes, 121 - 3 * 6 without but with a plan
    assert (found.samples, found.images, found.missing_images) == (182, 182 * 6, (182 - 8) * 6)
    assert found.samples_without_all_images == 174
    assert found.counts.questions == {"motion": 347, "plan": 170, "vru": 79}
    assert found.example is not None and found.example.type == "plan"
