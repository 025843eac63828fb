"""The driver of an evaluation: a configuration -> samples -> an engine's answers in a run directory -> measures.

Beside the database the answers end in ``answers.jsonl``: a line a (question, setting) in this order, without the times.
It is the same, byte for byte, whichever engine computed them, in whichever order, and however often it was interrupted
(given the same threads a worker: sums of floats depend on them in their last digits). ``metrics.json`` is the same but for
its times and what it says of the machine.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from senna_autoprune.config import ENGINE_KEYS, AskConfig, EvalConfig, to_dict
from senna_autoprune.evaluation.answerer import Setting, settings_of
from senna_autoprune.evaluation.engines import Asking, Engine, Facts, LocalEngine, Unit, Verdicts
from senna_autoprune.evaluation.questions import load_questions, samples_of
from senna_autoprune.evaluation.speed import Speed, SpeedMeter
from senna_autoprune.evaluation.store import AnswerRow, QuestionRow, RunStore
from senna_autoprune.evaluation.summary import summarise
from senna_autoprune.nuscenes.questions_file import file_sha256, read_sidecar

if TYPE_CHECKING:
    from senna_autoprune.senna import Senna

PLACES = ("model", "questions", "images", "vision_tower", "out")  # where things are; what they are is hashed
SUMMARY_ONLY = ("resamples",)  # may change between starts: the answers do not depend on it
SOURCE = ("format", "made", "data", "variant", "teacher")  # of the question file's sidecar
Samples = list[list[QuestionRow]]
OnRow = Callable[[AnswerRow, int, int], None]  # row, rows finished, rows in all


@dataclass
class RunResult:
    """``rows`` answers in all starts of this run, ``failed`` of them; ``speed`` of this start, None if it asked too little."""

    directory: Path
    metrics: dict[str, Any]
    rows: int
    failed: int
    speed: Speed | None


@dataclass
class Prepared:
    """What can be checked before a model is loaded: settings, questions, and the folder of their images."""

    settings: list[Setting]
    questions: list[QuestionRow]
    root: Path


def prepare(config: EvalConfig) -> Prepared:
    """SennaPruneError: a bad method, option, budget or question file, or no images where they should be."""
    settings = settings_of(config)
    questions, root = load_questions(config)
    return Prepared(settings, questions, root)


def run_directory(config: EvalConfig) -> Path:
    """``config.out``, or a name under ``runs/`` made of the method, the budget and a hash of everything that decides
    the answers: the same command finds its own directory again.
    """
    if config.out is not None:
        return Path(config.out)
    (budget, value), *_ = config.budget_arguments().items()
    deciding = {key: value for key, value in _given(config).items() if key not in ("out", *SUMMARY_ONLY)}
    for place in ("model", "questions", "images", "vision_tower"):
        path = deciding[place]
        deciding[place] = str(Path(path).resolve()) if path and Path(path).exists() else path
    digest = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:8]
    method = re.sub(r"[^A-Za-z0-9_-]", "_", config.method)
    return Path("runs") / f"{method}-{budget}-{value:g}-{digest}"


def _given(config: AskConfig) -> dict[str, Any]:
    """The configuration as plain data, without the engine: a run may be continued by another one. Batches of one go
    unsaid, as in runs made before there were batches.
    """
    return {key: value for key, value in to_dict(config).items() if key not in ENGINE_KEYS and (key, value) != ("batch_size", 1)}


def describe(config: AskConfig, facts: Facts, prepared: Prepared) -> dict[str, Any]:
    """What ``config.yaml`` holds. ``config`` and ``identity`` decide whether a run may be continued; the rest is for
    the reader.
    """
    assert config.questions is not None
    given = _given(config)
    sidecar = read_sidecar(config.questions)
    return {
        "config": {key: value for key, value in given.items() if key not in (*PLACES, *SUMMARY_ONLY)},
        "identity": {
            **facts.identity,
            "questions_sha256": file_sha256(config.questions),
            "versions": facts.versions,
        },
        "places": {**{key: given[key] for key in PLACES}, "images_root": str(prepared.root.resolve())},
        "settings": {
            s.name: {"method": s.method, "options": dict(s.options), "blind": s.blind} for s in prepared.settings
        },
        "model": facts.provenance,
        "questions": {key: sidecar[key] for key in SOURCE if key in sidecar},
        "machine": {**facts.machine, "engine": config.engine, "workers": config.workers or 1},
    }


def evaluate(
    config: EvalConfig,
    engine: Engine | Senna,
    prepared: Prepared | None = None,
    on_row: OnRow | None = None,
    retry_failed: bool = False,
) -> RunResult:
    """Ask every question under every setting, continuing what the run directory already holds, and measure.

    Args:
        config: with ``questions`` given.
        engine: of ``open_engine(config, ...)``; or a model, already loaded as the configuration says.
        prepared: of ``prepare(config)``; None: made here.
        on_row: called after every committed row.
        retry_failed: ask failed rows again.
    Raises:
        SennaPruneError: bad questions, settings or run directory; what was computed is kept.
    """
    engine = engine_of(engine)
    prepared = prepared or prepare(config)
    description = describe(config, engine.facts(), prepared)
    with RunStore.start(run_directory(config), description, prepared.questions) as store:
        if retry_failed:
            store.forget_failed()
        speed = answer_all(config, engine, prepared, store, on_row)
        rows = store.answers()
        metrics = summarise(prepared.questions, rows, config.method, config.seed, config.resamples)
        metrics["run"] = description
        store.write_answers(rows)
        store.write_metrics(metrics)
        return RunResult(store.directory, metrics, len(rows), sum(row.status == "failed" for row in rows), speed)


def engine_of(engine: Engine | Senna) -> Engine:
    """A loaded model as the engine that asks it in this process."""
    from senna_autoprune.senna import Senna

    return LocalEngine(engine) if isinstance(engine, Senna) else engine


def by_scene(samples: Samples, batch_size: int) -> list[Samples]:
    """Samples as work units: a scene each, in order of appearance; scenes too short for a batch go together."""
    scenes: dict[str, Samples] = {}
    for sample in samples:
        scenes.setdefault(sample[0].scene, []).append(sample)
    units: list[Samples] = []
    for scene in scenes.values():
        if units and len(units[-1]) < batch_size:
            units[-1] += scene
        else:
            units.append(scene)
    return units


def answer_all(
    config: AskConfig,
    engine: Engine,
    prepared: Prepared,
    store: RunStore,
    on_row: OnRow | None,
    unreachable: dict[str, str] | None = None,
    divide: Callable[[Samples, int], list[Samples]] = by_scene,
) -> Speed | None:
    """Ask what the store does not hold yet, every sample under all settings, committing every row.

    Args:
        unreachable: of ``Verdicts``. divide: puts the samples into work units, in the order in which they are asked;
            its second argument is the batch size.
    """
    everything = {(question.question, setting.name) for question in prepared.questions for setting in prepared.settings}
    finished = store.finished()
    done = len(everything & finished)
    units = []
    for samples in divide(samples_of(prepared.questions), config.batch_size):
        pairs = {(question.question, setting.name) for sample in samples for question in sample for setting in prepared.settings}
        if todo := pairs - finished:
            units.append(Unit(tuple(map(tuple, samples)), frozenset(todo)))
    asking = Asking(
        tuple(prepared.settings),
        prepared.root.resolve(),
        config.seed,
        config.prompt_template,
        config.max_new_tokens,
        config.batch_size,
    )
    meter = SpeedMeter(engine, len(prepared.settings))
    for row in engine.answer(asking, units, Verdicts(store.proven(), unreachable)):
        store.add(row)
        meter.row()
        done += 1
        if on_row is not None:
            on_row(row, done, len(everything))
    return meter.speed()
