"""A replay as an MCAP file for Foxglove and Rerun (foxglove-sdk; schemas: foxglove.*, protobuf; numbers: JSON).

Topics, one group of messages a frame:

    /CAM_FRONT/image          CompressedImage    the file's own bytes; six cameras (BMP and PPM, which viewers do not know, as PNG)
    /CAM_FRONT/attribution    CompressedImage    transparent PNG, attribution of the kept tokens, mean over the layers
    /CAM_FRONT/calibration    CameraCalibration
    /CAM_FRONT/meta_action    ImageAnnotations   label, unpruned and pruned answer (front camera; if unknown, the first)
    /tf                       FrameTransforms    map -> base_link at every sensor's own time -> sensors
    /pose                     PoseInFrame        ego vehicle
    /boxes                    SceneUpdate        annotated objects
    /future_path              SceneUpdate        where the vehicle went in the next 3 s; the answers above it
    /pruning                  JSON               MI, k, tokens per layer group, prefill ms, agreement
    /question                 JSON               texts: question, label, answers, flip, what is shown

The metadata record ``senna_prune`` says what was recorded: method, budget, model, scale of the heat. ``layout.py`` has a layout.

Without tables (a run replayed from its question file alone) there are no poses, boxes, paths and calibrations.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from foxglove import Channel, Context, open_mcap
from foxglove import channels as ch
from foxglove import messages as fg

from senna_autoprune import __version__
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.image_files import MAX_BYTES, image_header, open_image
from senna_autoprune.files.regular import read_regular
from senna_autoprune.nuscenes.strings import channel
from senna_autoprune.replay.frames import LAYER_GROUPS, Frame, Replay
from senna_autoprune.replay.geometry import Pose, Sensor
from senna_autoprune.replay.heat import heat_png, levels, multiples

STEP_US = 2_000_000  # between frames that have no common clock
LABEL, UNPRUNED = fg.Color(r=0.55, g=1, b=0.6, a=1), fg.Color(r=1, g=1, b=1, a=1)
PRUNED = fg.Color(r=1, g=0.75, b=0.3, a=1)
BACKGROUND = fg.Color(r=0, g=0, b=0, a=0.65)
PATH = fg.Color(r=0.24, g=0.86, b=0.47, a=0.9)
MAP, EGO = "map", "base_link"

SERIES = (
    "mutual_information",
    "k",
    "x0",
    "average_tokens",
    "retention_tokens",
    "flops_share",
    *(f"tokens_group_{group + 1}" for group in range(LAYER_GROUPS)),
    "prefill_ms_unpruned",
    "prefill_ms_pruned",
    "agreement",
)
_NUMBERS = {
    "type": "object",
    "title": "senna_prune.Pruning",
    "properties": {name: {"type": ["number", "null"]} for name in SERIES},
}
_TEXTS = {
    "type": "object",
    "title": "senna_prune.Question",
    "properties": {
        name: {"type": ["string", "null"]}
        for name in ("scene", "sample", "question", "label", "unpruned", "pruned", "flip", "method", "budget", "about")
    },
}


SHOWN_KINDS = ("jpeg", "png", "webp")  # that Foxglove and Rerun decode; others are encoded again


def _as_png(image: str) -> bytes:
    file = io.BytesIO()
    open_image(image).save(file, "PNG")
    return file.getvalue()


def write_mcap(replay: Replay, path: str | os.PathLike[str]) -> None:
    """Write the file. OSError if it cannot be written."""
    context = Context()
    try:
        with open_mcap(str(path), context=context, allow_overwrite=True) as writer:
            writer.write_metadata("senna_prune", run_metadata(replay))
            recorder = _Recorder(context)
            for frame, time in zip(replay.frames, frame_times(replay.frames), strict=True):
                recorder.frame(replay, frame, time)
    except RuntimeError as error:
        raise OSError(0, str(error)) from error


def run_metadata(replay: Replay) -> dict[str, str]:
    """What the recording is of: method, budget, model, versions, the scale of the heat."""
    return {
        "senna_prune": __version__,
        "title": replay.title,
        "about": replay.description,
        "method": replay.method,
        "budget": replay.budget,
        "attribution": f"through {replay.through}; clear: an even share of its view, yellow: x{replay.heat_top:g} and more, by doublings",
        "frames": str(len(replay.frames)),
        **{f"note {number}": note for number, note in enumerate(replay.notes, 1)},
        **{f"model {name}": str(value) for name, value in replay.model.items()},
    }


def frame_times(frames: Sequence[Frame]) -> list[int]:
    """When each frame is shown, µs. Keyframes of one scene in order keep their times; others get two seconds each."""
    times = [frame.shot.timestamp_us for frame in frames]
    one_scene = len({frame.shot.question.scene for frame in frames}) == 1
    if one_scene and all(time is not None for time in times):
        own = [time for time in times if time is not None]
        if all(later > earlier for earlier, later in zip(own, own[1:], strict=False)):
            return own
    start = next((time for time in times if time is not None), 0)
    return [start + index * STEP_US for index in range(len(frames))]


class _Recorder:
    """Channels made on first use, one method a kind of message. Times in µs, shifted where frames share no clock."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._channels: dict[str, Any] = {}

    def _log(self, kind: Any, topic: str, message: Any, time_us: int) -> None:
        if topic not in self._channels:
            self._channels[topic] = kind(topic, context=self._context)
        self._channels[topic].log(message, log_time=time_us * 1000)

    def _json(self, topic: str, schema: dict[str, Any], message: dict[str, Any], time_us: int) -> None:
        if topic not in self._channels:
            self._channels[topic] = Channel(topic, schema=schema, message_encoding="json", context=self._context)
        self._channels[topic].log(message, log_time=time_us * 1000)

    def frame(self, replay: Replay, frame: Frame, time_us: int) -> None:
        geometry = frame.shot.geometry
        shift = 0 if geometry is None else time_us - geometry.timestamp_us
        if geometry is not None:
            self._transforms(list(geometry.sensors.values()), shift)
            self._pose(geometry.sensors["LIDAR_TOP"], shift)
            self._boxes(frame, time_us)
            self._path(frame, time_us)
        heat = None
        if frame.sight is not None:
            heat = levels(multiples(frame.sight.mean_heat, frame.sight.full > 0), replay.heat_top)  # (V, P)
        for index, (name, sensor) in enumerate(_cameras(frame)):
            when = time_us if sensor is None else sensor.timestamp_us + shift
            shown = None if heat is None else heat[index]
            place = None if frame.sight is None else frame.sight.place(index)
            self._camera(name, frame.shot.question.images[index], sensor, shown, when, place)
            if index == _front(frame):
                self._log(ch.ImageAnnotationsChannel, f"/{name}/meta_action", _annotation(frame, when), when)
        self._json("/pruning", _NUMBERS, numbers(frame), time_us)
        self._json("/question", _TEXTS, _texts(replay, frame), time_us)

    def _camera(self, name: str, image: str, sensor: Sensor | None, shown: np.ndarray | None, time_us: int, place: Any = None) -> None:
        try:
            kind, size = image_header(image)
            data = read_regular(image, MAX_BYTES) if kind in SHOWN_KINDS else _as_png(image)
        except SennaPruneError:
            return  # the frame failed; its question says why
        kind = kind if kind in SHOWN_KINDS else "png"
        stamp, frame_id = _stamp(time_us), name
        picture = fg.CompressedImage(timestamp=stamp, frame_id=frame_id, data=data, format=kind)
        self._log(ch.CompressedImageChannel, f"/{name}/image", picture, time_us)
        if shown is not None:
            overlay = fg.CompressedImage(timestamp=stamp, frame_id=frame_id, data=heat_png(shown, size, place=place), format="png")
            self._log(ch.CompressedImageChannel, f"/{name}/attribution", overlay, time_us)
        if sensor is not None and sensor.intrinsic is not None:
            self._log(ch.CameraCalibrationChannel, f"/{name}/calibration", _calibration(sensor, stamp), time_us)

    def _transforms(self, sensors: Sequence[Sensor], shift: int) -> None:
        for sensor in sorted(sensors, key=lambda sensor: sensor.timestamp_us):
            time_us = sensor.timestamp_us + shift
            edges = [
                _transform(MAP, EGO, sensor.ego, time_us),
                _transform(EGO, sensor.channel, sensor.mount, time_us),
            ]
            self._log(ch.FrameTransformsChannel, "/tf", fg.FrameTransforms(transforms=edges), time_us)

    def _pose(self, lidar: Sensor, shift: int) -> None:
        time_us = lidar.timestamp_us + shift
        message = fg.PoseInFrame(timestamp=_stamp(time_us), frame_id=MAP, pose=_pose(lidar.ego))
        self._log(ch.PoseInFrameChannel, "/pose", message, time_us)

    def _boxes(self, frame: Frame, time_us: int) -> None:
        assert frame.shot.geometry is not None
        entities = [
            fg.SceneEntity(
                timestamp=_stamp(time_us),
                frame_id=MAP,
                id=box.instance,
                metadata=[fg.KeyValuePair(key="category", value=box.name)],
                cubes=[fg.CubePrimitive(pose=_pose(box.pose), size=_box_size(box.size), color=_colour(box.name))],
            )
            for box in frame.shot.geometry.boxes
        ]
        self._log(ch.SceneUpdateChannel, "/boxes", fg.SceneUpdate(deletions=[_forget(time_us)], entities=entities), time_us)

    def _path(self, frame: Frame, time_us: int) -> None:
        geometry = frame.shot.geometry
        assert geometry is not None
        line = fg.LinePrimitive(
            type=fg.LinePrimitiveLineType.LineStrip,
            thickness=0.4,
            points=[fg.Point3(x=x, y=y, z=z) for x, y, z in geometry.path.tolist()],
            color=PATH,
        )
        x, y, z = geometry.path[0].tolist()
        text = fg.TextPrimitive(
            pose=fg.Pose(position=fg.Vector3(x=x, y=y, z=z + 3.5), orientation=fg.Quaternion(w=1)),
            billboard=True,
            font_size=14,
            scale_invariant=True,
            color=UNPRUNED,
            text="\n".join(f"{name}: {said}" for name, said, _ in _lines(frame)),
        )
        entity = fg.SceneEntity(timestamp=_stamp(time_us), frame_id=MAP, id="future_path", lines=[line], texts=[text])
        self._log(ch.SceneUpdateChannel, "/future_path", fg.SceneUpdate(entities=[entity]), time_us)


# --- messages ---------------------------------------------------------------------------------------------------------


def numbers(frame: Frame) -> dict[str, float | None]:
    """The time series of one frame; None where the method has no such number or the frame failed."""
    trace, groups = frame.trace, frame.group_tokens
    found: dict[str, float | None] = dict.fromkeys(SERIES)
    if trace is not None:
        found.update(mutual_information=trace.mutual_information, k=trace.k, x0=trace.x0)
        found.update(average_tokens=trace.average_tokens, retention_tokens=trace.retention_tokens)
        found.update(flops_share=trace.flops_pruned / trace.flops_full)
    found.update({f"tokens_group_{index + 1}": tokens for index, tokens in enumerate(groups)})
    found.update(prefill_ms_unpruned=frame.unpruned.prefill_ms, prefill_ms_pruned=frame.pruned.prefill_ms)
    found.update(agreement=None if frame.agrees is None else float(frame.agrees))
    return found


def _texts(replay: Replay, frame: Frame) -> dict[str, str | None]:
    question = frame.shot.question
    return {
        "scene": question.scene,
        "sample": question.token,
        "question": question.text,
        "label": question.label.strip() or None,
        "unpruned": frame.unpruned.answer,
        "pruned": frame.pruned.answer,
        "flip": frame.flip,
        "method": replay.method,
        "budget": replay.budget,
        "about": replay.description,
    }


def _lines(frame: Frame) -> Iterator[tuple[str, str, fg.Color]]:
    """Name, text and colour of the three answers."""
    yield "label", frame.shot.question.label.strip() or "(none)", LABEL
    for name, row, colour in (("unpruned", frame.unpruned, UNPRUNED), ("pruned", frame.pruned, PRUNED)):
        yield name, (row.answer or f"({row.reason})").strip()[:200], colour


def _annotation(frame: Frame, time_us: int) -> fg.ImageAnnotations:
    stamp, height = _stamp(time_us), frame.sizes[_front(frame)][1] if frame.sizes else 900
    size = height / 22
    texts = [
        fg.TextAnnotation(
            timestamp=stamp,
            position=fg.Point2(x=size / 2, y=(1.6 + 1.5 * row) * size),
            text=f"{name}: {said}",
            font_size=size,
            text_color=colour,
            background_color=BACKGROUND,
        )
        for row, (name, said, colour) in enumerate(_lines(frame))
    ]
    return fg.ImageAnnotations(timestamp=stamp, texts=texts)


def _cameras(frame: Frame) -> list[tuple[str, Sensor | None]]:
    """Frame id and sensor of each image, in the order in which they were fed."""
    sensors = frame.shot.geometry.sensors if frame.shot.geometry else {}
    names = [channel(view) if view else f"view_{index + 1}" for index, view in enumerate(frame.shot.views)]
    return [(name, sensors.get(name)) for name in names]


def _front(frame: Frame) -> int:
    return frame.shot.views.index("front") if "front" in frame.shot.views else 0


def _calibration(sensor: Sensor, stamp: fg.Timestamp) -> fg.CameraCalibration:
    assert sensor.intrinsic is not None
    projection = np.concatenate([sensor.intrinsic, np.zeros((3, 1))], axis=1)  # (3, 4)
    return fg.CameraCalibration(
        timestamp=stamp,
        frame_id=sensor.channel,
        width=sensor.size[0],
        height=sensor.size[1],
        K=sensor.intrinsic.ravel().tolist(),
        R=np.eye(3).ravel().tolist(),
        P=projection.ravel().tolist(),
    )


def _transform(parent: str, child: str, pose: Pose, time_us: int) -> fg.FrameTransform:
    return fg.FrameTransform(
        timestamp=_stamp(time_us),
        parent_frame_id=parent,
        child_frame_id=child,
        translation=_vector(pose.translation),
        rotation=_quaternion(pose.rotation),
    )


def _forget(time_us: int) -> fg.SceneEntityDeletion:
    return fg.SceneEntityDeletion(timestamp=_stamp(time_us), type=fg.SceneEntityDeletionType.All)


def _stamp(time_us: int) -> fg.Timestamp:
    return fg.Timestamp(sec=time_us // 1_000_000, nsec=time_us % 1_000_000 * 1000)


def _pose(pose: Pose) -> fg.Pose:
    return fg.Pose(position=_vector(pose.translation), orientation=_quaternion(pose.rotation))


def _vector(values: Sequence[float]) -> fg.Vector3:
    return fg.Vector3(x=values[0], y=values[1], z=values[2])


def _quaternion(values: Sequence[float]) -> fg.Quaternion:
    return fg.Quaternion(w=values[0], x=values[1], y=values[2], z=values[3])


def _box_size(size: Sequence[float]) -> fg.Vector3:
    """nuScenes: width, length, height; along the box's own axes: length (x, ahead), width, height."""
    return fg.Vector3(x=size[1], y=size[0], z=size[2])


def _colour(name: str) -> fg.Color:
    """The devkit's colour of a category, half transparent; grey for one it does not know."""
    from nuscenes.utils.color_map import get_colormap

    red, green, blue = get_colormap().get(name, (150, 150, 150))
    return fg.Color(r=red / 255, g=green / 255, b=blue / 255, a=0.5)
