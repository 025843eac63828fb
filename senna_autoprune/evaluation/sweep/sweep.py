"""A sweep: every method at every budget on the same questions, in one run directory that resumes and can be extended.

A cell of the table is a setting of the run; cells that share a setting (an ablation's default and the method itself)
share its answers. Samples go one after the other through *all* cells, scenes taking turns, so that a sweep stopped at
any point has asked every cell the same questions, spread over the scenes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

from senna_autoprune.adapters.reading import Reading
from senna_autoprune.evaluation.answering.driver import OnRow, Prepared, Samples, answer_all, engine_of
from senna_autoprune.evaluation.answering.engine import Asking, Engine
from senna_autoprune.evaluation.answering.questions import DRAWN, load_questions, samples_of
from senna_autoprune.evaluation.answering.settings import Setting
from senna_autoprune.evaluation.answering.speed import Speed
from senna_autoprune.evaluation.config import ALL_TYPES, ENGINE_KEYS, QUESTION_TYPES, AskConfig
from senna_autoprune.evaluation.evaluate import describe
from senna_autoprune.evaluation.measures.summary import summarise
from senna_autoprune.evaluation.runs.rows import NO_IMAGE, UNPRUNED, UNREACHABLE, AnswerRow, QuestionRow
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.evaluation.sweep.by_complexity import by_complexity
from senna_autoprune.evaluation.sweep.by_type import by_type
from senna_autoprune.evaluation.sweep.cells import Cell, cells_of, needs_calibration
from senna_autoprune.evaluation.sweep.config import SUBJECTS, SweepConfig, specs
from senna_autoprune.evaluation.sweep.table import tabulate
from senna_autoprune.files.yaml_files import to_dict

if TYPE_CHECKING:
    from senna_autoprune.adapters.model import DrivingModel
    from senna_autoprune.senna import Senna

PLAIN = (Setting(UNPRUNED), Setting(NO_IMAGE, blind=True))
_ASK = {field.name for field in fields(AskConfig)}


@dataclass
class SweepResult:
    """``table`` as ``sweep_table.tabulate`` makes it; ``answers`` for the figures; ``failed`` rows but not n/a ones;
    ``speed`` of this start, None if it asked too little; ``cells`` as they were asked.
    """

    directory: Path
    table: dict[str, Any]
    answers: list[AnswerRow]
    questions: list[QuestionRow]
    rows: int
    failed: int
    speed: Speed | None
    cells: Sequence[Cell]


def check(config: SweepConfig) -> tuple[list[QuestionRow], Path]:
    """What can be checked before a model is loaded. Returns the questions and the folder of their images.

    Raises:
        SennaPruneError: a bad method option, question file, or no images where they should be.
    """
    cells_of(config, None)
    return load_questions(config, directory_of(config))


def settings_of(config: SweepConfig, cells: Sequence[Cell] | None = None) -> list[Setting]:
    """Unpruned, no-image and what the cells ask, each once. ``cells``: None: as far as they are known before calibration."""
    asked = cells_of(config, None) if cells is None else cells
    return list({setting.name: setting for setting in [*PLAIN, *(cell.setting for cell in asked)]}.values())


def directory_of(config: SweepConfig) -> Path:
    """``config.out``, or a name under ``runs/`` made of a hash of model, questions and how they are asked."""
    if config.out is not None:
        return Path(config.out)
    deciding = {key: value for key, value in to_dict(config).items() if key in _ASK - {"out", "resamples", *ENGINE_KEYS}}
    for place in ("adapter", "tables", "limit_scenes"):
        if deciding[place] is None:  # as in sweeps made before there were any
            del deciding[place]
    if config.types == ALL_TYPES:
        deciding["types"] = list(QUESTION_TYPES)
    digest = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:8]
    return Path("runs") / f"sweep-{digest}"


def in_turns(samples: Samples) -> Samples:
    """Samples in an order in which scenes take turns: the first of each scene, then the second of each, ..."""
    scenes: dict[str, Samples] = {}
    for sample in samples:
        scenes.setdefault(sample[0].scene, []).append(sample)
    return [sample for turn in zip_longest(*scenes.values()) for sample in turn if sample is not None]


def in_turn_units(samples: Samples, batch_size: int) -> list[Samples]:
    """Samples as work units: as many as fill a batch, in ``in_turns`` order, so that the order holds for any number of
    workers.
    """
    ordered = in_turns(samples)
    return [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]


def sweep(
    config: SweepConfig,
    engine: Engine | DrivingModel | Senna,
    on_row: OnRow | None = None,
    retry_failed: bool = False,
    force: bool = False,
) -> SweepResult:
    """Ask every question in every cell, continuing what the run directory holds, and tabulate.

    The directory may hold cells of earlier sweeps over the same model and questions: they are used or left alone, never
    computed again. A cell whose method cannot reach its budget becomes "n/a" with the reason.

    Args:
        engine: of ``open_engine(config, ...)``; or a model, already loaded as the configuration says.
    Raises:
        SennaPruneError: bad questions, settings or run directory; what was computed is kept.
    """
    engine = engine_of(engine)
    questions, root = check(config)
    facts = engine.facts()
    description = describe(config, facts, Prepared(questions, Asking.of(config, PLAIN, root)), directory_of(config))
    swept = {key: value for key, value in to_dict(config).items() if key not in _ASK}
    description["config"] = {key: value for key, value in description["config"].items() if key in (*_ASK, DRAWN)}
    with RunStore.start(directory_of(config), description, questions) as store:
        before = store.config
        calibration = before.get("calibration")
        known = calibration is not None and calibration.get("asked") == config.calibration
        if not known and any(needs_calibration(row) for row in specs(config)):
            chosen = [sample[0] for sample in in_turns(_samples(questions, subject_of(config, questions)))][: config.calibration]
            calibration = {"asked": config.calibration, **engine.calibrate(chosen, root.resolve(), config.prompt_template)}
        cells = cells_of(config, calibration)
        settings = settings_of(config, cells)
        prepared = Prepared(questions, Asking.of(config, settings, root))
        description["settings"] = {**before.get("settings", {}), **describe(config, facts, prepared, directory_of(config))["settings"]}
        store.describe({**description, "sweep": swept, **({"calibration": calibration} if calibration else {})})
        if retry_failed:
            store.forget_failed()
        unreachable = {row.setting: row.reason or "" for row in store.answers() if row.status == UNREACHABLE}
        reading = Reading.of(description.get("adapter"))
        speed = answer_all(engine, prepared, store, on_row, unreachable, in_turn_units, force, reading)
        names = {setting.name for setting in settings}
        answers = store.measured()
        store.write_answers()
        rows = [row for row in answers if row.setting in names]
        return _finish(config, store, cells, questions, rows, calibration, speed)


def subject_of(config: SweepConfig, questions: Sequence[QuestionRow]) -> str:
    """The question type that the table is about."""
    asked = {question.type for question in questions}
    wanted = [kind for kind in SUBJECTS if kind in config.types]
    return next((kind for kind in wanted if kind in asked), wanted[0])


def _samples(questions: Sequence[QuestionRow], subject: str) -> Samples:
    return samples_of([question for question in questions if question.type == subject])


def _finish(
    config: SweepConfig,
    store: RunStore,
    cells: Sequence[Cell],
    questions: list[QuestionRow],
    rows: list[AnswerRow],
    calibration: dict[str, Any] | None,
    speed: Speed | None,
) -> SweepResult:
    impossible = {row.setting: row.reason or "" for row in rows if row.status == UNREACHABLE}
    possible = [row for row in rows if row.setting not in impossible]  # a broken sample's failed rows are of all settings
    described = store.config
    reading = Reading.of(described.get("adapter"))
    metrics = summarise(questions, possible, "", config.seed, config.resamples, reading)
    metrics["run"] = described
    store.write_metrics(metrics)
    table = tabulate(cells, config.budgets, questions, possible, metrics, impossible, subject_of(config, questions), reading)
    if calibration is not None:
        table["calibration"] = calibration
    if (kinds := by_type(cells, questions, possible, config.resamples, config.seed, reading)) is not None:
        table["by_type"] = kinds
    if (found := by_complexity(cells, questions, possible, config.resamples, config.seed, reading)) is not None:
        table["complexity"] = found
    failed = sum(row.status == "failed" for row in possible)
    return SweepResult(store.directory, table, possible, questions, len(rows), failed, speed, cells)
