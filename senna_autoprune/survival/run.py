"""Ask a Senna model only to look (one prefill a question and setting), and follow each object's tokens through the layers.

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

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.questions import samples_of
from senna_autoprune.evaluation.answering.settings import Setting, question_seed
from senna_autoprune.evaluation.runs.rows import QuestionRow
from senna_autoprune.nuscenes.strings import channel, view_names, view_order
from senna_autoprune.replay.attribution import token_attribution
from senna_autoprune.replay.heat import image_crop
from senna_autoprune.senna.images import content_patches
from senna_autoprune.survival.evidence import Evidence, token_weights
from senna_autoprune.survival.measure import ObjectSurvival, survival_of

if TYPE_CHECKING:
    from senna_autoprune.senna import Senna

EvidenceOf = Callable[[str], Sequence[Evidence]]  # by sample token
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
    senna: Senna,
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
        SennaPruneError: an image cannot be read, or no sample has evidence.
    """
    found, done = Survived(), 0
    for sample in samples_of(questions):
        objects = list(evidence_of(sample[0].token))
        found.samples += 1
        if not objects:
            found.without_evidence += 1
            done += len(sample)
            continue
        features, weights = _look(senna, [str(root / image) for image in sample[0].images], objects, needs_of(settings))
        for question in sample:
            for setting in settings:
                if setting.name not in found.impossible:
                    _one(senna, question, setting, features, objects, weights, seed, prompt_template, flipped or {}, found)
            done += 1
            if on_question is not None:
                on_question(done, len(questions))
    if found.without_evidence == found.samples:
        raise SennaPruneError(f"not one of {found.samples} samples has an object: is the evidence (or --dataroot) of these samples?")
    return found


def needs_of(settings: Sequence[Setting]) -> frozenset[str]:
    """What the settings' policies need of the vision tower."""
    return frozenset().union(*(policy.needs for setting in settings if (policy := setting.policy(0)) is not None))


@torch.inference_mode()
def _look(senna: Senna, images: Sequence[str], objects: Sequence[Evidence], needs: frozenset[str]) -> tuple[Any, np.ndarray]:
    """Vision features of a sample, and (n, V) how much of each token shows each object."""
    from senna_autoprune.replay.frames import seen_patches

    model: Any = senna.model
    processor: Any = senna.processor.image_processor
    inputs = processor(list(images))
    pixels, masks = inputs["pixel_values"][None].to(model.device), inputs["patch_mask"][None].to(model.device)
    with seen_patches(model) as seen:
        features = model.get_image_features(pixels, cls_scores="cls_scores" in needs, patch_mask=masks)
    grid = processor.image_size // processor.patch_size
    sizes = [_size(image) for image in images]
    content = torch.from_numpy(np.stack([content_patches(*size, grid).ravel() for size in sizes]))
    mixing = token_attribution(model, seen["projected"], seen["features"], content).numpy()  # (V, T, P)
    boxes = [patch_boxes(*size, grid) for size in sizes]
    views = shown_views(images)
    return features, np.stack([token_weights(one, views, boxes, list(mixing)) for one in objects])


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
    senna: Senna,
    question: QuestionRow,
    setting: Setting,
    features: Any,
    objects: Sequence[Evidence],
    weights: np.ndarray,
    seed: int,
    prompt_template: str,
    flipped: Mapping[str, Mapping[int, bool]],
    found: Survived,
) -> None:
    mine = question_seed(seed, question.question)
    policy = setting.policy(mine)
    assert policy is not None
    model: Any = senna.model
    inputs = senna.processor(text=[question.text], prompt_template=prompt_template).to(model.device)
    try:
        with torch.inference_mode(), policy(model, seeds=[mine]) as trace:
            model.generate(**inputs, image_features=features, max_new_tokens=1, do_sample=False)
    except SennaPruneError as error:
        found.impossible[setting.name] = str(error)
        found.rows = [row for row in found.rows if row.setting != setting.name]
        return
    survival, chance = survival_of(weights, [ids.numpy() for ids in trace[0].kept])
    per_view = np.split(weights, np.cumsum(trace[0].view_sizes)[:-1], axis=1)
    largest = np.stack([part.sum(1) for part in per_view], 1).argmax(1)
    views = shown_views(question.images)
    for index, one in enumerate(objects):
        if np.isnan(survival[index, 0]):
            found.unseen_objects += 1
            continue
        changed = flipped.get(setting.name, {}).get(question.question)
        place = (question.question, question.scene, one.name, one.band, views[largest[index]])
        found.rows.append(ObjectSurvival(setting.name, *place, survival[index], chance, changed))


def _size(image: str) -> tuple[int, int]:
    with Image.open(image) as opened:
        return opened.size
