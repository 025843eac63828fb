"""Boxes into pictures: exact on hand-made boxes, equal to a slow twin, and real nuScenes and DriveLM samples."""

import json

import numpy as np
import pytest

from senna_autoprune import demo
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.nuscenes.scenes import load_tables
from senna_autoprune.survival import sources
from senna_autoprune.survival.sources import FORMAT, class_of, find_evidence, nuscenes_evidence, projected, read_evidence
from tests.fixtures import shared
from tests.survival.twins import projected_twin

INTRINSIC = np.array([[100.0, 0, 100], [0, 100, 50], [0, 0, 1]])
SIZE = (200, 100)


def box(x, y, z, width, height, depth):
    """(3, 8) corners in the devkit's order (any order with these edges), camera axes."""
    signs = np.array([[1, 1, 1, 1, -1, -1, -1, -1], [1, -1, -1, 1, 1, -1, -1, 1], [1, 1, -1, -1, 1, 1, -1, -1]])
    return np.array([[x], [y], [z]]) + signs * np.array([[width / 2], [height / 2], [depth / 2]])


def test_a_box_before_the_camera():
    found = projected(box(0, 0, 10, 2, 1, 2), INTRINSIC, SIZE)  # nearest face at 9 m
    assert found == pytest.approx((0.5 - 1 / 9 / 2, 0.5 - 0.5 / 9, 0.5 + 1 / 9 / 2, 0.5 + 0.5 / 9))


def test_behind_beside_and_across_the_camera():
    assert projected(box(0, 0, -10, 2, 2, 2), INTRINSIC, SIZE) is None
    assert projected(box(50, 0, 10, 2, 2, 2), INTRINSIC, SIZE) is None
    beside = projected(box(2, 0, 0, 1, 1, 6), INTRINSIC, SIZE)  # a lorry alongside reaches behind the camera
    assert beside is not None and beside[2] == 1 and 0.5 < beside[0] < 1


def test_equals_the_twin():
    rng = np.random.default_rng(1)
    seen = 0
    for _ in range(40):
        corners = box(*rng.uniform(-4, 4, 2), rng.uniform(-1, 12), *rng.uniform(0.5, 4, 3))
        ours, theirs = projected(corners, INTRINSIC, SIZE), projected_twin(corners, INTRINSIC, SIZE)
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert ours == pytest.approx(theirs, abs=0.03)
            seen += 1
    assert seen > 12


def test_classes():
    names = ("human.pedestrian.child", "vehicle.bicycle", "vehicle.truck", "movable_object.trafficcone", "animal")
    assert [class_of(name) for name in names] == ["pedestrian", "cyclist", "vehicle", "cone", "other"]


def test_real_boxes_of_nuscenes():
    nusc = load_tables(shared("nuscenes/subset"), "v1.0-mini")
    scene = next(row for row in nusc.scene if row["name"] == "scene-0103")
    token = scene["first_sample_token"]
    found = nuscenes_evidence(nusc, token)
    names = {one.name for one in found}
    assert len(found) > 15 and {"vehicle", "pedestrian"} <= names
    assert all(0 <= r.left < r.right <= 1 and 0 <= r.top < r.bottom <= 1 for one in found for r in one.regions)
    assert any(len(one.views) > 1 for one in found)  # where two cameras overlap
    assert all(one.distance_m < 120 for one in found)
    annotated = len(nusc.get("sample", token)["anns"])
    assert len(found) <= annotated
    assert len(nuscenes_evidence(nusc, token, least_visible=4)) <= len(found)
    with pytest.raises(SennaPruneError, match="sample nowhere"):
        nuscenes_evidence(nusc, "nowhere")


def test_key_objects_of_drivelm():
    known = read_evidence(shared("nuscenes/drivelm/v1_1_frames.json"))
    objects = [one for found in known.values() for one in found]
    assert len(known) == 5 and len(objects) >= 10 and "vehicle" in {one.name for one in objects}
    assert all(len(one.regions) == 1 and one.band == "unknown" for one in objects)


def test_evidence_files_and_others(tmp_path):
    file = tmp_path / "evidence.json"
    record = {"class": "light", "distance_m": 12.5, "regions": [["front", 0.1, 0.1, 0.2, 0.2, 0.5]]}
    file.write_text(json.dumps({"format": FORMAT, "samples": {"s": [record], "t": []}}))
    known = read_evidence(file)
    assert known["t"] == [] and known["s"][0].name == "light" and known["s"][0].regions[0].weight == 0.5
    for broken in ([], {}, {"format": FORMAT}, {"format": FORMAT, "samples": {"s": 3}}, {"a": {"key_frames": {"b": 1}}}):
        file.write_text(json.dumps(broken))
        with pytest.raises(SennaPruneError, match=r"evidence\.json"):
            read_evidence(file)


def test_what_lies_beside_the_questions_is_the_evidence_unless_boxes_are_meant(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(sources, "load_tables", lambda root, version: seen.append((root, version)))
    questions = tmp_path / "questions.json"
    questions.write_text("[]")
    (tmp_path / "questions.json.meta.json").write_text(json.dumps({"dataroot": "there", "data": {"version": "v1.0-mini"}}))
    boxes = "boxes of v1.0-mini in there"
    assert find_evidence(questions)[1] == boxes and seen == [("there", "v1.0-mini")]
    record = {"class": "light", "decides_plan": True, "regions": [["front", 0.1, 0.1, 0.2, 0.2]]}
    (tmp_path / "evidence.json").write_text(json.dumps({"format": FORMAT, "samples": {"s": [record]}}))
    of, source = find_evidence(questions)
    assert source == str(tmp_path / "evidence.json") and of("s")[0].decides_plan is True and of("elsewhere") == []
    assert find_evidence(questions, least_visible=2)[1] == boxes
    assert find_evidence(questions, dataroot="x")[1] == "boxes of v1.0-mini in x"
    assert find_evidence(questions, version="v1.0-trainval")[1] == "boxes of v1.0-trainval in there"
    other = tmp_path / "other.json"
    other.write_text(json.dumps({"format": FORMAT, "samples": {}}))
    assert find_evidence(questions, "x", file=str(other))[1] == str(other) and len(seen) == 4


def test_the_renderers_evidence_comes_with_the_embedded_questions():
    of, source = find_evidence(demo.embedded().questions_file)
    known = read_evidence(source)
    assert of(next(iter(known))) == known[next(iter(known))]
    assert {one.name for objects in known.values() for one in objects} == {"pedestrian", "cyclist", "vehicle", "light"}
    assert {one.decides_plan for objects in known.values() for one in objects} == {True, False}
