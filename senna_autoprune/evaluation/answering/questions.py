"""Question files -> the questions of a run: which, from which scene, under which conditions, with which images.

Scene facts come from the record itself (its ``senna_prune`` object) or from the sidecar's table of scenes. Where the
scene is not known,
every sample is a scene of its own, and the run says so: the bootstrap then resamples samples.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.truths import with_truths
from senna_autoprune.evaluation.config import AskConfig
from senna_autoprune.evaluation.measures.breakdown import attributes_of
from senna_autoprune.evaluation.runs.rows import QuestionRow
from senna_autoprune.nuscenes.questions_file import Question, read_questions
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
    file = read_questions(path)
    rows: list[QuestionRow] = []
    records: list[Question] = []
    asked: dict[tuple[str, str], int] = {}
    for index, record in enumerate(file.records):
        if record.type in config.types:
            first = asked.setdefault((record.token, record.text), index)
            if first != index:
                raise SennaPruneError(f"{path}: record {index} asks the same as record {first} and would count twice: remove one of them")
            rows.append(_row(index, record, file.sidecar))
            records.append(record)
            if config.limit is not None and len(rows) == config.limit:
                break
    if not rows:
        held = ", ".join(sorted({record.type for record in file.records})) or "nothing"
        raise SennaPruneError(f"{path} has no question of type {', '.join(config.types)} (it has {held}); see --types")
    root = Path(config.images or file.sidecar.get("dataroot") or path.parent)
    _require_some_images(rows, root)
    return with_truths(rows, records, config, root), root


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
        attributes=attributes_of(record.text, facts.get("description"), facts.get("location")) | _complexity(record, sidecar),
    )


def _complexity(record: Question, sidecar: dict[str, Any]) -> dict[str, str]:
    """The record's constructed complexity as an attribute, where the sidecar states one (``measures.complexity``)."""
    stated = sidecar.get("complexity")
    one = stated.get(record.id) if isinstance(stated, dict) else None
    value = one.get("complexity") if isinstance(one, dict) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        return {}
    return {"complexity": str(float(value))}


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
