"""The question builders against every recorded scene, all six views."""

from __future__ import annotations

import json

import numpy as np
import pytest

from senna_autoprune.nuscenes import builders
from senna_autoprune.nuscenes.strings import channel, question_type, question_view, strings, view_names, view_order
from tests.fixtures import shared


def recorded(name: str):
    return json.loads(shared("fixtures", "senna-qa", name).read_text())


def geometry(info: dict) -> builders.Geometry:
    """The recorded ``info``, cast as the fixture's README says."""
    n = len(info["gt_names"])
    return builders.Geometry(
        box_xy=np.array(info["gt_boxes"], dtype=np.float64).reshape(n, 7)[:, :2],
        names=info["gt_names"],
        tracks=np.array(info["gt_agent_fut_trajs_vcs"], dtype=np.float32).reshape(n, 6, 2),
        track_masks=np.array(info["gt_agent_fut_masks"], dtype=np.float32).reshape(n, 6),
        ego_offsets=np.array(info["gt_ego_fut_trajs"], dtype=np.float32),
        ego_masks=np.array(info["gt_ego_fut_masks"], dtype=np.float32),
        ego_speed=np.array(info["gt_ego_lcf_feat"], dtype=np.float32)[7],
        command=info["ego_navi_cmd"],
    )


def outcome(build, *args):
    try:
        pair = build(*args)
    except ValueError:
        return "raised"
    return None if pair is None else builders.conversation(pair)


def expected(record: dict):
    return "raised" if "exception" in record else record["out"]


def test_every_recorded_scene_gives_the_same_questions_and_answers():
    rows = recorded("qa_builders.json")
    questions = 0
    for number, row in enumerate(rows):
        scene = geometry(row["info"])
        assert outcome(builders.vru_question, scene) == expected(row["vru"]), number
        assert outcome(builders.plan_question, scene) == expected(row["plan"]), number
        assert set(row["mot"]) == set(view_names())
        for view in view_names():
            assert outcome(builders.motion_question, scene, view) == expected(row["mot"][view]), (number, view)
            questions += row["mot"][view].get("out") is not None
    assert questions > 100


def test_strings_equal_the_recorded_constants():
    constants = recorded("constants.json")
    assert builders.conversation(builders.QuestionAnswer("Q", "A")) == constants["format_qa"]
    assert strings()["speeds"] == constants["pedal_status"]
    assert strings()["paths"] == constants["path_status"]
    assert strings()["categories"] == constants["NameMapping"]


def test_question_types_and_views_are_recognised_from_the_text():
    scene = geometry(recorded("qa_builders.json")[0]["info"])
    plan = builders.plan_question(scene)
    assert plan is not None and question_type(plan.question) == "plan" and question_view(plan.question) is None
    assert question_type(builders.vru_question(scene).question) == "vru"
    assert question_type(builders.light_question()) == "light"
    assert question_type(builders.explanation_question(scene) or "") == "explanation"
    for view in view_names():
        assert question_type(builders.description_question(view)) == "description"
        assert question_view(builders.description_question(view)) == view
        motion = builders.motion_question(scene, view)
        if motion is not None:
            assert (question_type(motion.question), question_view(motion.question)) == ("motion", view)
    assert question_type("What is the weather?") == "other"


def test_samples_of_the_original_are_recognised():
    samples = json.loads(shared("fixtures", "senna-samples", "samples.json").read_text())
    assert [question_type(sample["question"]) for sample in samples] == ["plan", "vru", "motion", "plan", "other"]


def test_view_orders():
    images = json.loads(shared("fixtures", "senna-samples", "samples.json").read_text())[0]["images"]
    assert [channel(view) for view in view_order("reference")] == [path.split("/")[1][:-4] for path in images]
    named = [line[1:-7].lower() for line in strings()["image_prompt"].split("\n") if line.endswith("VIEW>:")]
    assert list(view_order("fixed")) == named
    assert set(view_names()) == set(view_order("fixed")) == set(view_order("reference"))


def moving(step: float, future: int = 6) -> builders.Geometry:
    """An empty road and a straight drive of ``step`` metres each half second."""
    return builders.Geometry(
        box_xy=np.zeros((0, 2)),
        names=[],
        tracks=np.zeros((0, 6, 2), np.float32),
        track_masks=np.zeros((0, 6)),
        ego_offsets=np.tile(np.float32([0, step]), (6, 1)),
        ego_masks=np.arange(6) < future,
        ego_speed=2 * step,
        command="go straight",
    )


def test_explanation_names_the_decision_and_needs_the_whole_future():
    drive, stand = builders.explanation_question(moving(4.0)), builders.explanation_question(moving(0.0))
    assert drive is not None and "is to maintain the current speed and go straight. Based" in drive
    assert stand is not None and "is to stop the car. Based" in stand
    assert builders.explanation_question(moving(4.0, future=5)) is None
    assert builders.plan_question(moving(4.0, future=5)) is None


def test_a_nan_speed_raises_instead_of_printing_nonsense():
    with pytest.raises(ValueError):
        builders.plan_question(moving(float("nan")))
