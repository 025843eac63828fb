"""The streamed tables are the devkit's own: same rows, same ties, same geometry; only what nothing reads is gone."""

from __future__ import annotations

import numpy as np
import pytest
from nuscenes.nuscenes import NuScenes

from senna_autoprune.nuscenes.tables import load_tables
from tests.fixtures import shared

READ = ("category", "instance", "sensor", "calibrated_sensor", "log", "scene")


@pytest.fixture(scope="module")
def devkit() -> NuScenes:
    return NuScenes("v1.0-mini", str(shared("nuscenes", "subset")), verbose=False)


def test_rows_and_ties_are_the_devkits(subset, devkit):
    for table in READ:
        theirs = [{key: value for key, value in row.items() if key != "map_token"} for row in getattr(devkit, table)]
        assert getattr(subset, table) == theirs
    assert len(subset.sample) == len(devkit.sample)
    channels = set(subset.sample[0]["data"])
    for ours, theirs in zip(subset.sample, devkit.sample, strict=True):
        assert {**ours, "data": None} == {**theirs, "data": None}
        assert ours["data"] == {key: value for key, value in theirs["data"].items() if key in channels}
    for table in ("sample_data", "ego_pose", "sample_annotation"):
        for row in getattr(subset, table):
            other = devkit.get(table, row["token"])
            assert row == {key: other[key] for key in row}
    for row in subset.sample_data:
        assert subset.get("ego_pose", row["ego_pose_token"]) == devkit.get("ego_pose", row["ego_pose_token"])


def test_every_file_and_box_of_a_keyframe_is_there(subset, devkit):
    keyframes = [row for row in devkit.sample_data if row["is_key_frame"] and not row["channel"].startswith("RADAR")]
    assert {row["token"] for row in subset.sample_data} == {row["token"] for row in keyframes}
    assert len(subset.sample_annotation) == len(devkit.sample_annotation)


def test_the_devkits_methods_work_on_them(subset, devkit):
    token = subset.sample[0]["data"]["CAM_FRONT"]
    ours, theirs = subset.get_sample_data(token), devkit.get_sample_data(token)
    assert ours[0] == theirs[0]
    assert [str(box) for box in ours[1]] == [str(box) for box in theirs[1]]
    np.testing.assert_array_equal(ours[2], theirs[2])


def test_large_tables_are_announced_whoever_reads_them(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    root = str(shared("nuscenes", "subset"))
    load_tables(root, "v1.0-mini")
    assert not caplog.records  # small ones are there in a moment
    monkeypatch.setattr("senna_autoprune.nuscenes.tables._LARGE_BYTES", 0)
    load_tables(root, "v1.0-mini")
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith(f"loading v1.0-mini from {root}: ") and lines[0].endswith(" GB of memory")
    assert [line.split(":")[0] for line in lines[1:4]] == ["loading sample_data", "loading ego_pose", "loading sample_annotation"]
    assert "keyframes" in lines[4] and len(lines) == 5
    assert capsys.readouterr().out == ""
