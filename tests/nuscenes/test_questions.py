"""Building question files from real tables: records, counts, variants, interruptions, time."""

from __future__ import annotations

import dataclasses
import json
import time
from collections import Counter

import pytest

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.nuscenes import records
from senna_autoprune.nuscenes.labels import labels_of
from senna_autoprune.nuscenes.questions import build_questions
from senna_autoprune.nuscenes.questions_file import read_questions, sidecar_path
from senna_autoprune.nuscenes.records import BuildCounts, BuildSettings, RecordBuilder
from senna_autoprune.nuscenes.scenes import iter_samples, scenes_of_split
from senna_autoprune.nuscenes.strings import channel, view_order

ORIGINAL_KEYS = {
    "token",
    "image",
    "images",
    "prev",
    "next",
    "scene_token",
    "fut_valid_flag",
    "ego_fut_trajs",
    "conversations",
}


@pytest.fixture(scope="module")
def built(mini, tmp_path_factory):
    """mini_val in every combination that matters: (navigation, views) -> path."""
    folder = tmp_path_factory.mktemp("built")
    paths = {}
    for navigation, views in (("fixed", "fixed"), ("reference", "reference"), ("none", "fixed")):
        paths[navigation] = folder / f"{navigation}.json"
        build_questions(mini, paths[navigation], BuildSettings(navigation=navigation, views=views), split="mini_val")
    return paths


def test_records_have_the_originals_keys(built, mini):
    file = read_questions(built["fixed"])
    for question in file.records:
        assert set(question) == ORIGINAL_KEYS | {"id", "senna_prune"}
        sample = mini.get("sample", question.token)
        assert (question["prev"], question["next"]) == (sample["prev"], sample["next"])
        assert question["image"] == question.images[0]
        assert question["fut_valid_flag"] in ("True", "False")
        assert len(json.loads(question["ego_fut_trajs"])) == 12
        assert question["senna_prune"]["type"] == question.type
        assert question["senna_prune"].get("view") == question.view
    assert len({question.id for question in file.records}) == len(file.records)


def test_label_counts_of_mini_val(built):
    """The figures of the project's note: labels do not depend on the variant, commands do."""
    labels = {"KEEP, STRAIGHT": 50, "KEEP, RIGHT_TURN": 13, "DECELERATE, STRAIGHT": 4, "KEEP, LEFT_TURN": 2}
    for path in built.values():
        sidecar = read_questions(path).sidecar
        assert sidecar["labels"]["plan"] == labels
        assert sidecar["majority"]["plan"] == {"answer": "KEEP, STRAIGHT", "count": 50, "share": 50 / 69}
        assert sidecar["questions"] == {"motion": 373, "vru": 81, "plan": 69}
        assert sidecar["labels"]["vru"] == {"no": 49, "yes": 32}
        assert sidecar["skipped"] == {"plan": {records.SHORT_FUTURE: 12}}
    commands = {kind: read_questions(path).sidecar["navigation"]["commands"] for kind, path in built.items()}
    assert commands == {
        "fixed": {"go straight": 50, "turn right": 11, "go straight and turn right": 8},
        "reference": {"turn left": 63, "go straight and turn left": 5, "go straight": 1},
        "none": {"go straight": 69},
    }


def test_variant_is_in_the_file_and_its_sidecar(built):
    fixed, reference = read_questions(built["fixed"]), read_questions(built["reference"])
    assert fixed.sidecar["variant"] == {"navigation": "fixed", "views": "fixed"}
    assert reference.sidecar["variant"] == {"navigation": "reference", "views": "reference"}
    assert {(q["senna_prune"]["navigation"], q["senna_prune"]["views"]) for q in reference.records} == {("reference", "reference")}
    for file, views in ((fixed, "fixed"), (reference, "reference")):
        for question in file.records:
            channels = [path.split("/")[-2] for path in question.images]
            assert channels == [channel(view) for view in view_order(views)]


def test_speed_fallbacks_are_counted_with_their_reason(built):
    assert read_questions(built["fixed"]).sidecar["ego_speed"] == {"can_bus": 81, "displacement": 0, "why": {}}
    reason = "no steeranglefeedback messages"
    assert read_questions(built["reference"]).sidecar["ego_speed"] == {
        "can_bus": 0,
        "displacement": 81,
        "why": {"scene-0103": reason, "scene-0916": reason},
    }


def test_sidecar_counts_are_those_of_the_file(built):
    file = read_questions(built["fixed"])
    assert file.sidecar["records"] == len(file.records)
    assert Counter(q.type for q in file.records) == file.sidecar["questions"]
    found: dict[str, Counter] = {}
    for question in file.records:
        found.setdefault(question.type, Counter()).update(labels_of(question.type, question.answer))
    assert found == file.sidecar["labels"]
    assert file.sidecar["types_left_out"] == ["light", "description", "explanation"]
    assert file.sidecar["samples"]["missing_images"] == 79 * 6
    assert file.sidecar["scenes"]["scene-0103"]["location"] == "boston-seaport"


def test_subset_with_and_without_images(subset, tmp_path):
    everything = build_questions(subset, tmp_path / "all.json", split="all")
    assert everything["samples"] == {
        "seen": 200,
        "with_questions": 182,
        "left_out_for_images": 0,
        "without_all_images": 192,
        "missing_images": 1152,
    }
    assert everything["questions"]["plan"] == 200 - 5 * 6
    assert everything["questions"]["vru"] == 79  # three scenes have no boxes: no "no" is made of that
    assert everything["skipped"]["vru"] == {records.NO_BOXES: 121}
    assert everything["ego_speed"]["displacement"] == 121

    settings = BuildSettings(require_images=True)
    seen = build_questions(subset, tmp_path / "seen.json", settings, split="all")
    assert seen["samples"]["left_out_for_images"] == 192
    assert len({q.token for q in read_questions(tmp_path / "seen.json").records}) == 8
    assert seen["questions"] == {"motion": 12, "plan": 8, "vru": 3}


def test_scenes_absent_from_the_tables_are_reported(subset, tmp_path):
    sidecar = build_questions(subset, tmp_path / "q.json", split="mini_val")
    assert sidecar["scenes_absent"] == ["scene-0916"] and list(sidecar["scenes"]) == ["scene-0103"]


def test_the_same_build_gives_the_same_file(mini, built, tmp_path):
    build_questions(mini, tmp_path / "again.json", split="mini_val")
    assert (tmp_path / "again.json").read_bytes() == built["fixed"].read_bytes()


def test_an_interrupted_build_leaves_nothing_and_harms_nothing(mini, tmp_path):
    out = tmp_path / "q.json"

    def stop(done: int, total: int) -> None:
        assert total == 81
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_questions(mini, out, split="mini_val", on_sample=stop)
    assert list(tmp_path.iterdir()) == []
    build_questions(mini, out, BuildSettings(types=("plan",)), split="mini_val")
    before = out.read_bytes(), sidecar_path(out).read_bytes()
    with pytest.raises(KeyboardInterrupt):
        build_questions(mini, out, split="mini_val", on_sample=stop)
    assert (out.read_bytes(), sidecar_path(out).read_bytes()) == before


def test_what_makes_the_original_raise_is_skipped_and_counted(mini):
    rows, _ = scenes_of_split(mini, names=["scene-0103"])

    class NoBus:
        def speeds(self, scene, with_steering):
            return None

    sample = next(iter_samples(mini, rows[0], NoBus(), "fixed"))  # type: ignore[arg-type]
    boxes = sample.geometry.box_xy.copy()
    boxes[0, 0] = float("nan")
    geometry = dataclasses.replace(sample.geometry, box_xy=boxes, ego_speed=float("nan"))
    counts = BuildCounts()
    builder = RecordBuilder(BuildSettings(), ("vru", "motion", "plan"), counts, None)
    assert list(builder.records(dataclasses.replace(sample, geometry=geometry))) == []
    assert counts.skipped == {
        "vru": {records.BAD_GEOMETRY: 1},
        "motion": {records.BAD_GEOMETRY: 6},
        "plan": {records.BAD_GEOMETRY: 1},
    }


@pytest.mark.parametrize(
    "options,says",
    [
        ({"types": ()}, "no question type"),
        ({"types": ("plan", "weather")}, "unknown question type weather"),
        ({"navigation": "left"}, "unknown navigation"),
        ({"views": "mirrored"}, "unknown views"),
    ],
)
def test_bad_settings(options, says):
    with pytest.raises(SennaPruneError, match=says):
        BuildSettings(**options)


def test_teacher_types_alone_need_a_teacher(mini, tmp_path):
    with pytest.raises(SennaPruneError, match="only a teacher can answer light"):
        build_questions(mini, tmp_path / "q.json", BuildSettings(types=("light",)), split="mini_val")


def test_mini_is_built_in_time(mini, tmp_path):
    start = time.process_time()  # of this process: others on the machine do not count
    sidecar = build_questions(mini, tmp_path / "q.json", split="all")
    assert sidecar["samples"]["seen"] == 404
    assert time.process_time() - start < 10.0


@pytest.mark.parametrize(
    "kind,answer,labels",
    [
        ("plan", "KEEP, STRAIGHT\n", ["KEEP, STRAIGHT"]),
        ("vru", "Yes, I see a bicycle.", ["yes"]),
        ("vru", "No, I don't.", ["no"]),
        ("motion", "Object 1: KEEP, STRAIGHT\nObject 2: STOP, LEFT_TURN\n", ["KEEP, STRAIGHT", "STOP, LEFT_TURN"]),
        ("light", "The light is red.", ["Red"]),
        ("light", "None", ["None"]),
        ("light", "Blue", ["invalid"]),
        ("light", "There is no red light.", ["invalid"]),
        ("light", "Amber", ["Yellow"]),
        ("light", "There is no traffic light.", ["None"]),
        ("plan", "KEEP,STRAIGHT", ["KEEP, STRAIGHT"]),
        ("plan", "keep going", ["invalid"]),
        ("vru", "I see a bicycle located 3 meters ahead of me.", ["invalid"]),
        ("vru", "Yesterday", ["invalid"]),
        ("description", "A street.", []),
    ],
)
def test_labels_of(kind, answer, labels):
    assert labels_of(kind, answer) == labels
