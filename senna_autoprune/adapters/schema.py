"""What an adapter says of a driving model, as data: five keys of a YAML file, each validated, every error naming its key.

    family: qwen2_5_vl                # model_type of the checkpoint; left out: whatever the checkpoint says
    views:
      cameras: [CAM_FRONT_LEFT, CAM_FRONT, CAM_FRONT_RIGHT]   # in prompt order; left out: the question's own images
      frames: [-0.5, 0.0]             # seconds before the keyframe, oldest first
      min_pixels: 3136
      max_pixels: 200704              # left out: the processor's own
    prompt:
      system: You drive a car.
      user: "{view:CAM_FRONT_LEFT}{view:CAM_FRONT}{view:CAM_FRONT_RIGHT}\\nSpeed {speed} m/s. {question}"
    generation: {max_new_tokens: 64, stop: ["\\n\\n"]}
    parse: {kind: waypoints, dt: 0.5, axes: forward-left, count: 6}
    score: {agreement_m: 0.5}

The file is untrusted data: nothing in it is executed, and templates know seven placeholders and no expressions.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic.dataclasses import dataclass

from senna_autoprune.adapters.prompt import placeholders
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.config import ALL_TYPES
from senna_autoprune.files.yaml_files import build, suggest

AXES = ("right-forward", "forward-left", "forward-right")  # of a pair: what its first and second number measure
KINDS = ("auto", "plan", "label", "choice", "waypoints", "json", "text")
MEASURES = ("accuracy", "macro_f1", "l2", "collision", "text", "agreement")
LONGEST_S = 10.0  # of frames and horizons

_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
_PATH = re.compile(r"\$?(\.?[A-Za-z_]\w*|\[-?\d{1,4}\])(\.[A-Za-z_]\w*|\[-?\d{1,4}\])*")
_CAMERA = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(config=_STRICT, kw_only=True, frozen=True)
class Views:
    """Which pictures a question shows.

    Attributes:
        cameras: channels in prompt order; None: the question's own images, in its own order.
        frames: seconds relative to the keyframe, ascending, all <= 0.
        min_pixels, max_pixels: budget of a picture, width times height as the processor resizes it; None: the processor's.
    """

    cameras: tuple[str, ...] | None = Field(default=None, min_length=1, max_length=64)
    frames: tuple[float, ...] = Field(default=(0.0,), min_length=1, max_length=64)
    min_pixels: int | None = Field(default=None, ge=1, le=2**31)
    max_pixels: int | None = Field(default=None, ge=1, le=2**31)

    @field_validator("cameras")
    @classmethod
    def _names(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in value or ():
            if not _CAMERA.fullmatch(name):
                raise ValueError(f"{name!r} is no camera's name, like CAM_FRONT")
        if value is not None and len(set(value)) < len(value):
            raise ValueError("a camera is named twice")
        return value

    @field_validator("frames")
    @classmethod
    def _times(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not -LONGEST_S <= time <= 0 for time in value):
            raise ValueError(f"frames are seconds before the keyframe, from {-LONGEST_S:g} to 0")
        if list(value) != sorted(set(value)):
            raise ValueError("frames must ascend: the oldest first, like [-1.0, -0.5, 0.0]")
        return value

    @model_validator(mode="after")
    def _budget(self) -> Self:
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels {self.min_pixels} is more than max_pixels {self.max_pixels}")
        if self.frames != (0.0,) and self.cameras is None:
            raise ValueError("frames in time need cameras: say which with views.cameras")
        return self


@dataclass(config=_STRICT, kw_only=True, frozen=True)
class Prompt:
    """The words round the question; the processor's chat template writes the rest.

    Placeholders: ``{asked}`` the question file's text with its image marks in place; ``{question}`` the text without them;
    ``{view:CAM_FRONT}`` a camera's pictures, all frames in time, ``{view:CAM_FRONT@-0.5}`` that of one frame; ``{speed}``
    in m/s, ``{command}``, ``{history}`` as the question or its record state them. A brace is written ``{{`` or ``}}``.
    """

    system: str | None = Field(default=None, max_length=20_000)
    user: str = Field(default="{asked}", max_length=20_000)

    @field_validator("system", "user")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        placeholders(value or "")  # ValueError
        return value

    @model_validator(mode="after")
    def _pictures_in_user(self) -> Self:
        if any(one.name in ("view", "asked") for one in placeholders(self.system or "")):
            raise ValueError("pictures belong into prompt.user: most chat templates take none in the system turn")
        used = [one.name for one in placeholders(self.user)]
        if not {"asked", "question"} & set(used):
            raise ValueError("prompt.user asks nothing: put {question} (or {asked}) into it")
        if used.count("asked") + used.count("question") > 1:
            raise ValueError("prompt.user asks twice: use one of {question} and {asked}, once")
        return self


@dataclass(config=_STRICT, kw_only=True, frozen=True)
class Generation:
    """How long an answer may be and where it ends. Always greedy. ``max_new_tokens`` None: by question type."""

    max_new_tokens: int | None = Field(default=None, ge=1, le=4096)
    stop: tuple[str, ...] = Field(default=(), max_length=16)

    @field_validator("stop", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("stop")
    @classmethod
    def _not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(not text for text in value):
            raise ValueError("a stop string is empty")
        return value


@dataclass(config=_STRICT, kw_only=True, frozen=True)
class Parse:
    """How to read an answer.

    Attributes:
        kind: ``auto`` by the question's type (a plan, a choice's letter, yes or no, else text); or ``plan``, ``label``,
            ``choice``, ``waypoints``, ``text``; ``json``: the value at ``path`` is read as ``then``.
        labels: the closed set of ``label``.
        dt: seconds between waypoints; axes: what the two numbers of one measure; count: how many there must be, None: any.
        by_type: another reading for questions of these types.
    """

    kind: Literal["auto", "plan", "label", "choice", "waypoints", "json", "text"] = "auto"
    labels: tuple[str, ...] = Field(default=(), max_length=1000)
    dt: float = Field(default=0.5, gt=0, le=5)
    axes: Literal["right-forward", "forward-left", "forward-right"] = "right-forward"
    count: int | None = Field(default=None, ge=1, le=200)
    path: str | None = Field(default=None, max_length=200)
    then: Literal["plan", "label", "choice", "waypoints", "text"] = "text"
    by_type: dict[str, Parse] = Field(default_factory=dict)

    @field_validator("path")
    @classmethod
    def _a_path(cls, value: str | None) -> str | None:
        if value is not None and not _PATH.fullmatch(value):
            raise ValueError(f"{value!r} is no path like $.plan.trajectory or $.steps[0].action")
        return value

    @field_validator("labels")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len({label.strip().casefold() for label in value}) < len(value):
            raise ValueError("two labels are the same but for case or spaces")
        if any(not label.strip() or "\n" in label for label in value):
            raise ValueError("a label is one line of text")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.kind == "json" and self.path is None:
            raise ValueError("kind json needs a path: say where the value is, like $.trajectory")
        if self.kind != "json" and self.path is not None:
            raise ValueError(f"path belongs to kind json, not {self.kind}")
        if "label" in (self.kind, self.then if self.kind == "json" else "") and not self.labels:
            raise ValueError("kind label needs labels: the closed set an answer may name")
        for name in self.by_type:
            if name not in ALL_TYPES:
                raise ValueError(f"by_type: unknown question type {name!r}{suggest(name, ALL_TYPES)}")
        if any(one.by_type for one in self.by_type.values()):
            raise ValueError("by_type within by_type")
        return self

    def of(self, question_type: str) -> Parse:
        """The reading of answers to questions of a type."""
        return self.by_type.get(question_type, self)


@dataclass(config=_STRICT, kw_only=True, frozen=True)
class Score:
    """What is measured. ``measures`` empty: all that the kind of answer has.

    Attributes:
        horizons_s: of L2 and collision.
        conventions: ``uniad``: at the horizon itself; ``stp3``: mean of all steps up to it.
        agreement_m: two trajectories agree if no waypoint is further from its counterpart.
        heading: the ego box of a collision is turned along its ``path``, or stays ``fixed`` as it starts (ST-P3's, UniAD's).
    """

    measures: tuple[Literal["accuracy", "macro_f1", "l2", "collision", "text", "agreement"], ...] = ()
    horizons_s: tuple[float, ...] = Field(default=(1.0, 2.0, 3.0), min_length=1, max_length=20)
    conventions: tuple[Literal["stp3", "uniad"], ...] = Field(default=("stp3", "uniad"), min_length=1)
    agreement_m: float = Field(default=0.5, gt=0, le=100)
    heading: Literal["path", "fixed"] = "path"

    @field_validator("horizons_s")
    @classmethod
    def _ahead(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < time <= LONGEST_S for time in value) or list(value) != sorted(set(value)):
            raise ValueError(f"horizons are seconds ahead, ascending, at most {LONGEST_S:g}")
        if any(abs(2 * time - round(2 * time)) > 1e-6 for time in value):
            raise ValueError("horizons are whole half seconds: there the true path is known")
        return value


@dataclass(config=_STRICT, kw_only=True, frozen=True)
class Adapter:
    """All of it. ``family``: the ``model_type`` it is for; None: whichever checkpoint is named.

    ``entry``: the Python adapter that loads the model, of the entry point group ``senna_prune.adapters``; None: built in.
    """

    name: str = Field(default="custom", max_length=100)
    family: str | None = Field(default=None, max_length=100)
    views: Views = Field(default_factory=Views)
    prompt: Prompt = Field(default_factory=Prompt)
    generation: Generation = Field(default_factory=Generation)
    parse: Parse = Field(default_factory=Parse)
    score: Score = Field(default_factory=Score)

    @field_validator("parse", mode="before")
    @classmethod
    def _short_parse(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _views_shown(self) -> Self:
        shown = [one for one in placeholders(self.prompt.user) if one.name in ("view", "asked")]
        if not shown:
            raise ValueError("prompt.user shows no picture: put {view:CAM_FRONT} (or {asked}) into it")
        named = [one for one in shown if one.name == "view"]
        cameras = self.views.cameras
        if cameras is None:
            if named:
                raise ValueError(f"prompt.user shows {named[0].camera}: list it in views.cameras")
            return self
        if not named:
            raise ValueError("views.cameras chooses pictures, {asked} shows the question's own: use {question} and {view:...}, or neither")
        if len(named) < len(shown):
            raise ValueError("prompt.user mixes {asked} with {view:...}: use {question} with {view:...}")
        _check_order(named, cameras, self.views.frames)
        return self


def _check_order(named: Any, cameras: tuple[str, ...], frames: tuple[float, ...]) -> None:
    """Every camera and frame is shown once, cameras in the order of the list."""
    order = list(dict.fromkeys(one.camera for one in named))
    unknown = [camera for camera in order if camera not in cameras]
    if unknown:
        raise ValueError(f"prompt.user shows {unknown[0]}, which is not one of views.cameras")
    missing = [camera for camera in cameras if camera not in order]
    if missing:
        raise ValueError(f"views.cameras lists {missing[0]}, which prompt.user does not show")
    if order != list(cameras):
        raise ValueError(f"prompt.user shows {', '.join(order)}, views.cameras lists {', '.join(cameras)}: give both in one order")
    for camera in cameras:
        shown: list[float] = []
        for one in (one for one in named if one.camera == camera):
            shown += frames if one.frame is None else [one.frame]
        if shown != list(frames):
            listed = ", ".join(f"{time:g}" for time in frames)
            raise ValueError(f"prompt.user must show {camera} once at each of views.frames ({listed}), in time")


def adapter_of(values: dict[str, Any], where: str) -> Adapter:
    """A validated adapter from the mapping of a YAML file.

    Args:
        where: what to name in an error.
    Raises:
        SennaPruneError: an unknown key (with a suggestion), or a value of the wrong kind; names the key.
    """
    parts = {"views": Views, "prompt": Prompt, "generation": Generation, "parse": Parse, "score": Score}
    for key, cls in parts.items():
        given = values.get(key)
        if isinstance(given, dict):
            known = [field.name for field in dataclasses.fields(cls)]
            for name in given:
                if name not in known:
                    raise SennaPruneError(f"{where}: unknown key '{key}.{str(name)[:100]}'{suggest(str(name), known)}")
    return build(Adapter, values, where)
