"""One question, now: asked unpruned and pruned on any family, with what pruning did to it layer by layer.

The pictures are named one by one, or are those of a keyframe in the tables; with neither, of the embedded scene.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from senna_autoprune.adapters.model import DrivingModel, Prepared, until_end
from senna_autoprune.adapters.schema import Adapter
from senna_autoprune.adapters.views import Asked, own_pictures
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.faults import answer_fault
from senna_autoprune.evaluation.answering.lengths import longest_answer
from senna_autoprune.evaluation.answering.settings import Setting
from senna_autoprune.evaluation.answering.stopwatch import SaneLogits, Stopwatch
from senna_autoprune.evaluation.answering.truths import said_facts
from senna_autoprune.evaluation.runs.rows import QuestionRow
from senna_autoprune.formats.pairs import Pair, Unusable, kind_of, shown
from senna_autoprune.pruning.trace import PromptTrace
from senna_autoprune.replay.sources import Shot, Source, open_tables, scene_source, views_of, with_wanted


@dataclass(frozen=True)
class Said:
    """An answer. ``reason``: what is wrong with it, if anything. Times in ms; ``vision_ms`` of the pictures' features."""

    text: str
    reason: str | None
    new_tokens: int
    prefill_ms: float | None
    decode_ms: float | None
    vision_ms: float | None


@dataclass(frozen=True)
class Told:
    """Both answers to a question. ``views``: names of its pictures; ``trace``: of the pruned prefill."""

    prompt: str
    views: tuple[str, ...]
    unpruned: Said
    pruned: Said
    trace: PromptTrace
    missing_frames: int = 0

    @property
    def agrees(self) -> bool:
        """Whether both answers are the same words."""
        return self.unpruned.text == self.pruned.text


@dataclass(frozen=True)
class Chosen:
    """What is to be asked. ``source``: the same as a replay of one frame; ``said``: what was chosen in the user's place."""

    asked: Asked
    source: Source
    said: list[str] = field(default_factory=list)


def choose(
    images: Sequence[str] = (),
    question: str | None = None,
    scene: str | None = None,
    sample: str | None = None,
    dataroot: str | None = None,
    version: str | None = None,
    adapter: Adapter | None = None,
) -> Chosen:
    """The question with its pictures.

    Args:
        images: files, in the order in which the question shows them; six nuScenes cameras are put in Senna's order and named.
        question: the words; image marks in it stand for the images in order. None: the planning question, of a keyframe.
        scene: name or token. sample: a sample's token, or which of the scene's keyframes with images, from 0; None: the first.
        adapter: what it shows beside question and images is looked up in the tables; None: nothing is.
    Raises:
        SennaPruneError: both images and a scene, no question to go with images, no such scene or sample, marks that do not fit.
    """
    by_scene = scene is not None or sample is not None or dataroot is not None or version is not None
    if images and by_scene:
        raise SennaPruneError("give the pictures with --images or by --scene and --sample, not both")
    if images:
        if question is None or not question.strip():
            raise SennaPruneError('--question is missing: say what to ask about the images, like --question "Is the road free?"')
        row = _row(question, list(images), "images")
        return _chosen(Shot(row, views_of(row.images)), "images", [])
    shot, title, notes, said = _keyframe(scene, sample, dataroot, version, adapter)
    if question is not None:
        asked = _row(question, list(shot.question.images), shot.question.scene)
        row = replace(asked, token=shot.question.token, scene=shot.question.scene, scene_known=True)
        row = replace(
            row, facts={**said_facts(shot.question.text), **shot.question.facts, **said_facts(question)}, earlier=shot.question.earlier
        )
        return _chosen(replace(shot, question=row, views=views_of(row.images)), title, said, notes)
    return _chosen(shot, title, said, notes)


def ask(model: DrivingModel, asked: Asked, setting: Setting, seed: int = 0, max_new_tokens: int | None = None) -> Told:
    """Both answers; the first forward pass of a process pays for everyone, so one is made before anything is timed.

    Raises:
        SennaPruneError: broken pictures, a prompt that the adapter cannot write, a setting that this model cannot do.
    """
    policy = setting.policy(seed)
    if policy is None:
        raise SennaPruneError("name a pruning method: unpruned is asked anyway")
    seen = model.see(asked, policy.needs)
    prepared = model.prepare(asked, seen)
    longest = max_new_tokens or longest_answer(model, asked.type)
    with torch.inference_mode():
        model.generate([prepared], 1)
        unpruned, _ = _said(model, prepared, longest, None)
        pruned, trace = _said(model, prepared, longest, policy)
    if trace is None:
        raise SennaPruneError("the model made no prefill that could be pruned")
    names = [picture.camera or "" for picture in prepared.pictures]
    named = all(names) and len(set(names)) == len(names)
    times = [f" {picture.frame:g} s" if picture.frame else "" for picture in prepared.pictures]
    views = tuple(f"{name or f'view {number}'}{time}" for number, (name, time) in enumerate(zip(names, times, strict=True), 1))
    if not named and not any(times):
        views = tuple(f"view {number}" for number in range(1, len(names) + 1))
    return Told(prepared.text, views, unpruned, pruned, trace, prepared.missing_frames)


def _said(model: DrivingModel, prepared: Prepared, longest: int, policy: Any) -> tuple[Said, PromptTrace | None]:
    logits = SaneLogits()
    with ExitStack() as stack:
        watch = stack.enter_context(Stopwatch(model.model))
        trace = stack.enter_context(policy(model.model) if policy is not None else nullcontext())
        made = model.generate([prepared], longest, logits_processor=[logits])
    ids = until_end(made.ids[0], model.model.generation_config)
    text = model.answer(ids)
    reason = answer_fault(text, logits.sane_rows(1)[0], ids[ids >= model.vocabulary].tolist())
    vision_ms = made.vision_ms if made.vision_ms is not None else prepared.vision_ms
    said = Said(text, reason, len(ids), watch.prefill_ms, watch.decode_ms, vision_ms)
    return said, trace[0] if trace is not None and len(trace) else None


def _chosen(shot: Shot, title: str, said: list[str], notes: Sequence[str] = ()) -> Chosen:
    row = replace(shot.question, facts={**said_facts(shot.question.text), **shot.question.facts})
    asked = Asked(row.text, row.type, tuple(row.images), "the question", row.facts, row.earlier)
    own_pictures(asked)  # marks and images fit
    return Chosen(asked, Source(title, [replace(shot, question=row)], "", list(notes)), said)


def _row(question: str, images: list[str], scene: str) -> QuestionRow:
    try:
        text, placed = shown(Pair(question, None, images))
    except Unusable as error:
        raise SennaPruneError(f"--question: {error}: write one <image> for each of the {len(images)} images, or none") from error
    return QuestionRow(
        question=0,
        token=scene,
        type=kind_of(question.replace("<image>", ""), None),
        text=text,
        label="",
        images=tuple(placed),
        scene=scene,
        scene_known=False,
        attributes={},
    )


def _keyframe(
    scene: str | None, sample: str | None, dataroot: str | None, version: str | None, adapter: Adapter | None
) -> tuple[Shot, str, list[str], list[str]]:
    """A keyframe, its name, what must be known of it, and what was chosen in the user's place."""
    said: list[str] = []
    if dataroot is None:
        from senna_autoprune.demo import LABEL, embedded

        found = embedded()
        if found is None:
            raise SennaPruneError("no embedded scenes to stand in: give --images FILE ..., or --dataroot DIR with --scene NAME")
        dataroot = str(found.dataroot)
        said.append(f"using the embedded scenes (none given): {LABEL}")
    number = int(sample) if sample is not None and sample.isdecimal() and len(sample) <= 6 else None
    nusc = open_tables(dataroot, version)
    source = scene_source(nusc, scene if number is not None or sample is None else sample)
    if sample is not None and number is None and scene not in (None, source.title):
        raise SennaPruneError(f"sample {sample} is of {source.title}, not of {scene}")
    if number is not None and number >= len(source.shots):
        raise SennaPruneError(f"--sample {number}: {source.title} has keyframes 0 to {len(source.shots) - 1} with images")
    if scene is None and (sample is None or number is not None):
        said.append(f"scene {source.title} (--scene names another)")
    one = with_wanted(replace(source, shots=[source.shots[number or 0]]), adapter, nusc).shots[0]
    return one, f"{source.title}, sample {one.question.token}", source.notes, said
