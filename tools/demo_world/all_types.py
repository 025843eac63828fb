"""The six question types of the second edition through ``questions build`` itself, with the template teacher as its teacher."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from demo_world import teacher
from demo_world.complexity import complexity, evidence
from demo_world.render import Views
from demo_world.shown import body_pixels
from demo_world.tables import token
from demo_world.traffic import Question, Scene
from senna_autoprune.nuscenes import questions_file
from senna_autoprune.nuscenes.labels import LabelCounts
from senna_autoprune.nuscenes.questions import build_questions
from senna_autoprune.nuscenes.records import BuildSettings
from senna_autoprune.nuscenes.scenes import load_tables
from senna_autoprune.nuscenes.strings import QUESTION_TYPES, question_type, question_view, view_names
from senna_autoprune.nuscenes.teacher.teacher import Teacher
from senna_autoprune.survival.sources import FORMAT

MOST_OBJECTS = 6  # of a motion question that is kept
_IMAGE = re.compile(r"(.+)_(\d+)\.jpg")


class Known:
    """The asked keyframes with their views: what teacher, complexity and evidence are made of."""

    def __init__(self) -> None:
        self.keyframes: dict[tuple[str, int], tuple[Scene, Question, dict[str, dict[int, int]]]] = {}
        self._difficulty: dict[str, dict[tuple[str, str | None], dict[str, Any]]] = {}
        self._evidence: dict[str, list[dict[str, Any]]] = {}

    def on_views(self, scene: Scene, keyframe: int, views: Views) -> None:
        """Called by the table writer for each rendered keyframe."""
        question = next(q for q in scene.questions if q.keyframe == keyframe)
        name = token(scene.name, "sample", keyframe)
        self.keyframes[(scene.name, keyframe)] = (scene, question, body_pixels(views, len(scene.bodies)))
        kinds = [(kind, None) for kind in QUESTION_TYPES if kind not in ("motion", "description")]
        about: list[tuple[str, str | None]] = [*kinds, *((kind, view) for kind in ("motion", "description") for view in view_names())]
        self._difficulty[name] = {key: complexity(scene, question, *key, views) for key in about}
        self._evidence[name] = evidence(scene, question, views)

    def complexity_of(self, records: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """By record id."""
        found = {}
        for record in map(questions_file.Question, records):
            found[record.id] = self._difficulty[record.token][(record.type, record.view)]
        return found

    def write_evidence(self, file: Path) -> None:
        """The evidence file of ``senna-prune survival``."""
        file.write_text(json.dumps({"format": FORMAT, "samples": self._evidence}, separators=(",", ":")) + "\n")


class TemplateBackend:
    """A teacher's backend that knows the world: the image's name says which keyframe it is asked about."""

    identity = {"kind": "template", "model": "template teacher of the demo world"}  # noqa: RUF012 (the protocol's attribute)
    concurrency = 1

    def __init__(self, known: Known) -> None:
        self._known = known

    def answer(self, question: str, image: Path) -> str:
        match = _IMAGE.fullmatch(image.name)
        assert match is not None
        scene, asked, seen = self._known.keyframes[(match[1], int(match[2]))]
        kind = question_type(question)
        if kind == "light":
            return teacher.light(scene, asked)
        if kind == "explanation":
            return teacher.explanation(scene, asked)
        view = question_view(question)
        assert kind == "description" and view is not None
        return teacher.description(scene, asked, view, seen[view])

    def close(self) -> None:
        pass


def build_all_types(root: Path, file: Path, split: str, known: Known) -> None:
    """``questions build`` of all six types."""
    with tempfile.TemporaryDirectory() as cache, Teacher(TemplateBackend(known), cache) as template:
        settings = BuildSettings(types=QUESTION_TYPES, require_images=True)
        build_questions(load_tables(root, "v1.0-demo"), file, settings, split=split, teacher=template)


def thinned(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fewer questions about the same keyframes.

    Motion and description: one view a keyframe, motion mostly the front one where it has few objects, description in turn. Light: all
    that show one and as many that show none, spread over the split (three keyframes in four show none: guessed without a camera).
    """
    by_sample: dict[str, list[questions_file.Question]] = {}
    for record in map(questions_file.Question, records):
        by_sample.setdefault(record.token, []).append(record)
    light = [record for mine in by_sample.values() for record in mine if record.type == "light"]
    dark = [record.id for record in light if record.answer.strip() == "None"]
    wanted = min(len(light) - len(dark), len(dark))
    without = set(dark) - {dark[i * len(dark) // wanted] for i in range(wanted)}
    kept: list[dict[str, Any]] = []
    for number, mine in enumerate(by_sample.values()):
        few = [r for r in mine if r.type == "motion" and r.answer.count("Object ") <= MOST_OBJECTS]
        ahead = [r for r in few if r.view == "front"]
        motion = (ahead or few)[:1] if number % 4 else few[-1:]
        told = [r for r in mine if r.type == "description"]
        description = [r for r in told if r.view == ("front" if number % 2 else view_names()[(number // 2) % 6])]
        others = [r for r in mine if r.type not in ("motion", "description") and r.id not in without]
        kept += [r for r in mine if r in others or r in motion or r in description]
    return kept


def counted(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Counts of questions and labels, as the sidecar has them."""
    labels = LabelCounts()
    for record in records:
        labels.add(questions_file.Question(record))
    return labels.to_dict()
