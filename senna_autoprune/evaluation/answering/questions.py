"""Question files -> the questions of a run: which, from which scene, under which conditions, with which images.

Scene facts come from the record itself (its ``senna_prune`` object) or from the sidecar's table of scenes. Where the
scene is not known,
every sample is a scene of its own, and the run says so: the bootstrap then resamples samples.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from math import isfinite
from pathlib import Path
from typing import Any

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.truths import with_truths
from senna_autoprune.evaluation.config import AskConfig
from senna_autoprune.evaluation.measures.breakdown import attributes_of
from senna_autoprune.evaluation.measures.weighted import WEIGHT
from senna_autoprune.evaluation.runs.rows import QuestionRow
from senna_autoprune.nuscenes.questions_file import Question, iter_questions, read_sidecar
from senna_autoprune.nuscenes.scene_facts import scene_facts


def load_questions(config: AskConfig) -> tuple[list[QuestionRow], Path]:
    """The questions a configuration asks for, in file order, and the folder that their image paths are relative to.

    The folder is ``config.images``, else the sidecar's ``dataroot``, else the question file's own folder.

    Raises:
        SennaPruneError: the file is unreadable or broken, asks the same twice, holds no question of the wanted types, or no sample has all
        its images.
    """
    assert config.questions is not None
    path = Path(config.questions)
    if path.is_dir():
        raise SennaPruneError(f"{path} is a folder: name a question file, made by `senna-prune questions build`")
    sidecar = read_sidecar(path)
    wanted, held = _wanted(path, config, sidecar)
    if not wanted:
        there = ", ".join(sorted(held)) or "nothing"
        raise SennaPruneError(f"{path} has no question of type {', '.join(config.types)} (it has {there}); see --types")
    rows, records = [row for row, _ in wanted], [record for _, record in wanted]
    root = Path(config.images or sidecar.get("dataroot") or path.parent)
    _require_some_images(rows, root)
    return with_truths(rows, records, config, root), root


_Asked = tuple[QuestionRow, Question]


def _wanted(path: Path, config: AskConfig, sidecar: dict[str, Any]) -> tuple[list[_Asked], set[str]]:
    """The questions asked for in file order, and the types met on the way. Reading stops where nothing more is needed, and no more is
    kept than may still be asked.
    """
    held: set[str] = set()
    asked: dict[tuple[str, str], int] = {}
    scenes: dict[str, list[_Asked]] = {}  # in order of appearance; with --limit-scenes those of the lowest ranks so far
    ranks: dict[str, bytes] = {}
    count = 0
    for index, record in enumerate(iter_questions(path)):
        held.add(record.type)
        if record.type not in config.types:
            continue
        first = asked.setdefault((record.token, record.text), index)
        if first != index:
            raise SennaPruneError(f"{path}: record {index} asks the same as record {first} and would count twice: remove one of them")
        scene = record.scene or record.token
        if config.limit_scenes is not None:
            ranks.setdefault(scene, hashlib.sha256(f"{config.seed} {scene}".encode()).digest())
            if scene not in scenes and len(scenes) == config.limit_scenes:
                last = max(scenes, key=ranks.__getitem__)
                if ranks[last] < ranks[scene]:
                    continue
                del scenes[last]
        scenes.setdefault(scene, []).append((_row(index, record, sidecar), record))
        count += 1
        if config.limit_scenes is None and count == config.limit:
            break
    return sorted(_spread(list(scenes.values()), config.limit), key=lambda pair: pair[0].question), held


def _spread(scenes: list[list[_Asked]], limit: int | None) -> list[_Asked]:
    """At most ``limit`` questions, one of each scene in turn."""
    turns = [pair for turn in zip_longest(*scenes) for pair in turn if pair is not None]
    return turns[:limit]


def _row(index: int, record: Question, sidecar: dict[str, Any]) -> QuestionRow:
    scene = record.scene
    facts = scene_facts(record, sidecar)
    return QuestionRow(
        question=index,
        token=record.token,
        type=record.type,
        text=record.text,
        label=record.answer,
        images=tuple(record.images),
        scene=scene or record.token,
        scene_known=scene is not None,
        attributes=attributes_of(record.text, facts.get("description"), facts.get("location"))
        | _complexity(record, sidecar)
        | _weight(record, index),
    )


def _complexity(record: Question, sidecar: dict[str, Any]) -> dict[str, str]:
    """The record's constructed complexity as an attribute, where the sidecar states one (``measures.complexity``)."""
    stated = sidecar.get("complexity")
    one = stated.get(record.id) if isinstance(stated, dict) else None
    value = one.get("complexity") if isinstance(one, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return {}
    return {"complexity": str(float(value))}


def _weight(record: Question, index: int) -> dict[str, str]:
    """The record's weight in its sample as an attribute (``measures.weighted``). SennaPruneError: it is no number above 0."""
    stated = record.get("senna_prune")
    value = stated.get(WEIGHT) if isinstance(stated, dict) else None
    if value is None:
        return {}
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value <= 0:
        raise SennaPruneError(f"record {index}: senna_prune.weight is {str(value)[:40]!r}, not a number above 0")
    return {WEIGHT: repr(float(value))}


def _require_some_images(rows: Sequence[QuestionRow], root: Path) -> None:
    for row in rows:
        if all(os.path.isfile(root / image) for image in row.images):
            return
    first = root / rows[0].images[0]
    raise SennaPruneError(
        f"not one of {len(samples_of(rows))} samples has all its images (the first missing is {first}); "
        "say where they are with --images DIR"
    )


def samples_of(rows: Iterable[QuestionRow]) -> list[list[QuestionRow]]:
    """Questions about the same sample and images together, in order of first appearance: they share vision features."""
    samples: dict[tuple[str, tuple[str, ...]], list[QuestionRow]] = {}
    for row in rows:
        samples.setdefault((row.token, row.images), []).append(row)
    return list(samples.values())
