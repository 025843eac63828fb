"""Questions chosen by condition, drawn with weights, put together."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from senna_autoprune import SennaPruneError
from senna_autoprune.cli import cli
from senna_autoprune.formats.select import filter_questions, merge_questions, sample_questions
from senna_autoprune.nuscenes.questions_file import read_questions, write_sidecar
from senna_autoprune.nuscenes.strings import strings

LABELS = ["KEEP, STRAIGHT"] * 14 + ["STOP, STRAIGHT"] * 4 + ["KEEP, LEFT_TURN"] * 2


def plan(index, label, speed=3, root="."):
    text = strings()["image_prompt"].count("<image>") * "<image>" + strings()["plan"]["question"].format(speed=speed, command="go straight")
    return {
        "token": f"t{index}",
        "images": [f"{root}/{camera}.jpg" for camera in "abcdef"],
        "conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": label + "\n"}],
        "senna_prune": {"scene": f"scene-{index % 4}"},
    }


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "q.json"
    path.write_text(json.dumps([plan(index, label, speed=index) for index, label in enumerate(LABELS)]))
    facts = {f"scene-{index}": {"description": "Night, rain" if index == 3 else "Sunny", "location": "boston"} for index in range(4)}
    write_sidecar(path, {"scenes": facts, "dataroot": str(tmp_path)})
    return path


def labels(path):
    return [record.answer.strip() for record in read_questions(path).records]


def test_filters_by_type_scene_label_and_condition(file, tmp_path):
    out = tmp_path / "out.json"
    filter_questions(file, out, {"label": ["STOP, STRAIGHT", "KEEP, LEFT_TURN"]})
    assert labels(out) == LABELS[14:]
    sidecar = filter_questions(file, out, {"light": ["night"], "type": ["plan"]})
    assert [record.token for record in read_questions(out).records] == [f"t{index}" for index in range(3, 20, 4)]
    assert sidecar["filter"] == {"light": ["night"], "type": ["plan"]} and sidecar["of"] == 20 and sidecar["scenes"]
    filter_questions(file, out, {"scene": ["scene-1"]}, limit=2)
    assert [record.token for record in read_questions(out).records] == ["t1", "t5"]
    filter_questions(out, tmp_path / "again.json", {"weather": ["dry"]})  # what was chosen can be chosen from
    assert len(labels(tmp_path / "again.json")) == 2


def test_a_balanced_sample_is_even_and_its_weights_undo_it(file, tmp_path):
    out = tmp_path / "out.json"
    sidecar = sample_questions(file, out, 10, by="label", seed=1)
    drawn = labels(out)
    assert {label: drawn.count(label) for label in set(drawn)} == {"KEEP, STRAIGHT": 4, "STOP, STRAIGHT": 4, "KEEP, LEFT_TURN": 2}
    records = read_questions(out).records
    assert [record.token for record in records] == sorted((record.token for record in records), key=lambda token: int(token[1:]))
    weights = [record["senna_prune"]["weight"] for record in records]
    assert sum(weights) == pytest.approx(10)
    for label in set(LABELS):
        weighted = sum(weight for weight, said in zip(weights, drawn, strict=True) if said == label) / sum(weights)
        assert weighted == pytest.approx(LABELS.count(label) / len(LABELS))
    assert sidecar["sample"]["groups"]["STOP, STRAIGHT"] == {"of": 4, "taken": 4, "weight": pytest.approx(0.5)}
    sample_questions(file, tmp_path / "same.json", 10, by="label", seed=1)
    assert (tmp_path / "same.json").read_bytes() == out.read_bytes()
    sample_questions(file, tmp_path / "other.json", 10, by="label", seed=2)
    assert (tmp_path / "other.json").read_bytes() != out.read_bytes()


def test_weights_of_a_sample_of_a_sample_multiply(file, tmp_path):
    sample_questions(file, tmp_path / "one.json", 10, by="label", seed=1)
    sample_questions(tmp_path / "one.json", tmp_path / "two.json", 6, by="label", seed=1)
    records = read_questions(tmp_path / "two.json").records
    found = {record.answer.strip(): record["senna_prune"]["weight"] for record in records}
    assert found["KEEP, STRAIGHT"] == pytest.approx((14 / 20) / (4 / 10) * (4 / 10) / (2 / 6))


def test_a_stratified_sample_keeps_the_shares(file, tmp_path):
    sidecar = sample_questions(file, tmp_path / "out.json", 10, balanced=False)
    assert {name: group["taken"] for name, group in sidecar["sample"]["groups"].items()} == {
        "KEEP, STRAIGHT": 7,
        "STOP, STRAIGHT": 2,
        "KEEP, LEFT_TURN": 1,
    }
    sidecar = sample_questions(file, tmp_path / "out.json", 4, balanced=False)  # the smallest group keeps one
    assert [group["taken"] for group in sidecar["sample"]["groups"].values()] == [2, 1, 1]


def test_merging_keeps_one_of_equal_questions_and_finds_every_image(file, tmp_path):
    other = tmp_path / "elsewhere" / "q.json"
    other.parent.mkdir()
    other.write_text(json.dumps([plan(0, LABELS[0], speed=0), plan(77, "STOP, STRAIGHT")]))
    sidecar = merge_questions([file, other], tmp_path / "out.json")
    records = read_questions(tmp_path / "out.json").records
    assert len(records) == 21 and sidecar["asked_twice"] == 1 and records[-1].images[0] == str(other.parent / "./a.jpg").replace("/./", "/")
    assert records[0].images[0] == str(tmp_path / "a.jpg") and "dataroot" not in sidecar
    assert sidecar["scenes"].keys() == {f"scene-{index}" for index in range(4)}
    other.write_text(json.dumps([plan(0, "STOP, STRAIGHT", speed=0)]))
    with pytest.raises(SennaPruneError, match=r"elsewhere/q.json: record 0 asks the same as .*q.json: record 0 and has another answer"):
        merge_questions([file, other], tmp_path / "out.json")


def test_what_cannot_be_chosen_is_refused_by_name(file, tmp_path):
    out = tmp_path / "out.json"
    for call, message in (
        (lambda: filter_questions(file, out, {"colour": ["red"]}), "unknown condition 'colour'"),
        (lambda: filter_questions(file, out, {"light": ["nigth"]}), r"no question has light 'nigth' \(did you mean 'night'"),
        (lambda: filter_questions(file, out, {"light": ["night"], "scene": ["scene-1"]}), "no question is left"),
        (lambda: sample_questions(file, out, 21), "has 20 questions: a sample of 21"),
        (lambda: sample_questions(file, out, 2), "3 groups by label: a sample of 2"),
        (lambda: filter_questions(file, file, {"light": ["night"]}), "is the file that is read"),
    ):
        with pytest.raises(SennaPruneError, match=message):
            call()
    assert not out.exists()


def test_the_commands(file, tmp_path):
    def run(*arguments):
        result = CliRunner().invoke(cli, ["questions", *map(str, arguments), "--out", str(tmp_path / "out.json")])
        return result.exit_code, result.output, result.exception

    code, output, _ = run("sample", file, "--count", 10)
    assert code == 0 and "4 of 14      weight 1.75  KEEP, STRAIGHT" in output
    code, output, _ = run("filter", file, "--types", "plan", "--where", "light=night", "--label", "KEEP, STRAIGHT")
    assert code == 0 and "3 questions -> " in output
    code, output, _ = run("merge", file, file)
    assert code == 0 and "20 questions were in more than one file" in output
    assert isinstance(run("filter", file)[2], SennaPruneError)
    assert "write it as NAME=VALUE" in str(run("filter", file, "--where", "light")[2])
