"""Question and answer texts from a keyframe's geometry: plan, vru, motion, and the questions a teacher answers.

Pure: numpy and the strings, no devkit. Frame: LIDAR_TOP at the keyframe, x right, y forward, metres. Dtypes are the
released converter's (float64 boxes, float32 tracks and speed): ``int()`` and the borders of the rules feel them.
Source: hustvl/Senna at cddce26, data_tools/senna_nusc_data_converter.py; recorded in the fixture ``qa_builders.json``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from senna_autoprune.nuscenes.rules import STEP_S, plan_label, sector
from senna_autoprune.nuscenes.strings import strings


class QuestionAnswer(NamedTuple):
    """A question without the six image marks, and its answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Geometry:
    """What the geometric questions of one keyframe need. n objects, six future keyframes."""

    box_xy: np.ndarray  # (n, 2) float64, box centres
    names: Sequence[str]  # n names, mapped by strings()["categories"] where they have a mapping
    tracks: np.ndarray  # (n, 6, 2) float32, each object's future in its own frame (x right, y forward)
    track_masks: np.ndarray  # (n, 6), 0 where the future keyframe is missing
    ego_offsets: np.ndarray  # (6, 2) float32, step from keyframe to keyframe
    ego_masks: np.ndarray  # (6,), 0 where the future keyframe is missing
    ego_speed: float  # m/s
    command: str  # navigation command

    @cached_property
    def sectors(self) -> list[str]:
        """The view in whose sector each object lies. Raises ValueError on a NaN position."""
        return [sector(xy) for xy in self.box_xy]

    @cached_property
    def ego_track(self) -> np.ndarray:
        """(6, 2) float32 positions after 0.5 .. 3 s: offsets summed, the origin is not one of them (rule 4)."""
        return np.cumsum(self.ego_offsets, axis=-2)

    @property
    def ego_future_complete(self) -> bool:
        """True if all six future keyframes exist."""
        return not np.any(np.asarray(self.ego_masks) == 0)


def conversation(pair: QuestionAnswer) -> list[dict[str, str]]:
    """The two turns of a record: the six image marks with the question, and the answer."""
    return [
        {"from": "human", "value": strings()["image_prompt"] + pair.question},
        {"from": "gpt", "value": pair.answer},
    ]


def plan_question(geometry: Geometry) -> QuestionAnswer | None:
    """Speed and path of the ego vehicle over the next 3 s; None unless all six future keyframes exist.

    Raises:
        ValueError, OverflowError: the speed is NaN or infinite (the original raises there, too).
    """
    if not geometry.ego_future_complete:
        return None
    text = strings()["plan"]
    speed_plan, path_plan = plan_label(geometry.ego_track)
    return QuestionAnswer(
        text["question"].format(speed=int(geometry.ego_speed), command=geometry.command),
        text["answer"].format(speed_plan=speed_plan, path_plan=path_plan),
    )


def vru_question(geometry: Geometry) -> QuestionAnswer:
    """Cyclists, motorcyclists and pedestrians in the front sector, nearer than 20 m (strict).

    Raises:
        ValueError: a NaN position (the original raises there, too).
    """
    text = strings()["vru"]
    seen = []
    for xy, name, view in zip(geometry.box_xy, geometry.names, geometry.sectors, strict=True):
        if view != "front" or name not in text["classes"] or not np.linalg.norm(xy) < text["distance_m"]:
            continue
        side = ""
        if xy[0] <= -text["lateral_m"]:
            side = text["left"].format(lateral=int(abs(xy[0])))
        elif xy[0] >= text["lateral_m"]:
            side = text["right"].format(lateral=int(abs(xy[0])))
        seen.append(text["object"].format(name=name, ahead=int(abs(xy[1])), side=side))
    answer = text["yes"].format(objects=text["joint"].join(seen)) if seen else text["no"]
    return QuestionAnswer(text["question"].format(distance=int(text["distance_m"])), answer)


def motion_question(geometry: Geometry, view: str) -> QuestionAnswer | None:
    """Speed and path over the next 3 s of each object in a view's sector; None if there is none.

    Left out: objects at 40 m (front) or 20 m (other views) or more, and objects with a missing future keyframe. The
    speed in the question is that of the *future* track, between 0.5 s and 1.0 s, as released.

    Raises:
        ValueError: a NaN position or speed (the original raises there, too).
    """
    text = strings()["motion"]
    limit = strings()["views"][view]["motion_distance_m"]
    objects: list[str] = []
    answers: list[str] = []
    for i, in_view in enumerate(geometry.sectors):
        xy = geometry.box_xy[i]
        if in_view != view or np.linalg.norm(xy, axis=-1) >= limit or np.any(geometry.track_masks[i] == 0):
            continue
        track = geometry.tracks[i]  # (6, 2)
        speed_plan, path_plan = plan_label(track)
        speed = np.linalg.norm(track[1] - track[0], axis=-1) / STEP_S
        right, forward = xy
        objects.append(
            text["object"].format(
                number=len(objects) + 1,
                name=geometry.names[i],
                longitudinal=text["ahead" if forward >= 0 else "behind"].format(distance=abs(int(forward))),
                lateral=text["right" if right >= 0 else "left"].format(distance=abs(int(right))),
                speed=int(speed),
            )
        )
        answers.append(text["answer"].format(number=len(objects), speed_plan=speed_plan, path_plan=path_plan))
    if not objects:
        return None
    return QuestionAnswer(text["question"].format(view=view, objects="".join(objects)), "".join(answers))


def light_question() -> str:
    """Is there a traffic light that matters, and which colour? Asked of the front view, answered by a teacher."""
    return strings()["light"]["question"]


def description_question(view: str) -> str:
    """Describe one view. Answered by a teacher."""
    return strings()["description"]["question"].format(camera=strings()["views"][view]["camera"])


def explanation_question(geometry: Geometry) -> str | None:
    """Why the plan of the next 3 s? Asked of the front view, answered by a teacher.

    None where the plan is unknown: the released converter repeats the last pose near a scene's end and asks why the car
    "stops" there; a label made of missing data is none.
    """
    if not geometry.ego_future_complete:
        return None
    text = strings()["explanation"]
    speed_plan, path_plan = plan_label(geometry.ego_track)
    decision = text["speed_decisions"][speed_plan]
    if speed_plan != "STOP":
        decision += text["joint"] + text["path_decisions"][path_plan]
    return text["question"].format(speed=int(geometry.ego_speed), command=geometry.command, decision=decision)
