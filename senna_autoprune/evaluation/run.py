"""The local engine: a configuration -> samples -> questions -> answers in a run directory -> measures."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from senna_autoprune.config import AskConfig, EvalConfig, to_dict
from senna_autoprune.evaluation.answerer import Answerer, Setting, settings_of
from senna_autoprune.evaluation.provenance import machine, model_fingerprint, versions
from senna_autoprune.evaluation.questions import load_questions, samples_of
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
    """``rows`` answers in all starts of this run, ``failed`` of them."""

    directory: Path
    metrics: dict[str, Any]
    rows: int
    failed: int


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
    """The configuration as plain data. Batches of one go unsaid, as in runs made before there were batches."""
    return {key: value for key, value in to_dict(config).items() if (key, value) != ("batch_size", 1)}


def describe(config: AskConfig, senna: Senna, prepared: Prepared) -> dict[str, Any]:
    """What ``config.yaml`` holds. ``config`` and ``identity`` decide whether a run may be continued; the rest is for
    the reader.
    """
    assert config.questions is not None
    given = _given(config)
    sidecar = read_sidecar(config.questions)
    return {
        "config": {key: value for key, value in given.items() if key not in (*PLACES, *SUMMARY_ONLY)},
        "identity": {
            **model_fingerprint(senna),
            "questions_sha256": file_sha256(config.questions),
            "versions": versions(),
        },
        "places": {**{key: given[key] for key in PLACES}, "images_root": str(prepared.root.resolve())},
        "settings": {
            s.name: {"method": s.method, "options": dict(s.options), "blind": s.blind} for s in prepared.settings
        },
        "model": dict(senna.provenance),
        "questions": {key: sidecar[key] for key in SOURCE if key in sidecar},
        "machine": machine(config.device),
    }


def evaluate(
    config: EvalConfig,
    senna: Senna,
    prepared: Prepared | None = None,
    on_row: OnRow | None = None,
    retry_failed: bool = False,
) -> RunResult:
    """Ask every question under every setting, continuing what the run directory already holds, and measure.

    Args:
        config: with ``questions`` given.
        senna: the model, already loaded as the configuration says.
        prepared: of ``prepare(config)``; None: made here.
        on_row: called after every committed row.
        retry_failed: ask failed rows again.
    Raises:
        SennaPruneError: bad questions, settings or run directory; what was computed is kept.
    """
    prepared = prepared or prepare(config)
    description = describe(config, senna, prepared)
    with RunStore.start(run_directory(config), description, prepared.questions) as store:
        if retry_failed:
            store.forget_failed()
        answer_all(config, senna, prepared, store, on_row)
        rows = store.answers()
        metrics = summarise(prepared.questions, rows, config.method, config.seed, config.resamples)
        metrics["run"] = description
        store.write_metrics(metrics)
        return RunResult(store.directory, metrics, len(rows), sum(row.status == "failed" for row in rows))


def answer_all(
    config: AskConfig,
    senna: Senna,
    prepared: Prepared,
    store: RunStore,
    on_row: OnRow | None,
    unreachable: dict[str, str] | None = None,
    order: Callable[[Samples], Samples] = list,
) -> None:
    """Ask what the store does not hold yet, sample by sample under all settings, committing every row.

    Args:
        unreachable: of ``Answerer``. order: puts the samples in the order in which they are asked.
    """
    everything = {(question.question, setting.name) for question in prepared.questions for setting in prepared.settings}
    todo = everything - store.finished()
    done = len(everything) - len(todo)
    answerer = Answerer(
        senna,
        prepared.settings,
        prepared.root,
        config.seed,
        config.prompt_template,
        config.max_new_tokens,
        proven=store.proven(),
        batch_size=config.batch_size,
        unreachable=unreachable,
    )
    samples = order(samples_of(prepared.questions))
    for start in range(0, len(samples), config.batch_size):
        together = [question for sample in samples[start : start + config.batch_size] for question in sample]
        for row in answerer.answer(together, todo):
            store.add(row)
            done += 1
            if on_row is not None:
                on_row(row, done, len(everything))
