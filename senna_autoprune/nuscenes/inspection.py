"""``questions inspect``: what a question file holds, read once, record by record."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.nuscenes.labels import LabelCounts
from senna_autoprune.nuscenes.questions_file import Question, iter_questions, read_sidecar


@dataclass
class Inspection:
    """Counts over a question file. Images are counted once each, however many questions show them."""

    sidecar: dict[str, Any]
    counts: LabelCounts = field(default_factory=LabelCounts)
    samples: int = 0
    images: int = 0
    missing_images: int = 0
    samples_without_all_images: int = 0
    example: Question | None = None  # the first plan question, else the first question


def inspect_questions(path: str | os.PathLike[str]) -> Inspection:
    """Read a question file and count it. Relative image paths are looked for from here, the sidecar's dataroot and FILE's folder.

    Raises:
        SennaPruneError: the file or its sidecar is missing or broken.
    """
    found = Inspection(sidecar=read_sidecar(path))
    roots = ["", str(found.sidecar.get("dataroot", "")), os.path.dirname(path)]
    seen: dict[str, bool] = {}  # image path -> it exists
    incomplete: set[str] = set()
    tokens: set[str] = set()
    for question in iter_questions(path):
        found.counts.add(question)
        tokens.add(question.token)
        for image in question.images:
            if image not in seen:
                seen[image] = any(os.path.isfile(os.path.join(root, image)) for root in roots)
            if not seen[image]:
                incomplete.add(question.token)
        if found.example is None or (found.example.type != "plan" and question.type == "plan"):
            found.example = question
    found.samples = len(tokens)
    found.images = len(seen)
    found.missing_images = sum(not exists for exists in seen.values())
    found.samples_without_all_images = len(incomplete)
    return found


def find_question(path: str | os.PathLike[str], token: str) -> Question:
    """The question with this id, else the sample's plan question, else its first question.

    Raises:
        SennaPruneError: no question of the file has this id or sample token.
    """
    best: Question | None = None
    for question in iter_questions(path):
        if question.id == token:
            return question
        if question.token == token and (best is None or (best.type != "plan" and question.type == "plan")):
            best = question
    if best is None:
        raise SennaPruneError(f"{path} has no question about sample {token}: `questions inspect {path}` shows one it has")
    return best
