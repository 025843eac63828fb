"""One question with its answer, as every format gives it, and the record it becomes in a question file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from senna_autoprune.adapters.answers import Choice, options_of, read_choice
from senna_autoprune.adapters.views import MARKS, camera_of
from senna_autoprune.nuscenes.strings import channel, question_type, strings, view_order

YES_NO = re.compile(r"\s*+(yes|no)\s*+[.!]?\s*+", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Pair:
    """A question-answer pair.

    Attributes:
        question: may hold image marks; then they are as many as the images. answer: None where the file has none.
        images: paths as the file gives them; cameras: channel -> path instead, where the file names them.
        token: the sample's; None: made of the images. category: the file's own name for the kind of question.
        facts: further keys for the record's ``senna_prune``.
    """

    question: str
    answer: str | None
    images: Sequence[str] = ()
    cameras: Mapping[str, str] = field(default_factory=dict)
    token: str | None = None
    scene: str | None = None
    category: str | None = None
    turn: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)


class Unusable(Exception):
    """A pair that cannot be asked; the message says why, as a reason that is counted."""


def kind_of(question: str, answer: str | None) -> str:
    """Senna's own type by the question's words, else ``choice``, ``yes_no`` or ``other``."""
    known = question_type(question)
    if known != "other":
        return known
    options = options_of(question)
    if options and (answer is None or isinstance(read_choice(answer, question), Choice)):
        return "choice"
    return "yes_no" if answer is not None and YES_NO.fullmatch(answer) else "other"


def shown(pair: Pair) -> tuple[str, list[str]]:
    """The question with its image marks, and the images in their order.

    A question without marks gets them in front: the six nuScenes cameras as Senna's prompt names and orders them, other known
    cameras by their names, pictures of unknown cameras a line each.

    Raises:
        Unusable: no image, or marks and images that differ in number.
    """
    marks = len(MARKS.findall(pair.question))
    images = list(pair.images) or list(pair.cameras.values())
    if not images:
        raise Unusable("no image")
    if marks:
        if marks != len(images):
            raise Unusable("image marks and images differ in number")
        return pair.question, images
    cameras = dict(pair.cameras)
    if not cameras:
        found = [camera_of(image) for image in images]
        if None not in found and len(set(found)) == len(found):
            cameras = {str(camera): image for camera, image in zip(found, images, strict=True)}
    six = [channel(view) for view in view_order("fixed")]
    if sorted(cameras) == sorted(six):
        return strings()["image_prompt"] + pair.question, [cameras[camera] for camera in six]
    if cameras and all(camera.startswith("CAM_") for camera in cameras):
        names = [f"<{camera.removeprefix('CAM_').replace('_', ' ')} VIEW>:\n<image>\n" for camera in cameras]
        return "".join(names) + pair.question, list(cameras.values())
    return "<image>\n" * len(images) + pair.question, images


def record_of(pair: Pair, images: Sequence[str], text: str, source: str, number: int) -> dict[str, Any]:
    """The record of a question file. ``images``: as they are to be opened."""
    token = pair.token or "images-" + hashlib.sha256("\n".join(images).encode()).hexdigest()[:20]
    kind = kind_of(MARKS.sub("", pair.question), pair.answer)
    facts = {"type": kind, "source": source, "category": pair.category, "turn": pair.turn or None, **pair.facts}
    return {
        "id": f"{token}-{source}-{number}",
        "token": token,
        "image": images[0],
        "images": list(images),
        **({"scene_token": pair.scene} if pair.scene else {}),
        "conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": pair.answer or ""}],
        "senna_prune": {**{name: value for name, value in facts.items() if value is not None}, "labelled": pair.answer is not None},
    }
