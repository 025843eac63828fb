"""Question files -> the questions of a run: which, from which scene, under which conditions, with which images.

Scene facts come from the record itself (its ``senna_prune`` object) or from the sidecar's table of scenes. Where the
scene is not known,
every sample is a scene of its own, and the run says so: the bootstrap then resamples samples.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from sys import intern
from typing import Any

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.drawn import Asked, drawn
from senna_autoprune.evaluation.answering.truths import asks_for_facts, facts_of, with_truths
from senna_autoprune.evaluation.config import AskConfig
from senna_autoprune.evaluation.measures.breakdown import attributes_of
from senna_autoprune.evaluation.measures.weighted import WEIGHT
from senna_autoprune.evaluation.runs.bulk import uncollected
from senna_autoprune.evaluation.runs.identity import CONFIG, CONFIG_BYTES
from senna_autoprune.evaluation.runs.rows import QuestionRow
from senna_autoprune.files.regular import require_own
from senna_autoprune.files.yaml_files import read_yaml
from senna_autoprune.nuscenes.questions_file import Question, iter_questions, read_sidecar
from senna_autoprune.nuscenes.scene_facts import scene_facts

DRAWN = "drawn"  # key of a run's config: its questions were drawn (``drawn.py``), not the first of the file


@uncollected()
def load_questions(config: AskConfig, directory: Path | None = None) -> tuple[list[QuestionRow], Path]:
    """The questions a configuration asks for, in file order, and the folder that their image paths are relative to.

    Args:
        directory: of the run, which may have been begun by an older version (``asks_the_first``).

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
    held: set[str] = set()
    rows: list[QuestionRow] = []
    states_facts: bool | None = None
    shown: dict[Any, Any] = {}  # images and conditions: of a sample's questions they are the same
    for number, record in _wanted(path, config, directory, held):  # no record is kept: 200,000 of them fill a gigabyte
        if states_facts is None:
            states_facts = asks_for_facts(config)
        row = _row(number, record, sidecar, shown)
        rows.append(replace(row, facts=facts_of(record)) if states_facts else row)
    _require_different(path, rows)
    if not rows:
        there = ", ".join(sorted(held)) or "nothing"
        raise SennaPruneError(f"{path} has no question of type {', '.join(config.types)} (it has {there}); see --types")
    root = Path(config.images or sidecar.get("dataroot") or path.parent)
    _require_some_images(rows, root)
    return with_truths(rows, config, root), root


def _wanted(path: Path, config: AskConfig, directory: Path | None, held: set[str]) -> Iterator[Asked]:
    """The questions asked for in file order; ``held`` gets the types met on the way."""
    limited = config.limit is not None or config.limit_scenes is not None
    if limited and not asks_the_first(config, directory):
        found, met = drawn(path, config.types, config.limit, config.limit_scenes, config.seed)
        held |= met
        yield from found
        return
    count = 0
    for number, question in enumerate(iter_questions(path)):
        kind = question.type
        held.add(kind)
        if kind in config.types:
            yield number, question
            count += 1
            if count == config.limit:
                break


def _require_different(path: Path, rows: Sequence[QuestionRow]) -> None:
    first: dict[tuple[str, str], int] = {}
    for row in rows:
        number = row.question
        before = first.setdefault((row.token, row.text), number)
        if before != number:
            raise SennaPruneError(f"{path}: record {number} asks the same as record {before} and would count twice: remove one of them")


def asks_the_first(config: AskConfig, directory: Path | None) -> bool:
    """Whether a run was begun when ``--limit N`` asked the first N questions of a file: it goes on with those."""
    place = None if directory is None or config.limit is None or config.limit_scenes is not None else directory / CONFIG
    if place is None or not place.is_file():
        return False
    require_own(place)
    begun = read_yaml(place, CONFIG_BYTES).get("config")
    return isinstance(begun, dict) and begun.get("limit") is not None and DRAWN not in begun


def _row(index: int, record: Question, sidecar: dict[str, Any], shown: dict[Any, Any]) -> QuestionRow:
    """shown: values that were met before, which rows then share."""
    scene = record.scene
    facts = scene_facts(record, sidecar)
    images = tuple(record.images)
    attributes = (
        attributes_of(record.text, facts.get("description"), facts.get("location")) | _complexity(record, sidecar) | _weight(record, index)
    )
    return QuestionRow(
        question=index,
        token=record.token,
        type=record.type,
        text=intern(record.text),  # few texts, each of many questions
        label=intern(record.answer),
        images=shown.setdefault(images, images),
        scene=intern(scene) if scene else record.token,
        scene_known=scene is not None,
        attributes=shown.setdefault(tuple(attributes.items()), attributes),
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
