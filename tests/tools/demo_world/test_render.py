"""The renderer against the pinhole model, and its labels."""

import numpy as np
import pytest

from demo_world.cameras import CAMERAS, HEIGHT, WIDTH
from demo_world.facts import RELATIONS, facts, patch_labels
from demo_world.meshes import CLASS_ID
from demo_world.render import Renderer
from demo_world.world import generate


def first(kind, wanted):
    """A scene and a question with a cause that begins so."""
    for seed in range(400):
        scene = generate(seed, f"scene-{seed:04d}", kind)
        for question in scene.questions:
            if question.cause.startswith(wanted):
                return scene, question
    raise AssertionError(wanted)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda c: c.channel)
def test_rotation_and_ground_agree_with_the_quaternion(camera):
    from pyquaternion import Quaternion

    to_ego = Quaternion(camera.quaternion).rotation_matrix
    assert np.allclose(camera.ego_to_camera, to_ego.T, atol=1e-6)
    x, y, depth = camera.ground
    row, column = 40, 100
    point = camera.ego_to_camera @ (np.array([x[row, column], y[row, column], 0.0]) - np.array(camera.place))
    pixel = np.array(camera.intrinsic) @ point / point[2]
    assert pixel[:2] == pytest.approx([column + 0.5, camera.ground_rows + row + 0.5], abs=0.01)
    assert point[2] == pytest.approx(depth[row], rel=1e-4)


def test_fields_of_view_are_nuscenes():
    wide = {c.channel: 2 * np.degrees(np.arctan(WIDTH / 2 / c.focal)) for c in CAMERAS}
    assert wide["CAM_FRONT"] == pytest.approx(64.6, abs=0.5) and wide["CAM_BACK"] == pytest.approx(89.3, abs=0.5)


def test_same_keyframe_same_picture_and_labels_show_the_cause():
    scene, question = first("street", "red signal")
    one = Renderer(scene).render(question.keyframe, labels=True)
    two = Renderer(scene).render(question.keyframe)
    assert one.images.shape == (6, HEIGHT, WIDTH, 3) and np.array_equal(one.images, two.images)
    classes, _ = patch_labels(scene, question, one)
    assert (classes[0] == CLASS_ID["red light"]).any() and facts(scene, question).signal == "red"


def test_lamps_have_their_colour():
    scene, question = first("street", "red signal")
    views = Renderer(scene).render(question.keyframe, labels=True)
    red = views.part_class[views.parts[0]] == CLASS_ID["red light"]
    blue, green, red_value = views.images[0][red].mean(0)
    assert red.sum() > 3 and red_value > 150 and red_value > 2 * green and red_value > 2 * blue


def test_who_takes_a_lane_is_seen_from_the_side_or_behind():
    scene, question = first("fast", "lorry:taken")
    classes, relations = patch_labels(scene, question, Renderer(scene).render(question.keyframe, labels=True))
    names = [c.channel for c in CAMERAS]
    takes = (relations == RELATIONS.index("takes the left lane")).any(1)
    assert takes[[names.index(n) for n in ("CAM_FRONT_LEFT", "CAM_BACK_LEFT", "CAM_BACK")]].any()
    assert not takes[[names.index(n) for n in ("CAM_FRONT_RIGHT", "CAM_BACK_RIGHT")]].any()
    assert (relations[0] == RELATIONS.index("lorry ahead")).any() and (classes[0] == CLASS_ID["lorry"]).any()


def test_night_is_darker():
    scenes = [generate(seed, "scene-0001", "street") for seed in range(40)]
    day, night = (
        np.mean([Renderer(s).render(0).images.mean() for s in [x for x in scenes if x.night == dark][:2]]) for dark in (False, True)
    )
    assert night < 0.5 * day
