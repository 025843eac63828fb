"""One sample to its question records, and the counts of what was asked, skipped and fallen back on.

A record has the keys of the released converter, its ``id`` (which that one loses) and one key of ours, ``senna_prune``,
which says what was chosen; the original code reads its keys by name and never sees it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.nuscenes import builders
from senna_autoprune.nuscenes.builders import QuestionAnswer
from senna_autoprune.nuscenes.can_bus import ABSENT
from senna_autoprune.nuscenes.labels import LabelCounts
from senna_autoprune.nuscenes.questions_file import question_id
from senna_autoprune.nuscenes.rules import Navigation
from senna_autoprune.nuscenes.scenes import NAVIGATION_STEPS, NO_BOXES, SHORT_FUTURE, Sample
from senna_autoprune.nuscenes.strings import QUESTION_TYPES, channel, view_names, view_order
from senna_autoprune.nuscenes.teacher.teacher import Teacher

Views = Literal["fixed", "reference"]

NO_IMAGE = "image missing"
NO_ANSWER = "teacher gave no answer"
BAD_GEOMETRY = "position or speed not a number"


@dataclass(frozen=True)
class BuildSettings:
    """What to ask and how. ``fixed`` repairs the released converter, ``reference`` reproduces it.

    Attributes:
        types: question types; those a teacher must answer are left out without one.
        navigation: rule of the navigation command and of the ego speed (see ``scenes.iter_samples``).
        views: order of the six image files: as the prompt names them, or as released.
        require_images: leave out samples without all six files.
        categories: the tables' own category names -> ours, beside nuScenes' own.
        resample: take the three seconds ahead from the poses at each half second, not from the keyframes.
    """

    types: tuple[str, ...] = QUESTION_TYPES
    navigation: Navigation = "fixed"
    views: Views = "fixed"
    require_images: bool = False
    categories: Mapping[str, str] = field(default_factory=dict)
    resample: bool = False

    def __post_init__(self) -> None:
        if not self.types:
            raise SennaPruneError(f"no question type named: use some of {', '.join(QUESTION_TYPES)}")
        unknown = [kind for kind in self.types if kind not in QUESTION_TYPES]
        if unknown:
            raise SennaPruneError(f"unknown question type {', '.join(unknown)}: use some of {', '.join(QUESTION_TYPES)}")
        if self.navigation not in ("fixed", "reference", "none"):
            raise SennaPruneError(f"unknown navigation {self.navigation!r}: use fixed, reference or none")
        if self.views not in ("fixed", "reference"):
            raise SennaPruneError(f"unknown views {self.views!r}: use fixed or reference")

    def notes(self) -> list[str]:
        """How the file stands to one of the released converter: which quirks are kept, which never reproduced."""
        kept = ["each object's track is seen from the ego's LIDAR mount, as released"]
        if self.navigation == "reference":
            kept += [
                "the navigation command takes x (right) for forward and y (forward) for left, as released",
                "the ego speed is the CAN bus's only where steering messages exist too, as released",
            ]
        if self.views == "reference":
            kept.append("five of six images stand under another view's name in the prompt, as released")
        if self.resample:
            kept.append("not as released: the future is taken from the poses at each half second, not from keyframes")
        return [
            *kept,
            "not as released: scenes without LIDAR files are used, no LIDAR file is needed",
            "not as released: no vru or motion question before a scene's first box and after its last (released: 'No, ...')",
            "not as released: no plan, motion or explanation where the keyframes ahead are not 0.5 s apart by their timestamps",
            "not as released: no CAN bus speed from a message 0.5 s away, or one that contradicts the poses",
            "not as released: no explanation where the 3 s future is incomplete (released: the last pose is repeated)",
        ]


@dataclass
class BuildCounts:
    """What happened, counted while streaming."""

    labels: LabelCounts = field(default_factory=LabelCounts)
    samples: int = 0  # samples looked at
    asked: int = 0  # samples with a question
    left_out: int = 0  # for want of images, with require_images
    missing_images: int = 0  # files
    incomplete: int = 0  # samples without all six files
    skipped: dict[str, Counter[str]] = field(default_factory=dict)  # type -> reason -> questions
    found: dict[str, Counter[str]] = field(default_factory=dict)  # what is unlike nuScenes -> scene -> keyframes (or boxes)
    unknown_categories: Counter[str] = field(default_factory=Counter)  # over boxes
    speed_sources: Counter[str] = field(default_factory=Counter)  # over samples kept
    fallback_scenes: set[str] = field(default_factory=set)  # scenes with a sample kept and no CAN messages
    commands: Counter[str] = field(default_factory=Counter)  # over plan questions
    shortened_navigation: int = 0  # plan questions whose target is less than 6 s ahead

    def skip(self, kind: str, reason: str) -> None:
        """Count a question that was not asked."""
        self.skipped.setdefault(kind, Counter())[reason] += 1

    def find(self, what: str, scene: str, count: int = 1) -> None:
        """Count what is unlike nuScenes in a scene."""
        self.found.setdefault(what, Counter())[scene] += count


@dataclass(frozen=True)
class PendingRecord:
    """A record; ``future`` is the answer it still waits for."""

    record: dict[str, Any]
    kind: str
    future: Future[str] | None = None


class RecordBuilder:
    """Asks the questions of a sample, in the released converter's order: vru, motion, light, description, plan, ...

    Args:
        types: the types to ask; those a teacher answers only with a teacher.
    """

    def __init__(self, settings: BuildSettings, types: Sequence[str], counts: BuildCounts, teacher: Teacher | None) -> None:
        self._settings = settings
        self._counts = counts
        self._teacher = teacher
        askers: dict[str, Callable[[Sample], Iterator[PendingRecord]]] = {
            "vru": self._vru,
            "motion": self._motion,
            "light": self._light,
            "description": self._description,
            "plan": self._plan,
            "explanation": self._explanation,
        }
        self._types = frozenset(types)
        self._askers = [asker for kind, asker in askers.items() if kind in types]

    def records(self, sample: Sample) -> Iterator[PendingRecord]:
        """The records of a sample. What makes the original raise is skipped and counted, type by type."""
        if rowless := [channel(view) for view, path in sample.images.items() if not path]:
            self._counts.find(f"no {', '.join(rowless)} row", sample.scene)
            return
        missing = sum(not os.path.isfile(path) for path in sample.images.values())
        self._counts.missing_images += missing
        self._counts.incomplete += missing > 0
        if missing and self._settings.require_images:
            self._counts.left_out += 1
            return
        self._counts.speed_sources[sample.speed_source] += 1
        if sample.speed_why == ABSENT:
            self._counts.fallback_scenes.add(sample.scene)
        elif sample.speed_why:
            self._counts.find(sample.speed_why, sample.scene)
        self._note(sample)
        for ask in self._askers:
            yield from ask(sample)

    def _note(self, sample: Sample) -> None:
        """Count what was unlike nuScenes at this keyframe, for the types that are asked."""
        for remark in sample.remarks:
            self._counts.find(remark, sample.scene)
        for reason in {why for kind, why in (sample.not_asked or {}).items() if kind in self._types}:
            if reason not in (SHORT_FUTURE, NO_BOXES):
                self._counts.find(reason, sample.scene)
        if sample.unknown_categories:
            self._counts.find("boxes of unknown category (see --categories)", sample.scene, len(sample.unknown_categories))
            self._counts.unknown_categories.update(sample.unknown_categories)

    def _vru(self, sample: Sample) -> Iterator[PendingRecord]:
        if self._known(sample, "vru"):
            yield from self._geometric(sample, "vru", builders.vru_question)

    def _motion(self, sample: Sample) -> Iterator[PendingRecord]:
        if self._known(sample, "motion"):
            for view in view_names():
                yield from self._geometric(sample, "motion", partial(builders.motion_question, view=view), view)

    def _plan(self, sample: Sample) -> Iterator[PendingRecord]:
        if self._known(sample, "plan"):
            for record in self._geometric(sample, "plan", builders.plan_question):
                self._counts.commands[sample.geometry.command] += 1
                self._counts.shortened_navigation += sample.navigation_steps < NAVIGATION_STEPS
                yield record

    def _light(self, sample: Sample) -> Iterator[PendingRecord]:
        yield from self._taught(sample, "light", builders.light_question(), "front")

    def _description(self, sample: Sample) -> Iterator[PendingRecord]:
        for view in view_names():
            yield from self._taught(sample, "description", builders.description_question(view), view, view)

    def _explanation(self, sample: Sample) -> Iterator[PendingRecord]:
        if self._known(sample, "explanation"):
            try:
                question = builders.explanation_question(sample.geometry)
            except (ValueError, OverflowError):
                self._counts.skip("explanation", BAD_GEOMETRY)
                return
            assert question is not None
            yield from self._taught(sample, "explanation", question, "front")

    def _known(self, sample: Sample, kind: str) -> bool:
        """Whether the tables hold the answer: a scene without a box is no empty street, and a "no" would be a guess."""
        reason = (sample.not_asked or {}).get(kind)
        if reason:
            self._counts.skip(kind, reason)
        return not reason

    def _geometric(
        self,
        sample: Sample,
        kind: str,
        build: Callable[[builders.Geometry], QuestionAnswer | None],
        view: str | None = None,
    ) -> Iterator[PendingRecord]:
        try:
            pair = build(sample.geometry)
        except (ValueError, OverflowError):  # a NaN in the tables: the original raises there
            self._counts.skip(kind, BAD_GEOMETRY)
            return
        if pair is not None:
            yield PendingRecord(self._record(sample, kind, pair, view), kind)

    def _taught(self, sample: Sample, kind: str, question: str, seen: str, view: str | None = None) -> Iterator[PendingRecord]:
        """A question about the image of the view ``seen``; its answer is on its way."""
        assert self._teacher is not None
        if os.path.isfile(sample.images[seen]):
            record = self._record(sample, kind, QuestionAnswer(question, ""), view)
            yield PendingRecord(record, kind, self._teacher.submit(question, sample.images[seen]))
        else:
            self._counts.skip(kind, NO_IMAGE)

    def _record(self, sample: Sample, kind: str, pair: QuestionAnswer, view: str | None) -> dict[str, Any]:
        track = sample.geometry.ego_track.reshape(-1)  # (12,) float32
        return {
            "id": question_id(sample.token, kind, view),
            "token": sample.token,
            "image": sample.images["front"],
            "images": [sample.images[name] for name in view_order(self._settings.views)],
            "prev": sample.prev,
            "next": sample.next,
            "scene_token": sample.scene_token,
            "fut_valid_flag": str(sample.geometry.ego_future_complete),
            "ego_fut_trajs": "[" + ", ".join(str(value) for value in track) + "]",  # as numpy 1 prints float32
            "conversations": builders.conversation(pair),
            "senna_prune": {
                "type": kind,
                **({"view": view} if view else {}),
                "scene": sample.scene,
                "navigation": self._settings.navigation,
                "views": self._settings.views,
                "ego_speed_from": sample.speed_source,
            },
        }
