"""Tables to geometry: against the slow twin, on the recordings' real scenes, and on broken or partial data."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.nuscenes.can_bus import CanBus, nearest_message
from senna_autoprune.nuscenes.rules import navigation_command
from senna_autoprune.nuscenes.scenes import iter_samples, load_tables, scenes_of_split
from senna_autoprune.nuscenes.strings import strings
from tests.fixtures import shared
from tests.nuscenes import twins


def samples_of(nusc, scene: str, navigation="fixed", can_bus: str | None = None):
    rows, _ = scenes_of_split(nusc, names=[scene])
    return list(iter_samples(nusc, rows[0], CanBus(can_bus or nusc.dataroot), navigation))


@pytest.mark.parametrize("scene", ["scene-0103", "scene-0655", "scene-1094"])
def test_geometry_equals_the_slow_twin(mini, scene):
    found = samples_of(mini, scene)
    for sample in (found[0], found[17], found[-4], found[-1]):
        row = mini.get("sample", sample.token)
        geometry = sample.geometry
        np.testing.assert_allclose(geometry.box_xy, twins.boxes(mini, row), atol=1e-9)
        tracks, masks = twins.tracks(mini, row)
        np.testing.assert_allclose(geometry.tracks, tracks, atol=1e-5)
        np.testing.assert_array_equal(geometry.track_masks, masks)
        offsets, steps = twins.ego_offsets(mini, row)
        np.testing.assert_allclose(geometry.ego_offsets, offsets, atol=1e-5)
        assert geometry.ego_masks.tolist() == [1.0] * steps + [0.0] * (6 - steps)
        assert (geometry.tracks.dtype, geometry.ego_offsets.dtype) == (np.float32, np.float32)
        assert geometry.command == navigation_command(twins.target(mini, row), "fixed")
        assert sample.navigation_steps == len(twins.walk(mini, row, 12)) - 1


def test_speed_comes_from_the_nearest_can_message(mini):
    messages = json.loads((shared("nuscenes", "mini_meta") / "can_bus" / "scene-0103_pose.json").read_text())
    for sample in samples_of(mini, "scene-0103"):
        assert sample.speed_source == "can_bus"
        assert sample.geometry.ego_speed == np.float32(twins.nearest_speed(messages, sample.timestamp_us))


def test_speed_falls_back_to_displacement(mini, subset):
    bus = CanBus(subset.dataroot)
    rows, _ = scenes_of_split(subset, names=["scene-0368"])
    for sample in iter_samples(subset, rows[0], bus, "fixed"):
        row = subset.get("sample", sample.token)
        assert sample.speed_source == "displacement"
        assert sample.geometry.ego_speed == pytest.approx(twins.true_displacement_speed(subset, row), abs=1e-5)
    assert bus.missing == {"scene-0368": "no pose messages"}
    # as released: poses are there, steering messages are not, and that is enough to fall back
    for sample in samples_of(mini, "scene-0103", "reference"):
        row = mini.get("sample", sample.token)
        assert sample.speed_source == "displacement"
        assert sample.geometry.ego_speed == pytest.approx(twins.released_displacement_speed(mini, row), abs=1e-5)


def test_reference_uses_can_speed_where_steering_messages_exist(mini, tmp_path):
    folder = tmp_path / "can_bus"
    folder.mkdir()
    shutil.copy(shared("nuscenes", "mini_meta") / "can_bus" / "scene-0103_pose.json", folder)
    (folder / "scene-0103_steeranglefeedback.json").write_text('[{"utime": 1, "value": 0.0}]')
    reference = samples_of(mini, "scene-0103", "reference", str(tmp_path))
    fixed = samples_of(mini, "scene-0103", "fixed")
    assert [s.geometry.ego_speed for s in reference] == [s.geometry.ego_speed for s in fixed]
    assert {s.speed_source for s in reference} == {"can_bus"}


@pytest.mark.parametrize(
    "content,reason",
    [
        ("[]", "no pose messages"),
        ("{broken", "JSONDecodeError"),
        ('[{"utime": 5}]', "vel"),
        ('{"utime": 5}', "no pose"),
    ],
)
def test_odd_can_files_are_a_counted_fallback(tmp_path, content, reason):
    (tmp_path / "can_bus").mkdir()
    (tmp_path / "can_bus" / "scene-0103_pose.json").write_text(content)
    bus = CanBus(str(tmp_path))
    assert bus.speeds("scene-0103", with_steering=False) is None
    assert reason in bus.missing["scene-0103"]


def test_no_can_folder_blacklisted_and_oddly_named_scenes(tmp_path):
    bus = CanBus(str(tmp_path))
    assert bus.speeds("scene-0103", with_steering=False) is None
    assert "can_bus" in bus.missing["scene-0103"]
    (tmp_path / "can_bus").mkdir()
    bus = CanBus(str(tmp_path))
    assert bus.speeds("scene-0161", with_steering=False) is None  # the devkit knows this one has none
    assert "does not have any CAN bus data" in bus.missing["scene-0161"]
    assert bus.speeds("my scene", with_steering=False) is None


def test_nearest_message_takes_the_later_of_two():
    utimes = np.array([0, 10, 20])
    assert [nearest_message(utimes, t) for t in (-5, 0, 4, 5, 6, 15, 19, 20, 99)] == [0, 0, 0, 1, 1, 2, 2, 2, 2]


def test_boxes_and_tracks_do_not_depend_on_navigation(mini):
    for fixed, reference in zip(samples_of(mini, "scene-0553"), samples_of(mini, "scene-0553", "reference"), strict=True):
        np.testing.assert_array_equal(fixed.geometry.tracks, reference.geometry.tracks)
        np.testing.assert_array_equal(fixed.geometry.ego_offsets, reference.geometry.ego_offsets)


def test_only_the_last_six_keyframes_have_no_plan(mini):
    found = samples_of(mini, "scene-0916")
    assert [s.geometry.ego_future_complete for s in found] == [True] * (len(found) - 6) + [False] * 6
    assert [s.navigation_steps for s in found[-13:]] == list(range(12, -1, -1))


def test_scenes_without_boxes_are_known(subset):
    annotated = {row["name"]: {s.annotated for s in samples_of(subset, row["name"])} for row in subset.scene}
    assert annotated == {
        "scene-0061": {True},
        "scene-0103": {True},
        "scene-0368": {False},
        "scene-0578": {False},
        "scene-0523": {False},
    }


def test_names_are_mapped_and_the_rest_kept(mini):
    mapping = strings()["categories"]
    names = {name for row in mini.scene for s in samples_of(mini, row["name"]) for name in s.geometry.names}
    assert {"car", "pedestrian", "barrier", "traffic_cone"} <= names
    kept = names - set(mapping.values())
    assert kept and kept <= {row["name"] for row in mini.category} - set(mapping)


def test_splits(mini, subset):
    rows, absent = scenes_of_split(mini, "mini_val")
    assert ([row["name"] for row in rows], absent) == (["scene-0103", "scene-0916"], [])
    rows, absent = scenes_of_split(subset, "mini_val")
    assert ([row["name"] for row in rows], absent) == (["scene-0103"], ["scene-0916"])
    rows, absent = scenes_of_split(subset, "val")
    assert {row["name"] for row in rows} == {"scene-0103", "scene-0523"} and len(absent) == 148
    assert len(scenes_of_split(subset, "all")[0]) == 5
    assert [row["name"] for row in scenes_of_split(mini, "mini_val", ["scene-0916"])[0]] == ["scene-0916"]
    with pytest.raises(SennaPruneError, match="unknown split 'nano'"):
        scenes_of_split(mini, "nano")
    with pytest.raises(SennaPruneError, match="scene-0061: not in split mini_val"):
        scenes_of_split(mini, "mini_val", ["scene-0061"])
    with pytest.raises(SennaPruneError, match="none of the 150 scenes"):
        scenes_of_split(mini, "test")


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", r"broken JSON in .*splits\.json"),
        ("[]", r"splits\.json.* list of scene names"),
        ('{"mine": "scene-0061"}', r"splits\.json.* list of scene names"),
        ('{"mine": [1]}', r"splits\.json.* list of scene names"),
    ],
)
def test_a_broken_splits_file_is_one_line(subset, tmp_path, monkeypatch, content, fault):
    monkeypatch.setattr(type(subset), "table_root", property(lambda self: str(tmp_path)))
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(SennaPruneError, match=fault):
        scenes_of_split(subset, "mine")
    (tmp_path / "splits.json").write_text('{"mine": ["scene-0061", "scene-0001"]}')
    rows, absent = scenes_of_split(subset, "mine")
    assert ([row["name"] for row in rows], absent) == (["scene-0061"], ["scene-0001"])


def test_tables_that_cannot_be_loaded_are_one_line(tmp_path):
    with pytest.raises(SennaPruneError, match=r"v1\.0-mini"):
        load_tables(tmp_path, "v1.0-mini")
    (tmp_path / "v1.0-mini").mkdir()
    (tmp_path / "v1.0-mini" / "category.json").write_text("[{")
    with pytest.raises(SennaPruneError, match=r"category\.json: row 0 is broken or cut off"):
        load_tables(tmp_path, "v1.0-mini")
