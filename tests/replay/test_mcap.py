"""Every message of the MCAP file is read back with the ``mcap`` reader and compared with what it came from."""

from __future__ import annotations

import io
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory
from PIL import Image
from pyquaternion import Quaternion

from senna_autoprune.evaluation.answering.settings import Setting
from senna_autoprune.files.image_files import image_header
from senna_autoprune.nuscenes.scenes import load_tables
from senna_autoprune.nuscenes.strings import channel, view_names
from senna_autoprune.replay.frames import Replay, make_replay
from senna_autoprune.replay.heat import HEAT_SIZE, levels, multiples, over_image
from senna_autoprune.replay.layout import foxglove_layout
from senna_autoprune.replay.mcap import SERIES, STEP_US, frame_times, write_mcap
from senna_autoprune.replay.sources import scene_source
from senna_autoprune.senna import Senna
from tests.fixtures import shared
from tests.replay.test_page import ATTACKS, hostile

CAMERAS = [channel(view) for view in view_names()]


class Message(NamedTuple):
    time_us: int
    schema: str
    body: Any  # a protobuf message or what JSON holds


def read(path: Path) -> dict[str, list[Message]]:
    """All messages by topic; every one is decoded, checksums are checked."""
    found: dict[str, list[Message]] = {}
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        for schema, topic, message in reader.iter_messages():
            assert schema is not None
            if topic.message_encoding == "json":
                body = json.loads(message.data)
            else:
                decoder = DecoderFactory().decoder_for(topic.message_encoding, schema)
                assert decoder is not None
                body = decoder(message.data)
            found.setdefault(topic.topic, []).append(Message(message.log_time // 1000, schema.name, body))
        assert sum(map(len, found.values())) == summary.statistics.message_count
    return found


def stamp_us(stamp: Any) -> int:
    return stamp.seconds * 1_000_000 + stamp.nanos // 1000


@pytest.fixture(scope="module")
def written(replay: Replay, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mcap") / "replay.mcap"
    write_mcap(replay, path)
    return path


@pytest.fixture(scope="module")
def messages(written: Path) -> dict[str, list[Message]]:
    return read(written)


def test_topics_and_counts(messages: dict[str, list[Message]], replay: Replay) -> None:
    frames = len(replay.frames)
    expected = {f"/{camera}/{kind}": frames for camera in CAMERAS for kind in ("image", "attribution", "calibration")}
    expected |= dict.fromkeys(("/pose", "/boxes", "/future_path", "/pruning", "/question"), frames)
    expected |= {"/tf": 7 * frames, "/CAM_FRONT/meta_action": frames}
    assert {topic: len(found) for topic, found in messages.items()} == expected
    schemas = Counter(message.schema for found in messages.values() for message in found)
    assert schemas["foxglove.CompressedImage"] == 12 * frames and schemas["foxglove.SceneUpdate"] == 2 * frames


def test_jpeg_bytes_are_the_file_s_own(messages: dict[str, list[Message]], replay: Replay, nusc: Any) -> None:
    for index, frame in enumerate(replay.frames):
        sample = nusc.get("sample", frame.shot.question.token)
        for camera in CAMERAS:
            row = nusc.get("sample_data", sample["data"][camera])
            message = messages[f"/{camera}/image"][index]
            assert message.body.data == Path(nusc.get_sample_data_path(row["token"])).read_bytes()
            assert message.body.format == "jpeg" and message.body.frame_id == camera
            assert message.time_us == row["timestamp"] == stamp_us(message.body.timestamp)


def test_overlays_show_the_attribution(messages: dict[str, list[Message]], replay: Replay) -> None:
    for index, frame in enumerate(replay.frames):
        assert frame.sight is not None
        shades = levels(multiples(frame.sight.mean_heat, frame.sight.full > 0), replay.heat_top)
        for view, name in enumerate(frame.shot.views):
            body = messages[f"/{channel(name)}/attribution"][index].body
            assert body.format == "png" and len(body.data) < 5000
            picture = np.asarray(Image.open(io.BytesIO(body.data)).convert("RGBA"))
            shown = over_image(shades[view], frame.sizes[view], HEAT_SIZE)
            np.testing.assert_allclose(picture[..., 3], 255 * 0.8 * shown, atol=2)


def test_transforms_take_boxes_into_the_camera(messages: dict[str, list[Message]], replay: Replay, nusc: Any) -> None:
    """A box's centre through /tf and /calibration is where the devkit sees it."""
    seen = 0
    for index, frame in enumerate(replay.frames):
        sample = nusc.get("sample", frame.shot.question.token)
        boxes = {entity.id: entity for entity in messages["/boxes"][index].body.entities}
        assert len(boxes) == len(sample["anns"])
        for camera in CAMERAS:
            _, expected, intrinsic = nusc.get_sample_data(sample["data"][camera])
            image = messages[f"/{camera}/image"][index]
            edges = next(
                {edge.child_frame_id: edge for edge in m.body.transforms}
                for m in messages["/tf"]
                if m.time_us == image.time_us and any(edge.child_frame_id == camera for edge in m.body.transforms)
            )
            calibration = messages[f"/{camera}/calibration"][index].body
            np.testing.assert_allclose(np.reshape(calibration.K, (3, 3)), intrinsic)
            for box in expected:
                row = nusc.get("sample_annotation", box.token)
                cube = boxes[row["instance_token"]].cubes[0]
                point = np.array([cube.pose.position.x, cube.pose.position.y, cube.pose.position.z])
                for child in ("base_link", camera):
                    edge = edges[child]
                    turn = Quaternion(edge.rotation.w, edge.rotation.x, edge.rotation.y, edge.rotation.z)
                    shift = np.array([edge.translation.x, edge.translation.y, edge.translation.z])
                    point = turn.inverse.rotate(point - shift)
                np.testing.assert_allclose(point, box.center, atol=1e-6)
                assert (cube.size.y, cube.size.x, cube.size.z) == pytest.approx(tuple(row["size"]))
                seen += 1
    assert seen > 0


def test_boxes_of_the_last_frame_are_forgotten(messages: dict[str, list[Message]]) -> None:
    assert all(len(m.body.deletions) == 1 and m.body.deletions[0].type == 1 for m in messages["/boxes"])


def test_pose_and_future_path(messages: dict[str, list[Message]], replay: Replay, nusc: Any) -> None:
    for index, frame in enumerate(replay.frames):
        path, sample = [], nusc.get("sample", frame.shot.question.token)
        while sample is not None and len(path) < 7:
            lidar = nusc.get("sample_data", sample["data"]["LIDAR_TOP"])
            path.append(nusc.get("ego_pose", lidar["ego_pose_token"])["translation"])
            sample = nusc.get("sample", sample["next"]) if sample["next"] else None
        entity = messages["/future_path"][index].body.entities[0]
        np.testing.assert_allclose([(p.x, p.y, p.z) for p in entity.lines[0].points], path)
        position = messages["/pose"][index].body.pose.position
        np.testing.assert_allclose((position.x, position.y, position.z), path[0])


def test_answers_stand_on_the_front_image(messages: dict[str, list[Message]], replay: Replay) -> None:
    for index, frame in enumerate(replay.frames):
        front = messages["/CAM_FRONT/meta_action"][index]
        texts = [text.text for text in front.body.texts]
        label = frame.shot.question.label.strip() or "(none)"
        assert texts[0] == f"label: {label}" and front.time_us == messages["/CAM_FRONT/image"][index].time_us
        assert texts[1:] == [f"unpruned: {frame.unpruned.answer}", f"pruned: {frame.pruned.answer}"]
        assert messages["/future_path"][index].body.entities[0].texts[0].text == "\n".join(texts)
        said = messages["/question"][index].body
        assert said["question"] == frame.shot.question.text and said["flip"] == frame.flip
        assert said["about"] == replay.description


def test_time_series(messages: dict[str, list[Message]], replay: Replay) -> None:
    for index, frame in enumerate(replay.frames):
        body, trace = messages["/pruning"][index].body, frame.trace
        assert trace is not None and list(body) == list(SERIES)
        assert body["mutual_information"] == trace.mutual_information and body["k"] == trace.k
        groups = [body[f"tokens_group_{number}"] for number in (1, 2, 3)]
        assert groups == trace.tokens_per_layer and body["tokens_group_4"] is None  # three layers
        assert body["prefill_ms_pruned"] == frame.pruned.prefill_ms and body["agreement"] in (0.0, 1.0)
        assert messages["/pruning"][index].time_us == frame.shot.timestamp_us


def test_frames_without_a_common_clock(replay: Replay) -> None:
    backwards = list(reversed(replay.frames))
    times = frame_times(backwards)
    assert [b - a for a, b in zip(times, times[1:], strict=False)] == [STEP_US] * (len(times) - 1)
    unknown = [replace(frame, shot=replace(frame.shot, timestamp_us=None)) for frame in replay.frames]
    assert frame_times(unknown)[0] == 0


def test_without_tables_there_are_still_images(replay: Replay, tmp_path: Path) -> None:
    frames = [replace(f, shot=replace(f.shot, geometry=None, timestamp_us=None)) for f in replay.frames]
    write_mcap(replace(replay, frames=frames), tmp_path / "run.mcap")
    found = read(tmp_path / "run.mcap")
    assert "/tf" not in found and len(found["/CAM_BACK/image"]) == len(frames) == len(found["/pruning"])


def test_hostile_strings_are_only_text(replay: Replay, tmp_path: Path) -> None:
    bad = hostile(replay)
    frames = [replace(f, shot=replace(f.shot, views=g.shot.views)) for f, g in zip(bad.frames, replay.frames, strict=True)]
    write_mcap(replace(bad, frames=frames), tmp_path / "hostile.mcap")
    said = read(tmp_path / "hostile.mcap")["/question"][0].body["unpruned"]
    assert said == bad.frames[0].unpruned.answer and ATTACKS[0] in said


def test_real_frames_stay_near_the_size_of_their_jpegs(senna: Senna, tmp_path: Path) -> None:
    tables = load_tables(shared("nuscenes", "mini_meta"), "v1.0-mini")
    setting = Setting("autoprune", "autoprune", {"retention": 0.6})
    replay = make_replay(senna, scene_source(tables, "scene-0103"), setting, "", max_new_tokens=2)
    path = tmp_path / "real.mcap"
    write_mcap(replay, path)
    jpegs = sum(Path(image).stat().st_size for frame in replay.frames for image in frame.shot.question.images)
    assert len(replay.frames) == 2 and jpegs < path.stat().st_size < 1.5 * jpegs
    assert len(read(path)["/boxes"][0].body.entities) > 10


def test_the_recording_says_what_it_is_of(replay: Replay, tmp_path: Path) -> None:
    write_mcap(replay, tmp_path / "one.mcap")
    with (tmp_path / "one.mcap").open("rb") as file:
        (record,) = list(make_reader(file).iter_metadata())
    assert record.name == "senna_prune" and record.metadata["method"] == replay.method and record.metadata["budget"] == replay.budget
    assert f"x{replay.heat_top:g}" in record.metadata["attribution"] and record.metadata["frames"] == str(len(replay.frames))


def test_pictures_that_viewers_do_not_know_are_encoded_again(replay: Replay, tmp_path: Path) -> None:
    """A JPEG with a second one behind it (MPO) is a JPEG; a BMP becomes a PNG of the same pixels."""
    frame = replay.frames[0]
    images = list(frame.shot.question.images)
    with Image.open(images[0]) as picture, Image.open(images[1]) as other:
        picture.convert("RGB").save(tmp_path / "two.jpg", "MPO", save_all=True, append_images=[other.convert("RGB")])
        picture.convert("RGB").save(tmp_path / "one.bmp")
        pixels = np.asarray(picture.convert("RGB"))
    assert image_header(tmp_path / "two.jpg")[0] == "jpeg"
    images[:2] = [str(tmp_path / "two.jpg"), str(tmp_path / "one.bmp")]
    shot = replace(frame.shot, question=replace(frame.shot.question, images=tuple(images)))
    write_mcap(replace(replay, frames=[replace(frame, shot=shot)]), tmp_path / "odd.mcap")
    found = read(tmp_path / "odd.mcap")
    first, second = (found[f"/{channel(view)}/image"][0].body for view in frame.shot.views[:2])
    assert first.format == "jpeg" and first.data == (tmp_path / "two.jpg").read_bytes()
    assert second.format == "png" and (np.asarray(Image.open(io.BytesIO(second.data))) == pixels).all()


def test_the_layout_shows_topics_that_are_recorded(messages: dict[str, list[Message]], replay: Replay) -> None:
    layout = json.loads(foxglove_layout(replay))
    panels = layout["configById"]
    cameras = {config["imageMode"]["imageTopic"] for name, config in panels.items() if name.startswith("Image!")}
    assert cameras == {f"/{camera}/image" for camera in CAMERAS} and cameras <= messages.keys()
    series = [path["value"].removeprefix("/pruning.") for config in panels.values() for path in config.get("paths", [])]
    assert series and set(series) <= set(SERIES) and panels["RawMessages!question"]["topicPath"] in messages

    def leaves(node: Any) -> list[str]:
        return [node] if isinstance(node, str) else [*leaves(node["first"]), *leaves(node["second"])]

    assert sorted(leaves(layout["layout"])) == sorted(panels)
