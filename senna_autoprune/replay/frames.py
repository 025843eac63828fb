"""Asking every frame unpruned and pruned, and keeping what is to be shown: answers, times, survivors, attribution.

The asking is done by the evaluation's own ``Answerer``, with its seeds: a replay shows what a run measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.answerer import Answerer
from senna_autoprune.evaluation.answering.settings import Setting
from senna_autoprune.evaluation.measures.flips import severity
from senna_autoprune.evaluation.measures.parsing import plan_meaning
from senna_autoprune.evaluation.runs.rows import UNPRUNED, AnswerRow
from senna_autoprune.pruning.trace import SampleTrace, Trace
from senna_autoprune.replay.attribution import Through, kept_attribution, survivors, token_attribution
from senna_autoprune.replay.sources import Shot, Source
from senna_autoprune.senna.images import content_patches

if TYPE_CHECKING:
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
    """

    set_of_layer: list[int]
    kept: np.ndarray
    heat: np.ndarray
    full: np.ndarray
    merged: list[int]

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
    trace: SampleTrace | None = None
    sight: Sight | None = None

    @property
    def agrees(self) -> bool | None:
        """Whether both answers mean the same; None if one is missing."""
        before, after = self.unpruned.answer, self.pruned.answer
        if before is None or after is None:
            return None
        if self.shot.question.type == "plan":
            return plan_meaning(before) == plan_meaning(after)
        return before.strip() == after.strip()

    @property
    def flip(self) -> str | None:
        """Severity of the flip, None if there is none. Without a label it is judged against the unpruned answer."""
        if self.agrees is not False:
            return None
        question = self.shot.question
        found = severity(question.type, question.label, self.unpruned.answer or "", self.pruned.answer or "")
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
    """What enters the projector and the adapter when a scene's features are computed: features, projected (V, P, .)."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[Any, tuple[Tensor, ...]], None]:
        return lambda _module, inputs: seen.__setitem__(name, inputs[0].detach())

    with ExitStack() as hooks:
        hooks.callback(model.mm_projector.register_forward_pre_hook(keep("features")).remove)
        hooks.callback(model.img_adapter.register_forward_pre_hook(keep("projected")).remove)
        yield seen


def make_replay(
    senna: Senna,
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
    watched = _Watched(setting.name, setting.method, setting.options, setting.blind)
    answerer = Answerer(senna, [Setting(UNPRUNED), watched], Path(), seed, prompt_template, max_new_tokens)
    _ask(answerer, source.shots[0], watched)  # the first forward pass of a process pays for everyone: not timed
    frames = []
    for shot in source.shots:
        with seen_patches(senna.model) as seen:
            unpruned, pruned, trace = _ask(answerer, shot, watched)
        frames.append(_frame(senna, shot, unpruned, pruned, trace, seen, through))
        if on_frame is not None:
            on_frame(len(frames), len(source.shots))
    if all(frame.pruned.answer is None for frame in frames):
        raise SennaPruneError(f"not one frame could be asked: {frames[0].pruned.reason}")
    notes, model = [*source.notes, *_notes_of(frames)], dict(senna.provenance)
    return Replay(source.title, source.description, setting.name, budget, through, frames, notes, model)


def _ask(answerer: Answerer, shot: Shot, watched: _Watched) -> tuple[AnswerRow, AnswerRow, SampleTrace | None]:
    watched.traces.clear()
    number = shot.question.question
    todo = {(number, setting.name) for setting in answerer.settings}
    rows = {row.setting: row for row in answerer.answer([shot.question], todo)}
    trace = watched.traces[-1][0] if watched.traces and len(watched.traces[-1]) else None
    return rows[UNPRUNED], rows[watched.name], trace


def _frame(
    senna: Senna,
    shot: Shot,
    unpruned: AnswerRow,
    pruned: AnswerRow,
    trace: SampleTrace | None,
    seen: dict[str, Tensor],
    through: Through,
) -> Frame:
    if pruned.answer is None or trace is None or "projected" not in seen:
        return Frame(shot, unpruned, pruned, ())
    sizes = tuple(_size(image) for image in shot.question.images)
    grid = senna.processor.image_processor.image_size // senna.processor.image_processor.patch_size
    mask = torch.from_numpy(np.stack([content_patches(*size, grid).ravel() for size in sizes]))  # (V, P)
    features = seen["features"] if through == "projector" else None
    attribution = token_attribution(senna.model, seen["projected"], features, mask)
    return Frame(shot, unpruned, pruned, sizes, trace, sight_of(trace, attribution))


def sight_of(trace: SampleTrace, attribution: Tensor) -> Sight:
    """Survivors and their attribution (V, T, P), with layers that share a set of tokens sharing its numbers."""
    kept = survivors(trace.kept, trace.view_sizes)  # (L, V, T)
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
    other = sum(
        (frame.shot.before, frame.shot.after) != (frame.unpruned.answer, frame.pruned.answer) for frame in stored
    )
    if other:
        notes.append(f"{other} of {len(stored)} answers differ from those the run stored: another model or machine")
    for frame in frames:
        notes += [note for note in (frame.trace.notes if frame.trace else []) if note not in notes]
    return notes
