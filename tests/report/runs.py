"""Run directories made by hand, with answers, times and traces that are known; no model is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from senna_autoprune.evaluation.answering.pictures import look
from senna_autoprune.evaluation.measures.breakdown import attributes_of
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from senna_autoprune.evaluation.runs.store import RunStore

KEEP, STOP, LEFT, SLOW = "KEEP, STRAIGHT", "STOP, STRAIGHT", "KEEP, LEFT_TURN", "DECELERATE, STRAIGHT"
TEXT = "Your current speed is 6 m/s, the navigation command is 'go straight', state your SPEED plan."
VIEWS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
LABELS = (KEEP, KEEP, STOP, LEFT, SLOW, SLOW)
ANSWERS: dict[str, tuple[str, ...]] = {
    "unpruned": (KEEP, KEEP, STOP, LEFT, SLOW, KEEP),
    "autoprune": (KEEP, STOP, KEEP, LEFT, SLOW, SLOW),  # a false brake, a missed brake, a repaired answer
    "random": (KEEP, KEEP, KEEP, KEEP, KEEP, KEEP),
    "no-image": (KEEP, KEEP, KEEP, KEEP, KEEP, KEEP),
}
INFORMATION = (0.5, 0.1, 0.2, 0.6, 0.3, 0.4)
LAYERS = 4
DESCRIPTION: dict[str, Any] = {
    "config": {"types": ["plan"], "seed": 3, "method": "autoprune", "retention": 0.5, "options": {}, "controls": True},
    "identity": {"weights_sha256": "a1" * 32, "questions_sha256": "b2" * 32, "versions": {"torch": "2.13", "transformers": "5.23"}},
    "places": {"model": "/models/a", "questions": "/data/qa.json", "images_root": "."},
    "settings": {
        "unpruned": {"method": None, "options": {}, "blind": False},
        "autoprune": {"method": "autoprune", "options": {"retention": 0.5}, "blind": False},
        "random": {"method": "random", "options": {"retention": 0.5}, "blind": False},
        "no-image": {"method": None, "options": {}, "blind": True},
    },
    "model": {"layout": "original", "dtype": "float32"},
    "questions": {"made": "2026-01-02", "data": {"version": "v1.0-mini"}, "variant": {"navigation": "fixed", "views": "reference"}},
    "machine": {"device": "cpu", "threads": 1},
}


def trace(information: float | None, first: int = 12, **changes: Any) -> dict[str, Any]:
    """Six views of two tokens over four layers, half of them kept on average; the more information, the more stay early."""
    shift = 0 if information is None else round(2 * information)
    entering = [first, 6 + shift, 4 - shift, 2]
    return {
        "mutual_information": information,
        "k": None if information is None else 0.4,
        "x0": None if information is None else 2.0,
        "visual_tokens": 12,
        "text_tokens": 9,
        "tokens_per_layer": entering,
        "average_tokens": sum(entering) / LAYERS,
        "retention_tokens": sum(entering) / LAYERS / 12,
        "per_view": [1.0] * 6,
        "flops_full": 100.0,
        "flops_pruned": 40.0,
        "kv_bytes": 10,
        "pruner_ms": 1.5,
        "notes": [],
        **changes,
    }


def questions(folder: Path, labels: tuple[str, ...] = LABELS) -> list[QuestionRow]:
    """Two questions a scene, with images in ``folder`` of a colour for each camera."""
    for index, view in enumerate(VIEWS):
        place = folder / "samples" / view
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 18), (40 * index, 90, 200 - 30 * index)).save(place / "0.png")
    images = tuple(f"samples/{view}/0.png" for view in VIEWS)
    rows = []
    for number, label in enumerate(labels):
        facts = attributes_of(TEXT, "Night, rain" if number % 2 else "Sunny", "boston")
        rows.append(QuestionRow(number, f"t{number}", "plan", TEXT, f"{label}\n", images, f"scene-{number // 2}", True, facts))
    return rows


def answers(given: Mapping[str, tuple[str, ...]] = ANSWERS, information: tuple[float, ...] = INFORMATION) -> list[AnswerRow]:
    """Every question under every setting; autoprune takes half of the unpruned prefill, of which 1.5 ms are the pruner's."""
    rows = []
    for name, texts in given.items():
        for number, text in enumerate(texts):
            row = AnswerRow(number, name, "ok", text, None, 5.0, 20.0, 3.0, 4, 1000)
            if name == "autoprune":
                row = replace(row, prefill_ms=10.0, kv_bytes=400, trace=trace(information[number]))
            elif name == "random":
                row = replace(row, prefill_ms=8.0, kv_bytes=400, trace=trace(None))
            rows.append(row)
    return rows


@dataclass
class Made:
    """What a run directory is made of; change it, then ``write``."""

    folder: Path
    questions: list[QuestionRow]
    answers: list[AnswerRow]
    description: dict[str, Any]

    def write(self) -> Path:
        """The run directory."""
        directory = self.folder / "run"
        with RunStore.start(directory, self.description, self.questions) as store:
            images = dict.fromkeys(image for question in self.questions for image in question.images)
            seen = [one for image in images if (one := look(self.folder / image, image)) is not None]
            for place, row in enumerate(self.answers):
                store.add(row, () if place else seen)
        return directory


def made(folder: Path) -> Made:
    """A finished run of six questions."""
    places = {**DESCRIPTION["places"], "images_root": str(folder)}
    return Made(folder, questions(folder), answers(), {**DESCRIPTION, "places": places})
