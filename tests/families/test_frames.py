"""Frames in time and the way driven, from the tables to the prompt: eval, report, replay and ask on real frames, missing ones counted."""

from __future__ import annotations

import json
import re

import pytest

from senna_autoprune import SennaPruneError
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.nuscenes.history import history_of
from senna_autoprune.nuscenes.questions import build_questions
from senna_autoprune.nuscenes.questions_file import read_questions
from senna_autoprune.nuscenes.records import BuildSettings
from senna_autoprune.nuscenes.scenes import load_tables
from tests.families.test_commands import run

ADAPTER = """
family: qwen2_5_vl
views:
  cameras: [CAM_FRONT, CAM_BACK]
  frames: [-1.5, -1.0, -0.5, 0.0]
  min_pixels: 64
  max_pixels: 512
prompt:
  system: You drive at {speed} m/s.
  user: "Ahead {view:CAM_FRONT} behind {view:CAM_BACK} You came from {history}. {question}"
generation: {max_new_tokens: 2}
parse: {kind: waypoints, axes: forward-left, count: 6}
"""
SHORT = ("--retention", 0.5, "--max-new-tokens", 2)


@pytest.fixture(scope="module")
def asked(family, frames, tmp_path_factory):
    """Model, adapter, and a file of both keyframes of scene-0103 that have images: the scene's first, and the next."""
    folder = tmp_path_factory.mktemp("frames")
    (folder / "in-time.yaml").write_text(ADAPTER)
    build_questions(load_tables(frames, "v1.0-mini"), folder / "all.json", BuildSettings(types=("plan",), require_images=True), split="all")
    records = [dict(record) for record in read_questions(folder / "all.json").records if "n008-2018-08-01" in record.images[0]]
    assert len(records) == 2
    (folder / "qa.json").write_text(json.dumps(records))
    return family("qwen2_5_vl")[0], folder / "in-time.yaml", folder / "qa.json"


def test_earlier_frames_are_shown_and_missing_ones_counted(asked, frames, tmp_path):
    model, adapter, questions = asked
    common = ("--model", model, "--adapter", adapter, "--images", frames, "--questions", questions)
    printed = run("eval", *common, "--out", tmp_path / "run", *SHORT, "--resamples", 100, "--no-controls")
    assert "10 pictures of 2 of 2 questions stand for earlier frames that are not there" in " ".join(printed.split())
    with RunStore.read(tmp_path / "run") as store:
        first, second = store.questions()
        sent, rows = store.sent(), store.answers()
    # of the first keyframe no earlier frame has a file; of the second, 0.5 s later, one of three
    assert [sent[q.question, "unpruned"][1] for q in (first, second)] == [6, 4]
    assert {row.missing_frames for row in rows if row.question == first.question} == {6}
    assert first.earlier == {} and set(second.earlier) == {("CAM_FRONT", -0.5), ("CAM_BACK", -0.5)}
    assert second.earlier["CAM_FRONT", -0.5] == "samples/" + next(i for i in first.images if "/CAM_FRONT/" in i).partition("samples/")[2]
    for question in (first, second):
        text = sent[question.question, "unpruned"][0]
        assert text.count("<|image_pad|>") == 8 and re.search(r"You drive at \d+ m/s\.", text)
    true = history_of(load_tables(frames, "v1.0-mini"), second.token)  # x right, y forward; the prompt's are forward, left
    ahead, left = (round(float(value), 2) + 0.0 for value in (true[0, 1], -true[0, 0]))
    assert len(true) == 1 and f"You came from [{ahead:.2f}, {left:.2f}]. " in sent[second.question, "unpruned"][0]
    assert "You came from none. " in sent[first.question, "unpruned"][0]
    run("report", tmp_path / "run", "--no-replay")
    assert "stand for earlier frames" in (tmp_path / "run" / "report.html").read_text()


def test_replay_of_a_scene_and_ask_show_them_too(asked, frames, tmp_path):
    model, adapter, _ = asked
    common = ("--model", model, "--adapter", adapter, "--dataroot", frames, "--scene", "scene-0103")
    printed = run("ask", *common, "--sample", 1, *SHORT, "--prompt")
    assert "4 pictures stand for earlier ones" in printed and printed.count("<|image_pad|>") == 8
    assert "You came from [-" in printed and "CAM_FRONT -0.5 s" in printed
    printed = run("replay", *common, "--out", tmp_path / "page.html", "--retention", 0.5)
    assert "2 frames" in printed and "front -0.5 s" in (tmp_path / "page.html").read_text()


def test_without_tables_it_is_one_line(asked, frames, tmp_path):
    model, adapter, questions = asked
    (tmp_path / "samples").symlink_to(frames / "samples")
    still = tmp_path / "still.yaml"
    still.write_text(ADAPTER.replace("  frames: [-1.5, -1.0, -0.5, 0.0]\n", ""))
    common = ("--model", model, "--images", tmp_path, "--questions", questions, "--out", tmp_path / "run", *SHORT)
    for named, what in ((adapter, "shows earlier frames"), (still, r"states a \{history\}")):
        with pytest.raises(SennaPruneError, match=what + ": say where the tables are with --tables DIR"):
            run("eval", *common, "--adapter", named)
