"""Ask a model of any family only to look (one prefill a question and setting), and follow each object's tokens through the layers.

No label is read and no answer is needed. What flipped comes from a run of ``eval`` or ``sweep`` over the same question file, if one
is given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from senna_autoprune.adapters.model import Prepared, Seen
from senna_autoprune.adapters.views import Asked, Picture
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.answerer import asked_of
from senna_autoprune.evaluation.answering.models import driving_model
from senna_autoprune.evaluation.answering.questions import samples_of
from senna_autoprune.evaluation.answering.settings import Setting, question_seed
from senna_autoprune.evaluation.runs.rows import QuestionRow
from senna_autoprune.nuscenes.strings import channel, view_names, view_order
from senna_autoprune.replay.attribution import token_attribution
from senna_autoprune.replay.heat import image_crop
from senna_autoprune.replay.token_boxes import token_boxes
from senna_autoprune.senna.images import content_patches
from senna_autoprune.survival.evidence import Evidence, token_weights
from senna_autoprune.survival.measure import ObjectSurvival, survival_of
from senna_autoprune.survival.sources import EvidenceOf

if TYPE_CHECKING:
    from senna_autoprune.adapters.model import DrivingModel
    from senna_autoprune.senna import Senna

OnQuestion = Callable[[int, int], None]  # questions done, in all


@dataclass
class Survived:
    """Rows of all objects, and what was left out: samples without evidence, objects without a token, settings that cannot work (why)."""

    rows: list[ObjectSurvival] = field(default_factory=list)
    samples: int = 0
    without_evidence: int = 0
    unseen_objects: int = 0
    impossible: dict[str, str] = field(default_factory=dict)


def patch_boxes(width: int, height: int, grid: int) -> np.ndarray:
    """(P, 4) where each patch of the padded square is in a ``width`` x ``height`` image, as shares of it; beyond 0..1 lies padding."""
    crop = image_crop(width, height, grid)
    row, column = (part.ravel() for part in np.mgrid[:grid, :grid])
    left, top = (column - crop.left) / crop.width, (row - crop.top) / crop.height
    return np.stack([left, top, left + 1 / crop.width, top + 1 / crop.height], axis=1)


def follow(
    model: DrivingModel | Senna,
    questions: Sequence[QuestionRow],
    root: Path,
    settings: Sequence[Setting],
    evidence_of: EvidenceOf,
    seed: int = 0,
    prompt_template: str = "eval",
    flipped: Mapping[str, Mapping[int, bool]] | None = None,
    on_question: OnQuestion | None = None,
) -> Survived:
    """Survival of every object of every question under every setting.

    Args:
        settings: pruning ones; their names are the rows'.
        flipped: setting -> question -> whether its answer changed, where a run tells.
    Raises:
        SennaPruneError: an image cannot be read, no sample has evidence, or of the family it is not known where a token is.
    """
    driving = driving_model(model, prompt_template)
    found, done = Survived(), 0
    alike = driving.adapter.views.cameras is None  # all questions of a sample show the same pictures
    for sample in samples_of(questions):
        objects = list(evidence_of(sample[0].token))
        found.samples += 1
        if not objects:
            found.without_evidence += 1
            done += len(sample)
            continue
        looked: _Looked | None = None
        for question in sample:
            asked = asked_of(question, root)
            if looked is None or not alike:
                looked = _look(driving, asked, objects, needs_of(settings))
            prepared = driving.prepare(asked, looked.seen)
            for setting in settings:
                if setting.name not in found.impossible:
                    _one(driving, question, prepared, setting, looked, objects, seed, flipped or {}, found)
            done += 1
            if on_question is not None:
                on_question(done, len(questions))
    if found.without_evidence == found.samples:
        raise SennaPruneError(f"not one of {found.samples} samples has an object: is the evidence (or --dataroot) of these samples?")
    return found


@dataclass(frozen=True)
class _Looked:
    """A sample's pictures, what each shows ("": nothing that the evidence is about), and (n, V) how much of each token shows each
    object; sizes: tokens of each picture.
    """

    seen: Seen
    views: tuple[str, ...]
    weights: np.ndarray
    sizes: tuple[int, ...]


def needs_of(settings: Sequence[Setting]) -> frozenset[str]:
    """What the settings' policies need of the vision tower."""
    return frozenset().union(*(policy.needs for setting in settings if (policy := setting.policy(0)) is not None))


@torch.inference_mode()
def _look(driving: DrivingModel, asked: Asked, objects: Sequence[Evidence], needs: frozenset[str]) -> _Looked:
    """The pictures seen, and where their tokens are: patches mixed by Senna's adapter, or known places of all other families."""
    from senna_autoprune.replay.frames import seen_patches

    model: Any = driving.model
    with seen_patches(model) as patches:
        seen = driving.see(asked, needs)
    images = [str(picture.source) for picture in seen.pictures]
    sizes = [_size(image) for image in images]
    views = _views(seen.pictures)
    if not hasattr(model, "img_adapter"):
        boxes = token_boxes(model, driving.processor.image_processor, sizes)
        return _Looked(seen, views, np.stack([token_weights(one, views, boxes) for one in objects]), tuple(map(len, boxes)))
    processor: Any = driving.processor.image_processor
    grid = processor.image_size // processor.patch_size
    content = torch.from_numpy(np.stack([content_patches(*size, grid).ravel() for size in sizes]))
    mixing = token_attribution(model, patches["projected"], patches["features"], content).numpy()  # (V, T, P)
    boxes = [patch_boxes(*size, grid) for size in sizes]
    weights = np.stack([token_weights(one, views, boxes, list(mixing)) for one in objects])
    return _Looked(seen, views, weights, (mixing.shape[1],) * len(images))


def _views(pictures: Sequence[Picture]) -> tuple[str, ...]:
    """What each picture shows. An earlier one shows no evidence: the boxes are the keyframe's."""
    names = {channel(view): view for view in view_names()}
    cameras = [names.get(picture.camera or "") for picture in pictures]
    if None not in cameras:
        return tuple(str(camera) if picture.frame == 0 else "" for camera, picture in zip(cameras, pictures, strict=True))
    return shown_views([str(picture.source) for picture in pictures])


def shown_views(images: Sequence[str]) -> tuple[str, ...]:
    """What each image shows: by the channel in its path, else by the prompt's order of six."""
    channels = {channel(view): view for view in view_names()}
    named = [next((channels[part] for part in reversed(Path(image).parts) if part in channels), "") for image in images]
    if all(named) and len(set(named)) == len(named):
        return tuple(named)
    if len(images) != len(view_names()):
        raise SennaPruneError(f"{len(images)} images whose paths name no camera: evidence needs to know what each shows")
    return view_order("fixed")


def _one(
    driving: DrivingModel,
    question: QuestionRow,
    prepared: Prepared,
    setting: Setting,
    looked: _Looked,
    objects: Sequence[Evidence],
    seed: int,
    flipped: Mapping[str, Mapping[int, bool]],
    found: Survived,
) -> None:
    mine = question_seed(seed, question.question)
    policy = setting.policy(mine)
    assert policy is not None
    try:
        with torch.inference_mode(), policy(driving.model, seeds=[mine]) as trace:
            driving.generate([prepared], 1)
    except SennaPruneError as error:
        found.impossible[setting.name] = str(error)
        found.rows = [row for row in found.rows if row.setting != setting.name]
        return
    if trace[0].visual_tokens != looked.weights.shape[1]:
        raise SennaPruneError(
            f"{prepared.asked.where}: {looked.weights.shape[1]} places were found for {trace[0].visual_tokens} visual tokens: this "
            "processor crops in another way"
        )
    survival, chance = survival_of(looked.weights, [ids.numpy() for ids in trace[0].kept])
    per_view = np.split(looked.weights, np.cumsum(looked.sizes)[:-1], axis=1)
    largest = np.stack([part.sum(1) for part in per_view], 1).argmax(1)
    for index, one in enumerate(objects):
        if np.isnan(survival[index, 0]):
            found.unseen_objects += 1
            continue
        changed = flipped.get(setting.name, {}).get(question.question)
        place = (question.question, question.scene, one.name, one.band, looked.views[largest[index]])
        found.rows.append(ObjectSurvival(setting.name, *place, survival[index], chance, changed, one.decides_plan))


def _size(image: str) -> tuple[int, int]:
    with Image.open(image) as opened:
        return opened.size
