"""The command on the embedded model: figures, files, one line of error; and the flips of a run."""

import json

import pytest
from click.testing import CliRunner

from senna_autoprune import demo
from senna_autoprune.cli import cli
from senna_autoprune.cli.survival import command
from senna_autoprune.cli.sweep import command as sweep_command
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.report.sweep import write_sweep_report
from senna_autoprune.survival import ask
from senna_autoprune.survival.ask import some_of
from senna_autoprune.survival.flips import flipped_answers
from senna_autoprune.survival.write import read_grids, read_survival
from tests.fixtures import shared


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("survival")
    arguments = ["--methods", "autoprune,fastv", "--retention", "0.05,0.25,1.0", "--limit", "1", "--out", str(out), "--json"]
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.output.strip().split("\n")[-1]), out, done.output


def test_figures_and_files(result):
    found, out, said = result
    assert found["label"] == demo.LABEL and found["samples"] == 1 and json.loads((out / "survival.json").read_text()) == found
    by_name = {(facts["method"], facts["retention"]): name for name, facts in found["settings"].items()}
    whole = found["measures"][by_name[("autoprune", 1.0)]]["all"]
    assert whole["mean"] == pytest.approx(1.0) and whole["chance"] == 1.0
    quarter = found["measures"][by_name[("random", 0.25)]]["all"]
    assert quarter["chance"] == pytest.approx(0.25, abs=0.01) and 0 < quarter["mean"] < 0.9
    config = json.loads((demo.embedded().model_dir / "config.json").read_text())
    assert len(quarter["by_layer"]["survival"]) == config["text_config"]["num_hidden_layers"]
    assert by_name[("fastv", 0.05)] in found["impossible"] and by_name[("fastv", 0.05)] not in found["measures"]
    assert found["evidence"] == str(demo.embedded().questions_file.with_name("evidence.json"))
    assert set(quarter) == set(found["measures"][by_name[("random", 0.25)]]["role"]["decides the plan"])
    assert (out / "figures" / "survival_by_layer.png").is_file()
    text = (out / "survival.md").read_text()
    assert "# Survival of evidence" in text and "by class" in text and "evidence was still there, random" in said


def test_one_line_where_there_is_nothing_to_follow(tmp_path):
    file = tmp_path / "evidence.json"
    file.write_text('{"format": "senna-prune evidence 1", "samples": {}}')
    done = CliRunner().invoke(command, ["--limit", "1", "--evidence", str(file), "--out", str(tmp_path)])
    assert "not one of 1 samples has an object" in str(done.exception)


def test_flips_of_a_run(tmp_path):
    questions = [QuestionRow(i, f"s{i}", "plan", "?", "KEEP, STRAIGHT", (), "scene", True, {}) for i in range(3)]
    keep, stop = "KEEP, STRAIGHT", "STOP, STRAIGHT"
    said = {"unpruned": (keep, keep, stop), "fastv@0.25": (keep, stop, "STOP,STRAIGHT")}
    with RunStore.start(tmp_path / "run", {"identity": {}}, questions) as store:
        for setting, answers in said.items():
            for number, answer in enumerate(answers):
                store.add(AnswerRow(number, setting, "ok", answer))
    assert flipped_answers(tmp_path / "run") == {"fastv@0.25": {0: False, 1: True, 2: False}}


def test_a_report_shows_it_and_refuses_another_file(result):
    _, out, _ = result
    found = read_grids(out)
    assert found[0].title == "Evidence that survives" and "evidence was still there" in found[0].notes[0]
    assert any("by class" in grid.title for grid in found)
    assert read_grids(out / "nowhere") == [] and read_survival(out / "nowhere")[1] is None
    older = json.loads((out / "survival.json").read_text())
    for one in older["measures"].values():
        del one["role"]
    (out / "older").mkdir()
    (out / "older" / "survival.json").write_text(json.dumps(older))
    assert [grid.title for grid in read_grids(out / "older")] == [grid.title for grid in found if "by role" not in grid.title]
    assert read_survival(out / "older")[1] == read_survival(out)[1]
    for text in ("[]", '{"format": "senna-prune survival 1"}', '{"format": "x"}', "{"):
        (out / "other").mkdir(exist_ok=True)
        (out / "other" / "survival.json").write_text(text)
        with pytest.raises(SennaPruneError, match=r"survival\.json"):
            read_grids(out / "other")


def test_a_sweep_shows_what_its_own_cells_keep(tmp_path, monkeypatch):
    """Of the answers' own questions, settings and flips: in the last lines, the table, the report and a figure."""
    arguments = [
        "--methods",
        "fastv,autoprune:gamma=calibrated",
        "--retention",
        "0.25",
        "--limit",
        "3",
        "--calibration",
        "2",
        "--out",
        str(tmp_path),
    ]
    done = CliRunner().invoke(sweep_command, [*arguments, "--survival", "2"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "survival.json").read_text())
    assert found["samples"] == 2 and {facts["method"] for facts in found["settings"].values()} >= {
        "fastv",
        "autoprune:gamma=calibrated",
        "random",
    }
    assert all(
        sum(one["objects"] for one in measured["flipped"].values()) == measured["all"]["objects"] for measured in found["measures"].values()
    )
    said = read_survival(tmp_path)[1]
    assert said is not None and f"{said} (survival.md)." in done.output
    table = (tmp_path / "table.md").read_text()
    assert "### Evidence that survives" in table and "figures/survival_by_layer.png" in table and said in table
    reported = write_sweep_report(tmp_path).files[0].read_text()
    assert "Evidence that survives" in reported and "the share that still enters each layer" in reported

    again = CliRunner().invoke(sweep_command, [*arguments, "--full"], catch_exceptions=False)  # what was measured stays
    assert "Evidence that survives" in again.output and "### Evidence that survives" in (tmp_path / "table.md").read_text()
    (tmp_path / "survival.json").write_text("{")
    assert "survival.json" in str(CliRunner().invoke(sweep_command, arguments).exception)

    def broken(*_: object) -> None:
        raise SennaPruneError("no object anywhere")

    monkeypatch.setattr(ask, "measured", broken)  # the table is written all the same
    (tmp_path / "table.md").unlink()
    ended = CliRunner().invoke(sweep_command, [*arguments, "--survival", "2"])
    assert "no object anywhere" in str(ended.exception) and "Retention of planning accuracy" in (tmp_path / "table.md").read_text()


def test_a_question_of_each_keyframe_scene_by_scene():
    def question(number, token, scene):
        return QuestionRow(number, token, "plan", "?", "KEEP, STRAIGHT", (), scene, True, {})

    asked = [question(0, "a1", "a"), question(1, "a1", "a"), question(2, "a2", "a"), question(3, "b1", "b")]
    assert [row.question for row in some_of(asked, 2)] == [0, 3] and [row.question for row in some_of(asked, 9)] == [0, 3, 2]


def test_drivelms_key_objects_in_real_frames(tmp_path):
    """Of a model with random weights: their boxes are found in its tokens, and random keeps chance of them. No distance is known."""
    frames, boxes = shared("nuscenes/subset"), shared("nuscenes/drivelm/v1_1_frames.json")

    def run(*words):
        done = CliRunner().invoke(cli, [str(word) for word in words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    questions = tmp_path / "drivelm.json"
    run("questions", "convert", boxes, "--images", frames, "--require-images", "--out", questions)
    asked = ("--model", shared("fixtures/senna-tiny-a/checkpoint"), "--questions", questions, "--images", frames, "--types", "all")
    cut = ("--methods", "fastv", "--retention", "0.5", "--limit", "3")
    said = run("survival", *asked, *cut, "--evidence", boxes, "--out", tmp_path / "out")
    found = json.loads((tmp_path / "out" / "survival.json").read_text())
    half = found["measures"]["random@0.5"]
    assert half["all"]["chance"] == pytest.approx(0.5, abs=0.01) and abs(half["all"]["gain"]["value"]) < 0.15
    assert set(half["class"]) >= {"vehicle"} and list(half["distance"]) == ["unknown"] and half["role"] == {}
    assert "by class" in said and "by view" in said and "by distance" not in said and "by role" not in said
