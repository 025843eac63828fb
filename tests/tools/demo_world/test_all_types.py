"""The second edition's split: six types through ``questions build``, difficulty in the sidecar, evidence where the pixels are."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from demo_world.complexity import complexity, decisive, evidence, steps
from demo_world.make_demo_world import room_for
from demo_world.render import Renderer
from demo_world.shown import body_pixels
from demo_world.world import generate
from senna_autoprune.nuscenes.questions_file import read_questions
from senna_autoprune.survival.sources import read_evidence

TOOL = Path(__file__).parents[3] / "tools" / "make_demo_world.py"


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    out = tmp_path_factory.mktemp("split")
    subprocess.run([sys.executable, str(TOOL), "--split", "demo_test", "--keyframes", "12", "--out", str(out)], check=True)
    return out, read_questions(out / "questions.json")


def test_all_six_types_about_the_same_keyframes(split):
    out, file = split
    kinds = Counter(record.type for record in file.records)
    samples = {record.token for record in file.records}
    assert set(kinds) == {"plan", "vru", "motion", "light", "description", "explanation"} and 12 <= len(samples) <= 16
    assert all(kinds[kind] == len(samples) for kind in kinds if kind not in ("motion", "light")) and kinds["motion"] >= len(samples) / 2
    lights = Counter(record.answer.strip() for record in file.records if record.type == "light")
    assert 0 < lights["None"] <= lights.total() - lights["None"]
    side = file.sidecar
    assert side["data"]["split"] == "demo_test" and side["records"] == len(file.records) and side["questions"] == dict(kinds.most_common())
    assert side["teacher"]["kind"] == "template" and side["teacher"]["failed"] == 0
    assert all((out / image).is_file() for record in file.records for image in record.images)
    assert sum(side["labels"]["light"].values()) == kinds["light"] and set(side["labels"]["light"]) <= {"Red", "Green", "Yellow", "None"}


def test_quotas_leave_room_for_rare_answers():
    frequent, rare = (False, "KEEP, STRAIGHT"), (False, "KEEP, LEFT_TURN")
    assert (room_for(206)[frequent], room_for(206)[rare]) == (37 + 2, 6 + 2)  # the shipped split: two more than its share
    assert (room_for(2000)[frequent], room_for(2000)[rare]) == (360 + 18, 60 + 3)  # a large one: a twentieth more


def test_every_question_has_its_difficulty(split):
    _, file = split
    known = file.sidecar["complexity"]
    assert set(known) == {record.id for record in file.records}
    for record in file.records:
        one = known[record.id]
        assert one["steps"] >= 1 and 0 <= one["views"] <= 6 and (one["patches"] > 0) == (one["views"] > 0)
        assert one["complexity"] == one["steps"] + one["views"] + one["distractors"] / 4
        if record.type == "light" and record.answer.strip() != "None":
            assert one["views"] == 1
        if record.type == "vru":
            assert one["steps"] == 1 + record.answer.count("located")
        if record.type == "motion":
            assert one["steps"] == record.answer.count("Object ")


def test_evidence_is_there_for_every_sample(split):
    out, file = split
    known = read_evidence(out / "evidence.json")
    assert set(known) == {record.token for record in file.records}
    assert {one.name for objects in known.values() for one in objects} <= {"pedestrian", "cyclist", "vehicle", "light"}
    assert all(0 < region.weight <= 1 for objects in known.values() for one in objects for region in one.regions)


def test_the_patches_of_a_body_are_where_its_pixels_are():
    scenes = (generate(seed, "x", "street", 2) for seed in range(920_000, 920_040))
    scene, question = next((scene, q) for scene in scenes for q in scene.questions if q.cause == "red signal")
    views = Renderer(scene).render(question.keyframe, labels=True)
    seen = body_pixels(views, len(scene.bodies))
    bodies = decisive(scene, question, "light", None, seen)
    assert bodies and all(scene.bodies[i].kind == "signal" for i in bodies)
    lights = [one for one in evidence(scene, question, views) if one["class"] == "light" and one["decides_plan"]]
    height, width = views.parts[0].shape
    for one in lights:
        for view, left, top, right, bottom, share in one["regions"]:
            if view == "front":
                patch = views.parts[0][round(top * height) : round(bottom * height), round(left * width) : round(right * width)]
                owners = views.part_body[patch]
                assert patch.shape == (24, 24) and max(Counter(owners.ravel().tolist()).values()) > 0
                assert any(np.mean(owners == i) == pytest.approx(share, abs=2e-3) for i in bodies)
    of_light = complexity(scene, question, "light", None, views)
    assert of_light["views"] == 1 and of_light["steps"] == 1
    assert steps(question, "plan", 1) == 1


def test_steps_of_a_lane_change_to_the_right():
    scenes = (generate(seed, "x", "fast", 2) for seed in range(920_000, 920_100))
    asked = [q for scene in scenes for q in scene.questions]
    by_manoeuvre = {q.manoeuvre: steps(q, "plan", 0) for q in asked}
    assert by_manoeuvre == {"keep": 1, "left_change": 2, "right_change": 3, "decelerate": 3}
