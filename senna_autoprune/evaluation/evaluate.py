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
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from senna_autoprune.adapters.reading import Reading
from senna_autoprune.evaluation.answering.driver import OnRow, Prepared, answer_all, engine_of
from senna_autoprune.evaluation.answering.engine import Asking, Engine, ModelFacts
from senna_autoprune.evaluation.answering.questions import DRAWN, asks_the_first, load_questions
from senna_autoprune.evaluation.answering.settings import Setting
from senna_autoprune.evaluation.answering.speed import Speed
from senna_autoprune.evaluation.answering.truths import truths_identity
from senna_autoprune.evaluation.config import ALL_TYPES, ENGINE_KEYS, QUESTION_TYPES, AskConfig, EvalConfig
from senna_autoprune.evaluation.measures.summary import summarise
from senna_autoprune.evaluation.runs.bulk import uncollected
from senna_autoprune.evaluation.runs.rows import NO_IMAGE, PRUNING_CONTROLS, UNPRUNED
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.files.yaml_files import to_dict
from senna_autoprune.nuscenes.questions_file import file_sha256, read_sidecar

if TYPE_CHECKING:
    from senna_autoprune.adapters.model import DrivingModel
    from senna_autoprune.senna import Senna


PLACES = ("model", "questions", "images", "vision_tower", "out", "adapter", "tables")  # where things are; what they are is hashed
SUMMARY_ONLY = ("resamples",)  # may change between starts: the answers do not depend on it
SOURCE = ("format", "made", "data", "variant", "teacher")  # of the question file's sidecar


@dataclass
class RunResult:
    """``rows`` answers in all starts of this run, ``failed`` of them; ``speed`` of this start, None if it asked too little."""

    directory: Path
    metrics: dict[str, Any]
    rows: int
    failed: int
    speed: Speed | None


def prepare(config: EvalConfig) -> Prepared:
    """SennaPruneError: a bad method, option, budget or question file, or no images where they should be."""
    settings = settings_of(config)
    questions, root = load_questions(config, run_directory(config))
    return Prepared(questions, Asking.of(config, settings, root))


def run_directory(config: EvalConfig) -> Path:
    """``config.out``, or a name under ``runs/`` made of the method, the budget and a hash of everything that decides
    the answers: the same command finds its own directory again.
    """
    if config.out is not None:
        return Path(config.out)
    (budget, value), *_ = config.budget_arguments().items()
    deciding = {key: value for key, value in _given(config).items() if key not in ("out", *SUMMARY_ONLY)}
    for place in (key for key in PLACES if key in deciding):
        path = deciding[place]
        deciding[place] = str(Path(path).resolve()) if path and Path(path).exists() else path
    digest = hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:8]
    method = re.sub(r"[^A-Za-z0-9_-]", "_", config.method)
    return Path("runs") / f"{method}-{budget}-{value:g}-{digest}"


def _given(config: AskConfig) -> dict[str, Any]:
    """The configuration as plain data, without the engine: a run may be continued by another one. Batches of one and places
    that are not given go unsaid, and all types are the six of Senna, as in runs made before there was more.
    """
    unsaid = (("batch_size", 1), ("adapter", None), ("tables", None), ("limit_scenes", None))
    given = {key: value for key, value in to_dict(config).items() if key not in ENGINE_KEYS and (key, value) not in unsaid}
    return {**given, "types": list(QUESTION_TYPES)} if config.types == ALL_TYPES else given


def describe(config: AskConfig, facts: ModelFacts, prepared: Prepared, directory: Path) -> dict[str, Any]:
    """What ``config.yaml`` of the run in ``directory`` holds. ``config`` and ``identity`` decide whether a run may be continued; the
    rest is for the reader.
    """
    assert config.questions is not None
    given = _given(config)
    asked = {question.type for question in prepared.questions}
    given["types"] = [kind for kind in config.types if kind in QUESTION_TYPES or kind in asked]
    if config.limit is not None and config.limit_scenes is None and not asks_the_first(config, directory):
        given[DRAWN] = "by seed, over all scenes"
    sidecar = read_sidecar(config.questions)
    return {
        "config": {key: value for key, value in given.items() if key not in (*PLACES, *SUMMARY_ONLY)},
        "identity": {
            **facts.identity,
            "questions_sha256": file_sha256(config.questions),
            **truths_identity(prepared.questions),
            "versions": facts.versions,
        },
        "places": {**{key: given[key] for key in PLACES if key in given}, "images_root": str(prepared.asking.root)},
        "settings": {s.name: {"method": s.method, "options": dict(s.options), "blind": s.blind} for s in prepared.asking.settings},
        "model": facts.provenance,
        **({"files": facts.files} if facts.files is not None else {}),
        **({"adapter": facts.adapter} if facts.adapter is not None else {}),
        "questions": {key: sidecar[key] for key in SOURCE if key in sidecar},
        "machine": {**facts.machine, "engine": config.engine, "workers": config.workers or 1},
    }


def evaluate(
    config: EvalConfig,
    engine: Engine | DrivingModel | Senna,
    prepared: Prepared | None = None,
    on_row: OnRow | None = None,
    retry_failed: bool = False,
    force: bool = False,
) -> RunResult:
    """Ask every question under every setting, continuing what the run directory already holds, and measure.

    Args:
        config: with ``questions`` given.
        engine: of ``open_engine(config, ...)``; or a model, already loaded as the configuration says.
        prepared: of ``prepare(config)``; None: made here.
        on_row: called after every committed row.
        retry_failed: ask failed rows again. force: go on although the first ten unpruned plans cannot be read.
    Raises:
        SennaPruneError: bad questions, settings or run directory; what was computed is kept.
    """
    engine = engine_of(engine)
    prepared = prepared or prepare(config)
    directory = run_directory(config)
    description = describe(config, engine.facts(), prepared, directory)
    with RunStore.start(directory, description, prepared.questions) as store:
        if retry_failed:
            store.forget_failed()
        reading = Reading.of(description.get("adapter"))
        speed = answer_all(engine, prepared, store, on_row, force=force, reading=reading)
        with uncollected():
            rows = store.measured()
            metrics = summarise(prepared.questions, rows, config.method, config.seed, config.resamples, reading)
            metrics["run"] = description
            store.write_answers()
            store.write_metrics(metrics)
        return RunResult(store.directory, metrics, len(rows), sum(row.status == "failed" for row in rows), speed)


def settings_of(config: EvalConfig) -> list[Setting]:
    """Unpruned, the method, and with ``config.controls`` random, uniform and no-image. Each policy is built once, to
    fail early.

    Raises:
        SennaPruneError: the method, one of its options or the budget is not possible.
    """
    budget = config.budget_arguments()
    settings = [Setting(UNPRUNED), Setting(config.method, config.method, {**budget, **config.method_arguments()})]
    if config.controls:
        settings += [Setting(name, name, budget) for name in PRUNING_CONTROLS if name != config.method]
        settings.append(Setting(NO_IMAGE, blind=True))
    for setting in settings:
        setting.policy(config.seed)
    return settings
