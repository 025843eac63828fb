"""The shipped split: the official devkit loads it, our own converter gives its labels again, and no training scene is in it."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import pytest
from nuscenes.utils.splits import get_scenes_of_split

from senna_autoprune import demo
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.nuscenes.can_bus import CanBus
from senna_autoprune.nuscenes.questions_file import read_questions
from senna_autoprune.nuscenes.scenes import iter_samples, load_tables, scenes_of_split

DATA = Path(demo.__file__).parent / "data"
TOOL = Path(__file__).parents[2] / "tools" / "make_demo_world.py"


TYPES = {"plan", "vru", "light", "motion", "description", "explanation"}


@pytest.fixture(scope="module")
def records():
    return read_questions(DATA / "questions.json").records


@pytest.fixture(scope="module")
def questions(records):
    """The plan questions: one a keyframe."""
    return [record for record in records if record.type == "plan"]


@pytest.fixture(scope="module")
def nusc():
    return load_tables(DATA, "v1.0-demo")


def test_enough_of_everything(questions, nusc):
    assert len(questions) >= 200 and len(nusc.scene) >= 40
    answers = Counter(q["conversations"][1]["value"].strip() for q in questions)
    assert {a.split(", ")[0] for a in answers} == {"KEEP", "ACCELERATE", "DECELERATE", "STOP"}
    assert {a.split(", ")[1] for a in answers} == {"STRAIGHT", "LEFT_CHANGE", "RIGHT_CHANGE", "LEFT_TURN", "RIGHT_TURN"}
    assert max(answers.values()) <= 0.4 * len(questions)


def test_all_six_types_about_the_same_keyframes(records, questions):
    kinds, keyframes = Counter(record.type for record in records), {record.token for record in questions}
    assert set(kinds) == TYPES and {record.token for record in records} == keyframes and len(keyframes) == len(questions)
    assert kinds["vru"] == kinds["description"] == kinds["explanation"] == len(questions)
    assert kinds["light"] >= 80 and kinds["motion"] >= 180
    lights = Counter(record.answer.strip() for record in records if record.type == "light")
    assert set(lights) == {"Red", "Green", "Yellow", "None"} and max(lights.values()) <= lights.total() / 2
    complexity = read_questions(DATA / "questions.json").sidecar["complexity"]
    assert set(complexity) == {record.id for record in records} and len({one["complexity"] for one in complexity.values()}) >= 8


def test_it_is_small_enough_to_ship():
    assert sum(file.stat().st_size for file in DATA.rglob("*") if file.is_file()) <= 28_000_000  # 32 MB with the model


def test_images_are_there_and_small(questions):
    files = [DATA / image for q in questions for image in q["images"]]
    assert len(set(files)) == 6 * len(questions) and all(f.is_file() for f in files)
    assert sum(f.stat().st_size for f in files) <= 12_000_000


def test_labels_come_from_the_tables(questions, nusc):
    from senna_autoprune.nuscenes.builders import plan_question

    bus, wanted, found = CanBus(str(DATA)), {q["token"]: q for q in questions}, 0
    for scene in scenes_of_split(nusc, "all")[0][:6]:
        for sample in iter_samples(nusc, scene, bus, "fixed"):
            if sample.token in wanted:
                pair = plan_question(sample.geometry)
                assert pair is not None and wanted[sample.token]["conversations"][1]["value"] == pair.answer
                assert wanted[sample.token]["conversations"][0]["value"].endswith(pair.question)
                found += 1
    assert found >= 15


def test_devkit_projects_boxes_into_the_pictures(nusc, questions):
    """The box of a vehicle ahead lies where the front camera's picture shows something else than road: geometry and pixels agree."""
    from nuscenes.utils.geometry_utils import BoxVisibility

    seen = 0
    for question in questions[:40]:
        token = nusc.get("sample", question["token"])["data"]["CAM_FRONT"]
        path, boxes, camera = nusc.get_sample_data(token, box_vis_level=BoxVisibility.ALL)
        assert Path(path).is_file() and camera.shape == (3, 3)
        seen += len(boxes)
    assert seen > 10


def test_boxes_move_as_their_instances(nusc):
    moving = 0
    for instance in nusc.instance[:40]:
        assert instance["nbr_annotations"] >= 1
        speed = nusc.box_velocity(instance["first_annotation_token"])
        moving += bool((abs(speed[:2]) > 0.5).any())
    assert moving > 5


def test_splits_go_by_name(nusc):
    names = [row["name"] for row in nusc.scene]
    assert [row["name"] for row in scenes_of_split(nusc, "demo_val")[0]] == names == get_scenes_of_split("demo_val", nusc)
    assert read_questions(DATA / "questions.json").sidecar["data"]["split"] == "demo_val"
    assert names == [f"scene-{9001 + i:04d}" for i in range(len(names))]


def test_no_scene_is_in_both_splits(nusc, tmp_path):
    """The training split's first scenes, written by the same tool: other names, other paths driven."""
    subprocess.run([sys.executable, str(TOOL), "--split", "demo_train", "--scenes", "2", "--out", str(tmp_path)], check=True)
    train = load_tables(tmp_path, "v1.0-demo")
    assert get_scenes_of_split("demo_train", train) == ["scene-1000000", "scene-1000001"]
    with pytest.raises(SennaPruneError, match="unknown split 'demo_val'"):
        scenes_of_split(train, "demo_val")
    assert len(read_questions(tmp_path / "questions.json").records) >= 2

    def paths(tables):
        return {tuple(map(tuple, (pose["translation"] for pose in tables.ego_pose[i : i + 5]))) for i in range(0, len(tables.ego_pose), 40)}

    assert len(paths(train)) == 2 and not paths(train) & paths(nusc)


def same(a, b):
    """Equal JSON, numbers within a millimetre: another processor may round a sine differently."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, str) and a != b and a.startswith("[") and isinstance(b, str):  # a track, written as text
        return same(json.loads(a), json.loads(b))
    return abs(a - b) <= 1e-3 if isinstance(a, float) else a == b


def test_the_shipped_split_is_made_again_by_its_tool(tmp_path):
    subprocess.run([sys.executable, str(TOOL), "--out", str(tmp_path)], check=True)
    names = sorted(str(file.relative_to(DATA)) for file in DATA.rglob("*") if file.is_file())
    assert names == sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file())
    for name in names:
        if name.endswith(".json") and name != "questions.json.meta.json":  # the sidecar holds the time
            assert same(json.loads((DATA / name).read_text()), json.loads((tmp_path / name).read_text())), name
    pictures = [name for name in names if name.endswith(".jpg")]
    for name in pictures[:: len(pictures) // 60]:
        shipped, again = (cv2.imread(str(root / name)).astype(int) for root in (DATA, tmp_path))
        assert abs(shipped - again).mean() < 0.5, name


def test_embedded_names_what_is_there():
    found = demo.embedded()
    if found is None:
        assert not (DATA.parent / "model" / "model.safetensors").exists()
        return
    assert json.loads((found.model_dir / "config.json").read_text())["model_type"] == "senna"
    assert found.questions_file.is_file() and (found.dataroot / "v1.0-demo").is_dir()
