"""A question and an answer as a run keeps them, and the names of the settings that every run has."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import isnan, nan
from operator import itemgetter
from struct import Struct
from typing import Any

UNPRUNED = "unpruned"


NO_IMAGE = "no-image"


MAJORITY = "majority"


RANDOM_ANSWER = "random-answer"


PRUNING_CONTROLS = ("random", "uniform")


CUT = "did not end within"  # how the reason of an "ok" row begins whose answer was cut at the longest length allowed


UNREACHABLE = "n/a"  # status of a row whose setting is impossible on this model; its reason says what would be possible


class KeptTrace(Mapping[str, Any]):
    """A trace that is kept in less room than a dict takes, and is one whenever it is looked at."""

    __slots__ = ()

    def whole(self) -> dict[str, Any]:
        """All that is kept of it."""
        raise NotImplementedError

    def __getitem__(self, name: str) -> Any:
        return self.whole()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole())

    def __len__(self) -> int:
        return len(self.whole())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and self.whole() == dict(other)

    def __repr__(self) -> str:
        return repr(self.whole())


class StoredTrace(KeptTrace):
    """A trace as its JSON text, an eighth of what it takes as objects: half a million of them are in memory at once. It is parsed
    whenever it is looked at; who needs several of its values takes ``whole(trace)`` first.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def whole(self) -> dict[str, Any]:
        """All of it."""
        found: dict[str, Any] = json.loads(self.text)
        return found


class PackedTrace(KeptTrace):
    """What measures, figures and tables read of a trace, as numbers: a third of its text, and nothing to parse. ``figures``: those of
    ``FIGURES`` as doubles, NaN for None; ``layers``: tokens entering each, as integers; ``views``: tokens of each, as doubles.
    """

    FIGURES = (
        "mutual_information", "k", "x0", "pruner_ms", "visual_tokens", "average_tokens", "retention_tokens", "flops_full", "flops_pruned",
    )  # fmt: skip
    MAYBE = 4  # the first of them may be None
    __slots__ = ("figures", "layers", "notes", "views")

    def __init__(self, trace: Mapping[str, Any]) -> None:
        try:
            values = _VALUES(trace)
        except KeyError:  # of a run that was made before it was measured
            values = tuple(map(trace.get, self.FIGURES))
        maybe = [nan if value is None else value for value in values[: self.MAYBE]]
        self.figures = _FIGURES.pack(*maybe, *values[self.MAYBE :])
        self.layers, self.views = array("i", trace["tokens_per_layer"]).tobytes(), array("d", trace["per_view"]).tobytes()
        self.notes = tuple(trace["notes"])

    def whole(self) -> dict[str, Any]:
        """All that is kept of it."""
        values: list[Any] = [None if isnan(value) else value for value in _FIGURES.unpack(self.figures)]
        values[self.MAYBE] = int(values[self.MAYBE])
        layers, views = array("i", self.layers).tolist(), array("d", self.views).tolist()
        return {**dict(zip(self.FIGURES, values, strict=True)), "tokens_per_layer": layers, "per_view": views, "notes": list(self.notes)}


_FIGURES, _VALUES = Struct(f"{len(PackedTrace.FIGURES)}d"), itemgetter(*PackedTrace.FIGURES)


def whole(trace: Mapping[str, Any]) -> dict[str, Any]:
    """A trace as a dict, parsed once."""
    return trace.whole() if isinstance(trace, KeptTrace) else dict(trace)


@dataclass(frozen=True, slots=True)
class QuestionRow:
    """A question as a run keeps it. ``question``: index in the question file. ``scene_known`` is False where the scene
    is unknown and ``scene`` is the sample's own token.

    What only some adapters ask for: ``facts`` (speed, command, history) as far as known; ``earlier``: (camera, seconds) ->
    image path; ``future``: the true path and boxes as plain data (``Future.to_dict``).
    """

    question: int
    token: str
    type: str
    text: str
    label: str
    images: tuple[str, ...]
    scene: str
    scene_known: bool
    attributes: dict[str, str]
    facts: Mapping[str, str] = field(default_factory=dict)
    earlier: Mapping[tuple[str, float], str] = field(default_factory=dict)
    future: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """One answer. ``status`` is "ok", or "failed" with a ``reason``, or in a sweep "n/a" with the reason why its setting
    is impossible. An "ok" row has a reason only where its answer did not end (CUT). A failed row may still hold the
    answer's text (an empty or an endless one). Times in ms:
    ``images_ms`` that the sample's pictures were waited for (decoding, resizing; what a thread did ahead does not count) and
    ``vision_ms`` of its features (both shared by its rows), ``prefill_ms`` of the first forward call of the decoder
    with the features given, ``decode_ms`` of all later ones; these two and ``kv_bytes`` are a row's equal share of its
    batch. ``trace``: what pruning did (JSON-ready; of a stored row a ``StoredTrace``, which is read when it is
    looked at, or a ``PackedTrace``, which holds what is measured).

    ``said``: the answer in words that the run's adapter reads, where a Python adapter read it by itself. ``sent``: the prompt,
    verbatim (None from ``RunStore.answers``; see ``RunStore.sent``); ``missing_frames``: pictures that stood for an earlier one that
    does not exist.
    """

    question: int
    setting: str
    status: str
    answer: str | None = None
    reason: str | None = None
    vision_ms: float | None = None
    prefill_ms: float | None = None
    decode_ms: float | None = None
    new_tokens: int | None = None
    kv_bytes: int | None = None
    trace: Mapping[str, Any] | None = None
    said: str | None = None
    sent: str | None = field(default=None, compare=False)
    missing_frames: int | None = field(default=None, compare=False)
    images_ms: float | None = field(default=None, compare=False)

    @property
    def words(self) -> str | None:
        """What the measures read."""
        return self.answer if self.said is None else self.said

    @property
    def cut(self) -> bool:
        """Whether the answer was cut at the longest length allowed, so that its end is nobody's answer."""
        return self.status == "ok" and self.reason is not None and self.reason.startswith(CUT)


@dataclass(frozen=True, slots=True)
class SeenImage:
    """An image file that an answer was made from. image: as the question names it. A file whose other numbers are all as they were has
    not changed; where one differs (a copy has times of its own), ``size`` and ``sha256`` of its content say.
    """

    image: str
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    sha256: str
