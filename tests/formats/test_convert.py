"""Files of other formats become question files: DriveLM's real annotations, RoboSense's record, LLaVA's lists and lines, tables."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from PIL import Image

from senna_autoprune import SennaPruneError
from senna_autoprune.adapters.answers import options_of
from senna_autoprune.cli import cli
from senna_autoprune.formats.convert import CONTRADICTING, REPEATED, convert
from senna_autoprune.nuscenes.questions_file import read_questions
from senna_autoprune.nuscenes.strings import channel, view_order
from tests.fixtures import shared

CAMERAS = ("CAM_FRONT", "CAM_BACK")


@pytest.fixture
def place(tmp_path):
    """A folder with pictures a.jpg, b.jpg and samples/CAM_*/x__CAM_*__1.jpg."""
    for name in ("a.jpg", "b.jpg", *(f"samples/{camera}/x__{camera}__1.jpg" for camera in CAMERAS)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    return tmp_path


def write(place, name, value):
    path = place / name
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def converted(place, name, value, **options):
    sidecar = convert(write(place, name, value), place, place / "out.json", **options)
    return sidecar, read_questions(place / "out.json").records


def counted_by_hand(path):
    """(frame, question) -> answers of a DriveLM file, by plain loops."""
    found: dict[tuple[str, str], list[str]] = {}
    for scene in json.loads(path.read_text()).values():
        for token, frame in scene["key_frames"].items():
            for pairs in frame["QA"].values():
                for pair in pairs:
                    found.setdefault((token, pair["Q"]), []).append(pair["A"])
    return found


@pytest.mark.parametrize("name", ["v1_1_frames.json", "challenge_questions.json"])
def test_drivelm_as_it_is_published(tmp_path, name):
    path, images = shared("nuscenes", "drivelm", name), shared("nuscenes", "subset")
    sidecar = convert(path, images, tmp_path / "out.json")
    file, pairs = read_questions(tmp_path / "out.json"), counted_by_hand(path)
    ours = {(one.token, one.text.split("<image>\n")[-1]): one.answer for one in file.records}
    assert ours == {key: said[0] for key, said in pairs.items()}
    assert sum(sidecar["skipped"].values()) == sum(len(said) - 1 for said in pairs.values())
    assert sidecar["skipped"].get(CONTRADICTING, 0) == sum(one != said[0] for said in pairs.values() for one in said[1:])
    assert sidecar["source"]["licence"].startswith("CC BY-NC-SA") and sidecar["samples"] == {"with_questions": 5, "missing_images": 0}
    assert sidecar["scene_tokens"] == len(json.loads(path.read_text()))
    for record in file.records:
        assert [image.split("/")[1] for image in record.images] == [channel(view) for view in view_order("fixed")]
        assert record.text.startswith("<FRONT VIEW>:\n<image>\n") and record.text.count("<image>") == 6
        if record.type == "choice":
            assert record.answer in options_of(record.text)
    types = {record.type for record in file.records}
    assert types == ({"choice", "yes_no", "other"} if name.startswith("challenge") else {"yes_no", "other"})
    assert sidecar["questions"] == {kind: sum(record.type == kind for record in file.records) for kind in sidecar["questions"]}
    assert sum(sidecar["labels"]["yes_no"].values()) == sidecar["questions"]["yes_no"]


ROBOSENSE = {
    "scene_token": "s1",
    "frame_token": "f1",
    "question": "What now? A. Stop. B. Go.",
    "answer": "B",
    "category": "planning",
    "img_paths": {camera: f"../nuscenes/samples/{camera}/x__{camera}__1.jpg" for camera in CAMERAS},
}


def test_robosense_and_drivebench_records(place):
    night = {**ROBOSENSE, "question": "Is it night?", "answer": ["No."], "corruption": "fog"}
    asked = [ROBOSENSE, night, {**ROBOSENSE, "frame_token": "f2"}]
    sidecar, (first, second, third) = converted(place, "r.json", asked)
    assert (first.type, first.token, first.scene, first["senna_prune"]["category"]) == ("choice", "f1", "s1", "planning")
    assert first.images == [f"samples/{camera}/x__{camera}__1.jpg" for camera in CAMERAS]
    assert first.text == "<FRONT VIEW>:\n<image>\n<BACK VIEW>:\n<image>\nWhat now? A. Stop. B. Go."
    assert (second.type, second.answer, second["senna_prune"]["corruption"]) == ("yes_no", "No.", "fog") and third.token == "f2"
    assert sidecar["source"]["licence"] == "unknown" and sidecar["categories"] == {"planning": 3}
    lines, _ = converted(place, "r.jsonl", "".join(json.dumps(one) + "\n\n" for one in asked))
    assert lines["records"] == 3 and lines["source"]["format"] == "robosense"


def turns(*texts):
    return [{"from": ("human", "gpt")[index % 2], "value": text} for index, text in enumerate(texts)]


def test_every_turn_of_a_conversation_is_asked(place):
    talk = {"id": 1, "image": "a.jpg", "conversations": turns("<image>\nWhat is it?", "A car.", "Is it red?", "Yes.", "Where?")}
    two = {"images": ["a.jpg", "b.jpg"], "messages": [{"role": "system", "content": "Drive."}, {"role": "user", "content": "Free?"}]}
    sidecar, records = converted(place, "l.json", [talk, two], licence="mine")
    assert [record.text for record in records] == [
        "<image>\nWhat is it?",
        "<image>\nIs it red?",
        "<image>\nWhere?",
        "<image>\n<image>\nFree?",
    ]
    assert [record.answer for record in records] == ["A car.", "Yes.", "", ""]
    assert [record["senna_prune"].get("turn") for record in records] == [None, 1, 2, None]
    assert len({record.token for record in records[:3]}) == 1 and records[3]["senna_prune"]["system"] == "Drive."
    assert sidecar["later_turns"] == 2 and sidecar["unlabelled"] == 2 and sidecar["source"]["licence"] == "mine"
    assert sidecar["source"]["format"] == "llava"


def test_a_table(place):
    text = 'images,question,answer,scene\n"a.jpg; b.jpg","Free, or not?",yes,s1\na.jpg,Where?,left,\n'
    sidecar, (first, second) = converted(place, "t.csv", text)
    assert (first.text, first.images, first.answer, first.scene) == ("<image>\n<image>\nFree, or not?", ["a.jpg", "b.jpg"], "yes", "s1")
    assert second.scene is None and sidecar["source"]["format"] == "table"


def test_nothing_is_dropped_in_silence(place):
    def talk(image, *texts):
        return {"image": image, "conversations": turns(*texts)}

    asked = [
        talk("a.jpg", "Free?", "Yes."),
        talk("a.jpg", "Free?", "Yes. "),
        talk("a.jpg", "Free?", "No."),
        talk("gone.jpg", "Free?", "No."),
        talk("a.jpg", "<image><image>Free?", "No."),
        {"conversations": turns("Free?", "No.")},
    ]
    sidecar, records = converted(place, "l.json", asked)
    reasons = {REPEATED: 1, CONTRADICTING: 1, "image marks and images differ in number": 1, "no image": 1}
    assert sidecar["skipped"] == reasons and sidecar["samples"]["missing_images"] == 1 and len(records) == 2
    sidecar, records = converted(place, "l.json", asked, require_images=True)
    assert sidecar["skipped"] == {**reasons, "an image is missing": 1} and len(records) == 1


BROKEN = [
    ("x.json", "[]", "holds no record"),
    ("x.json", "hello", "neither JSON, JSON lines nor CSV"),
    ("x.json", '[{"foo": 1}]', r"first record \(foo\) is of no known format"),
    ("x.json", '{"a": {"b": 1}}', "an object of no known format"),
    ("x.json", '{"s": {"key_frames": {"f": {"QA": {"p": [{"Q": "", "A": "x"}]}, "image_paths": {"C": "a.jpg"}}}}}', "frame f: 'Q' must be"),
    ("x.json", '{"s": {"key_frames": {"f": {"QA": {"p": [{"Q": "x", "A": {}}]}, "image_paths": 3}}}}', "images must be paths"),
    ("x.jsonl", '{"question": "x", "img_paths": ["a.jpg"]}\n{"question"', "x.jsonl:2: broken JSON"),
    ("x.json", '[{"question": "x", "answer": true, "img_paths": ["a.jpg"]}]', "record 0: 'answer' must be a text"),
    ("x.json", '[{"conversations": [{"from": "gpt", "value": "x"}], "image": "a.jpg"}]', "must take turns"),
    ("x.json", '[{"conversations": [{"from": "human", "value": "x"}], "image": "a.jpg"}, 3]', "record 1"),
    ("x.json", '[{"question": "x\\u0000", "img_paths": ["a.jpg"]}]', r"U\+0000"),
    ("x.csv", "a,b\n1,2\n", "must name columns images"),
    ("x.csv", "images,question\na.jpg,x,y\n", "x.csv:2: more cells than columns"),
    ("x.json", '[{"question": "x", "img_paths": ["gone.jpg"]}]', "not one of 1 images is in"),
    ("x.json", '[{"question": "x", "img_paths": []}]', r"nothing to ask: no image \(1\)"),
    ("x.json", "[" * 100_000, "nested too deeply|no known format|cut off"),
]


@pytest.mark.parametrize(("name", "text", "message"), BROKEN)
def test_broken_files_are_one_line_and_leave_out_as_it_was(place, name, text, message):
    (place / "out.json").write_text("before")
    with pytest.raises(SennaPruneError, match=message) as caught:
        convert(write(place, name, text), place, place / "out.json")
    assert "\n" not in str(caught.value) and (place / "out.json").read_text() == "before"


def test_the_command_says_what_came_out(place):
    path = write(place, "l.json", [{"image": "a.jpg", "conversations": turns("Free?", "Yes.", "Sure?", "Yes.")}])
    result = CliRunner().invoke(cli, ["questions", "convert", str(path), "--images", str(place), "--out", str(place / "out.json")])
    assert result.exit_code == 0, result.output
    assert "llava: 2 questions about 1 samples" in result.output and "1 questions are later turns" in result.output
    assert "2 100.0 %  yes" in result.output and "licence: unknown" in result.output
    result = CliRunner().invoke(cli, ["questions", "inspect", str(place / "out.json")])
    assert "converted from llava (l.json), licence: unknown" in result.output and "no sidecar" not in result.output
    with pytest.raises(SennaPruneError, match="is the file to be converted"):
        convert(path, place, path)


@pytest.mark.parametrize("path", ["C:\\data\\samples\\CAM_FRONT\\a.jpg", "samples\\CAM_FRONT\\a.jpg", "/else/samples/CAM_FRONT/a.jpg"])
def test_paths_of_other_machines(tmp_path, path):
    (tmp_path / "samples" / "CAM_FRONT").mkdir(parents=True)
    (tmp_path / "samples" / "CAM_FRONT" / "a.jpg").touch()
    (tmp_path / "in.json").write_text(json.dumps([{"question": "Q?", "answer": "A", "img_paths": [path]}]))
    convert(tmp_path / "in.json", tmp_path, tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text())[0]["images"] == ["samples/CAM_FRONT/a.jpg"]
