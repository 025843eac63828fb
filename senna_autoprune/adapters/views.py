"""Which pictures a question shows: its own, or named cameras in prompt order, each at some frames in time.

A question file lists image paths; the camera of each is read from its path (``samples/CAM_FRONT/...`` or
``...__CAM_FRONT__...``), else from the words before its mark (``<FRONT VIEW>:``). What cannot be told is never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import TYPE_CHECKING, Any

from senna_autoprune.errors import SennaPruneError

if TYPE_CHECKING:
    from senna_autoprune.adapters.schema import Views

Source = str | PathLike[str] | Any  # a path, or a PIL image

MARKS = re.compile("<image>|<image-placeholder>")
_IN_PATH = re.compile(r"(?:^|[/\\]|__)(CAM_[A-Z0-9_]+?)(?=[/\\]|__|\.|$)")
_IN_WORDS = re.compile(r"<?((?:FRONT|BACK)(?: (?:LEFT|RIGHT))?) VIEW>?:?\s*\Z", re.IGNORECASE)


@dataclass(frozen=True)
class Picture:
    """One picture of a prompt.

    Attributes:
        camera: its channel, None where nobody says. frame: seconds relative to the keyframe.
        source: what to open. missing: there is none of this time; ``source`` is the next later one of the camera.
    """

    source: Source
    camera: str | None = None
    frame: float = 0.0
    missing: bool = False


@dataclass(frozen=True)
class Asked:
    """One question as an adapter sees it.

    Attributes:
        text: of the question file, image marks included. type: plan, choice, ...
        images: in the order of the marks. where: names the question in an error.
        facts: of ``speed``, ``command`` and ``history`` what is known.
        earlier: (camera, frame) -> picture of an earlier time, where there is one.
    """

    text: str
    type: str
    images: tuple[Source, ...]
    where: str = "the question"
    facts: Mapping[str, str] = field(default_factory=dict)
    earlier: Mapping[tuple[str, float], Source] = field(default_factory=dict)

    @property
    def question(self) -> str:
        """The text without image marks and the words that name their views."""
        return "".join(strip_marks(self.text)).strip()

    def pieces(self) -> list[str]:
        """The text between the marks: one piece more than there are marks."""
        return MARKS.split(self.text)


def strip_marks(text: str) -> list[str]:
    """Text between the image marks, each piece without a view's name before its mark."""
    *before, last = MARKS.split(text)
    return [*(_IN_WORDS.sub("", piece) for piece in before), last]


def camera_of(path: Source, words: str = "") -> str | None:
    """The channel of an image by its path, else by the ``words`` before its mark; None if neither says."""
    if isinstance(path, str | PathLike):
        found = _IN_PATH.findall(str(path))
        if found:
            return found[-1]
    match = _IN_WORDS.search(words)
    return None if match is None else "CAM_" + match[1].upper().replace(" ", "_")


def own_pictures(asked: Asked) -> list[Picture]:
    """The question's images, in its order. SennaPruneError: marks and images differ in number."""
    pieces = asked.pieces()
    if len(pieces) - 1 != len(asked.images):
        raise SennaPruneError(f"{asked.where} has {len(pieces) - 1} image marks and {len(asked.images)} images")
    return [Picture(image, camera_of(image, words)) for image, words in zip(asked.images, pieces, strict=False)]


def pictures_of(asked: Asked, views: Views) -> list[Picture]:
    """The pictures that an adapter's prompt shows, in its order: camera by camera, each in time.

    Raises:
        SennaPruneError: a camera that the question has no image of.
    """
    own = own_pictures(asked)
    if views.cameras is None:
        return own
    keyframe: dict[str, Picture] = {}
    for picture in own:
        if picture.camera in keyframe:
            raise SennaPruneError(f"{asked.where} has two images of {picture.camera}: the adapter cannot tell which to show")
        if picture.camera is not None:
            keyframe[picture.camera] = picture
    shown: list[Picture] = []
    for camera in views.cameras:
        if camera not in keyframe:
            has = ", ".join(keyframe) or f"{len(own)} images of cameras that their paths do not name"
            raise SennaPruneError(f"{asked.where} has no image of {camera}, which the adapter's views.cameras lists (it has {has})")
        shown += _in_time(camera, keyframe[camera].source, views.frames, asked.earlier)
    return shown


def _in_time(camera: str, now: Source, frames: Sequence[float], earlier: Mapping[tuple[str, float], Source]) -> list[Picture]:
    """Oldest first; a frame that is not there is filled with the next later one, and marked."""
    found: list[Picture] = []
    later = now
    for frame in reversed(frames):
        source = now if frame == 0 else earlier.get((camera, frame))
        found.append(Picture(later if source is None else source, camera, frame, missing=source is None))
        later = found[-1].source
    return found[::-1]
