"""Asking every frame unpruned and pruned, and keeping what is to be shown: answers, times, survivors, attribution.

The asking is done by the evaluation's own ``Answerer``, with its seeds: a replay shows what a run measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from senna_autoprune.adapters.reading import Reading
from senna_autoprune.adapters.views import Picture, pictures_of
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.answerer import Answerer, asked_of
from senna_autoprune.evaluation.answering.models import driving_model
from senna_autoprune.evaluation.answering.settings import Setting
from senna_autoprune.evaluation.measures.adapted import judges
from senna_autoprune.evaluation.measures.parsing import plan_meaning
from senna_autoprune.evaluation.measures.summary import severity_of
from senna_autoprune.evaluation.runs.rows import UNPRUNED, AnswerRow
from senna_autoprune.nuscenes.strings import channel, view_names
from senna_autoprune.pruning.trace import PromptTrace, Trace
from senna_autoprune.replay.attribution import Through, kept_attribution, survivors, token_attribution
from senna_autoprune.replay.heat import multiples, scale_top
from senna_autoprune.replay.places import Place, place_of, stacked
from senna_autoprune.replay.sources import Shot, Source
from senna_autoprune.replay.token_boxes import token_boxes
from senna_autoprune.senna.images import content_patches

if TYPE_CHECKING:
    from senna_autoprune.adapters.model import DrivingModel
    from senna_autoprune.senna import Senna

LAYER_GROUPS = 4
OnFrame = Callable[[int, int], None]  # frames done, frames in all


@dataclass(frozen=True)
class Sight:
    """What the pruned model still saw of a frame: S sets of tokens over L layers, V views, T tokens, P patches a view.

    Attributes:
        set_of_layer: (L,) which set enters each layer.
        kept: (S, V, T) bool.
        heat: (S, V, P) float32, attribution summed over the kept tokens (not normalised).
        full: (V, P) float32, the same over all tokens.
        merged: (L,) merged tokens that enter each layer beside the kept ones; they are nobody's patch here.
        tokens: of each view, where they differ; fewer than T are filled up with ones that are never kept. places: of each view's
            cells (places.py), P of the largest view; None: the patches of Senna's padded square.
    """

    set_of_layer: list[int]
    kept: np.ndarray
    heat: np.ndarray
    full: np.ndarray
    merged: list[int]
    tokens: tuple[int, ...] | None = None
    places: tuple[Place, ...] | None = None

    def place(self, view: int) -> Place | None:
        """Where a view's cells are; None: Senna's padded square."""
        return None if self.places is None else self.places[view]

    @cached_property
    def mean_heat(self) -> np.ndarray:
        """(V, P) mean over the layers: a token that stays longer counts more."""
        return self.heat[self.set_of_layer].mean(0)


@dataclass(frozen=True)
class Frame:
    """One asked frame. sight is None where the pruned model could not be asked, or its trace is not of this prompt."""

    shot: Shot
    unpruned: AnswerRow
    pruned: AnswerRow
    sizes: tuple[tuple[int, int], ...]  # width, height of each image
    trace: PromptTrace | None = None
    sight: Sight | None = None
    reading: Reading | None = None

    @property
    def agrees(self) -> bool | None:
        """Whether both answers mean the same; None if one is missing."""
        before, after = self.unpruned.words, self.pruned.words
        if before is None or after is None:
            return None
        question = self.shot.question
        if self.reading is not None and judges(question.type, self.reading):
            said = [self.reading.answer(question.type, text, question.text) for text in (before, after)]
            return self.reading.same(*said)
        if question.type == "plan":
            return plan_meaning(before) == plan_meaning(after)
        return before.strip() == after.strip()

    @property
    def flip(self) -> str | None:
        """Severity of the flip, None if there is none. Without a label it is judged against the unpruned answer."""
        if self.agrees is not False:
            return None
        question = self.shot.question
        found = severity_of(question, self.unpruned.words or "", self.pruned.words or "", self.reading)
        return None if found == "wording" else found

    @property
    def group_tokens(self) -> list[float]:
        """Mean visual tokens entering the layers of each quarter of the depth."""
        if self.trace is None:
            return []
        return [float(part.mean()) for part in np.array_split(self.trace.tokens_per_layer, LAYER_GROUPS) if len(part)]


@dataclass
class Replay:
    """All that the writers (page, mcap, video) need."""

    title: str
    description: str
    method: str
    budget: str
    through: Through
    frames: list[Frame]
    notes: list[str]
    model: dict[str, str] = field(default_factory=dict)

    @cached_property
    def heat_top(self) -> float:
        """The multiple of an even share that is hottest on every picture of this replay (``heat.scale_top``)."""
        seen = [frame.sight for frame in self.frames if frame.sight is not None]
        return scale_top(multiples(sight.heat, np.broadcast_to(sight.full > 0, sight.heat.shape)) for sight in seen)


@dataclass(frozen=True)
class _Watched(Setting):
    """A setting whose traces are kept."""

    traces: list[Trace] = field(default_factory=list)

    def policy(self, seed: int) -> Any:
        policy = super().policy(seed)
        return None if policy is None else _WatchedPolicy(policy, self.traces)


@dataclass(frozen=True)
class _WatchedPolicy:
    inner: Any
    traces: list[Trace]

    @property
    def needs(self) -> frozenset[str]:
        return self.inner.needs

    @contextmanager
    def __call__(self, *args: Any, **kwargs: Any) -> Iterator[Trace]:
        with self.inner(*args, **kwargs) as trace:
            self.traces.append(trace)
            yield trace


@contextmanager
def seen_patches(model: Any) -> Iterator[dict[str, Tensor]]:
    """What enters the projector and the adapter when a keyframe's features are computed: features, projected (V, P, .). Nothing of other
    families: their tokens are at known places.
    """
    seen: dict[str, Tensor] = {}
    if not hasattr(model, "img_adapter"):
        yield seen
        return

    def keep(name: str) -> Callable[[Any, tuple[Tensor, ...]], None]:
        return lambda _module, inputs: seen.__setitem__(name, inputs[0].detach())

    with ExitStack() as hooks:
        hooks.callback(model.mm_projector.register_forward_pre_hook(keep("features")).remove)
        hooks.callback(model.img_adapter.register_forward_pre_hook(keep("projected")).remove)
        yield seen


def make_replay(
    model: DrivingModel | Senna,
    source: Source,
    setting: Setting,
    budget: str,
    seed: int = 0,
    prompt_template: str = "eval",
    max_new_tokens: int | None = None,
    through: Through = "projector",
    on_frame: OnFrame | None = None,
) -> Replay:
    """Ask every frame of a source unpruned and under ``setting``.

    Args:
        budget: the setting's budget in words, for the reader.
        through: attribution goes back through projector and adapter, or through the adapter alone (much cheaper on a
            large model).
    Raises:
        SennaPruneError: the setting cannot work on this model, or not one frame could be asked.
    """
    driving = driving_model(model, prompt_template)
    reading = Reading(driving.adapter)
    watched = _Watched(setting.name, setting.method, setting.options, setting.blind)
    answerer = Answerer(driving, [Setting(UNPRUNED), watched], Path(), seed, prompt_template, max_new_tokens)
    _ask(answerer, source.shots[0], watched)  # the first forward pass of a process pays for everyone: not timed
    frames = []
    for shot in source.shots:
        with seen_patches(driving.model) as seen:
            unpruned, pruned, trace = _ask(answerer, shot, watched)
        frames.append(replace(_frame(driving, shot, unpruned, pruned, trace, seen, through), reading=reading))
        if on_frame is not None:
            on_frame(len(frames), len(source.shots))
    if all(frame.pruned.answer is None for frame in frames):
        raise SennaPruneError(f"not one frame could be asked: {frames[0].pruned.reason}")
    notes, said = [*source.notes, *_notes_of(frames)], dict(driving.provenance)
    return Replay(source.title, source.description, setting.name, budget, through, frames, notes, said)


def _ask(answerer: Answerer, shot: Shot, watched: _Watched) -> tuple[AnswerRow, AnswerRow, PromptTrace | None]:
    watched.traces.clear()
    number = shot.question.question
    todo = {(number, setting.name) for setting in answerer.settings}
    rows = {row.setting: row for row in answerer.answer([shot.question], todo)}
    trace = watched.traces[-1][0] if watched.traces and len(watched.traces[-1]) else None
    return rows[UNPRUNED], rows[watched.name], trace


def _frame(
    driving: DrivingModel,
    shot: Shot,
    unpruned: AnswerRow,
    pruned: AnswerRow,
    trace: PromptTrace | None,
    seen: dict[str, Tensor],
    through: Through,
) -> Frame:
    if pruned.answer is None or trace is None:
        return Frame(shot, unpruned, pruned, ())
    asked = asked_of(shot.question, Path())
    shot = shown_shot(shot, pictures_of(asked, driving.adapter.views))
    sizes = tuple(_size(image) for image in shot.question.images)
    if not hasattr(driving.model, "img_adapter"):
        return Frame(shot, unpruned, pruned, sizes, trace, placed_sight(driving, trace, sizes, asked.where))
    if "projected" not in seen:
        return Frame(shot, unpruned, pruned, ())
    grid = driving.processor.image_processor.image_size // driving.processor.image_processor.patch_size
    mask = torch.from_numpy(np.stack([content_patches(*size, grid).ravel() for size in sizes]))  # (V, P)
    features = seen["features"] if through == "projector" else None
    attribution = token_attribution(driving.model, seen["projected"], features, mask)
    return Frame(shot, unpruned, pruned, sizes, trace, sight_of(trace, attribution))


def shown_shot(shot: Shot, pictures: Sequence[Picture]) -> Shot:
    """The frame with the pictures that the prompt showed, where an adapter chose them: cameras in its order, each in time."""
    images = tuple(str(picture.source) for picture in pictures)
    if images == shot.question.images:
        return shot
    names = {channel(view): view for view in view_names()}
    views = []
    for picture in pictures:
        name = names.get(picture.camera or "", picture.camera or "")
        views.append(f"{name} {picture.frame:g} s" if picture.frame else name)
    return replace(shot, question=replace(shot.question, images=images), views=tuple(views))


def placed_sight(driving: DrivingModel, trace: PromptTrace, sizes: Sequence[tuple[int, int]], where: str) -> Sight:
    """What was still seen by a model whose tokens have a place in their image.

    Raises:
        SennaPruneError: the rule of the family does not give the tokens that the prompt has.
    """
    places, covers, counts = seen_places(driving, sizes, trace.visual_tokens, where)
    attribution = stacked(covers)  # (V, T, P)
    flags = torch.zeros(len(trace.kept), trace.visual_tokens, dtype=torch.bool)
    for layer, indices in enumerate(trace.kept):
        flags[layer, indices] = True
    width = attribution.shape[1]
    kept = torch.stack([torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in flags.split(list(counts), 1)], dim=1)
    sight = _sight(kept, attribution, trace)
    return replace(sight, tokens=counts, places=places)


def seen_places(
    driving: DrivingModel, sizes: Sequence[tuple[int, int]], tokens: int, where: str
) -> tuple[tuple[Place, ...], list[Tensor], tuple[int, ...]]:
    """Cells of each picture, which of them each token covers ((T, P) a picture), and the tokens of each picture.

    Args:
        sizes: (width, height) of the prompt's pictures. tokens: visual tokens of the prompt.
    Raises:
        SennaPruneError: of the family it is not known where a token is; or the rule does not fit this prompt.
    """
    boxes = token_boxes(driving.model, driving.processor.image_processor, sizes)
    counts = tuple(len(one) for one in boxes)
    if sum(counts) != tokens:
        raise SennaPruneError(f"{where}: {sum(counts)} places were found for {tokens} visual tokens: this processor crops in another way")
    found = [place_of(one, *size) for one, size in zip(boxes, sizes, strict=True)]
    return tuple(place for place, _ in found), [covers for _, covers in found], counts


def sight_of(trace: PromptTrace, attribution: Tensor) -> Sight:
    """Survivors and their attribution (V, T, P), with layers that share a set of tokens sharing its numbers."""
    return _sight(survivors(trace.kept, trace.view_sizes), attribution, trace)


def _sight(kept: Tensor, attribution: Tensor, trace: PromptTrace) -> Sight:
    """kept (L, V, T) bool, attribution (V, T, P)."""
    sets, set_of_layer = torch.unique_consecutive(kept, dim=0, return_inverse=True)
    return Sight(
        set_of_layer=set_of_layer.tolist(),
        kept=sets.numpy(),
        heat=kept_attribution(attribution, sets).numpy(),
        full=attribution.sum(1).numpy(),
        merged=trace.merged_per_layer,
    )


def _size(image: str) -> tuple[int, int]:
    with Image.open(image) as opened:
        return opened.size


def _notes_of(frames: Sequence[Frame]) -> list[str]:
    """Faults and facts of the asked frames, each once."""
    notes: list[str] = []
    failed = [frame for frame in frames if "failed" in (frame.unpruned.status, frame.pruned.status)]
    if failed:
        reason = failed[0].pruned.reason or failed[0].unpruned.reason
        notes.append(f"{len(failed)} of {len(frames)} frames failed (the first: {reason})")
    if any(frame.sight and any(frame.sight.merged) for frame in frames):
        notes.append("merged tokens enter the layers too; as mixtures of dropped ones they have no attribution here")
    stored = [frame for frame in frames if frame.shot.before is not None and frame.shot.after is not None]
    other = sum((frame.shot.before, frame.shot.after) != (frame.unpruned.answer, frame.pruned.answer) for frame in stored)
    if other:
        notes.append(f"{other} of {len(stored)} answers differ from those the run stored: another model or machine")
    for frame in frames:
        notes += [note for note in (frame.trace.notes if frame.trace else []) if note not in notes]
    return notes
