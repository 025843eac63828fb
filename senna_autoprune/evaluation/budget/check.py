"""What of a ``budget`` run can be checked before its model is loaded, and where it is kept."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from senna_autoprune.adapters.reading import Reading
from senna_autoprune.adapters.schema import Adapter
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.questions import load_questions
from senna_autoprune.evaluation.answering.truths import adapter_before_loading
from senna_autoprune.evaluation.budget.config import BudgetConfig
from senna_autoprune.evaluation.budget.design import Design, design
from senna_autoprune.evaluation.budget.outcome import AGREEMENT, Outcome, outcome_of
from senna_autoprune.evaluation.budget.reach import safety_of
from senna_autoprune.evaluation.config import ENGINE_KEYS
from senna_autoprune.evaluation.measures.clusters import NO_VERDICT, clusters_of
from senna_autoprune.evaluation.runs.rows import QuestionRow
from senna_autoprune.evaluation.sweep.cells import calibrated
from senna_autoprune.files.yaml_files import to_dict

_SUMMARY_ONLY = ("out", "resamples")


def check(config: BudgetConfig, reading: Reading | None = None) -> tuple[list[QuestionRow], Path, Design, Outcome]:
    """What can be checked before a model is loaded: questions that count, their images' folder, the halves, the measure.

    Args:
        reading: of the run's adapter; None: of the configuration's, as far as it is known.
    Raises:
        SennaPruneError: bad questions or methods, too few scenes, or a measure that these answers do not have.
    """
    for row in config.candidates:
        for share in config.grid:
            row.setting(("retention", share), calibrated(row, None)).policy(config.seed)
    asked, root = load_questions(config, directory_of(config))
    adapter = adapter_before_loading(config) if reading is None else reading.adapter
    if adapter is None and config.adapter is not None:  # in Python, and says nothing of itself before it is loaded
        outcome = Outcome(AGREEMENT, Reading())
    else:
        outcome = outcome_of(config.measure, Reading(adapter or Adapter()), asked, str(config.questions))
    questions = [question for question in asked if outcome.counts(question)]
    plan = design(clusters_of(questions), config.seed, config.choose_share, config.looks)
    if len(plan.certify) < NO_VERDICT:
        raise SennaPruneError(
            f"{config.questions}: {len(plan.certify)} scenes to certify on, at least {NO_VERDICT} are needed (the method is chosen on "
            f"{len(plan.choose)} others; --choose-share 0 with one method certifies on all)"
        )
    if outcome.danger(questions) is not None:
        safety_of(config.safety, plan.stops)
    return questions, root, plan, outcome


def directory_of(config: BudgetConfig) -> Path:
    """``config.out``, or a name under ``runs/`` made of a hash of everything that decides the answers."""
    if config.out is not None:
        return Path(config.out)
    deciding = {key: value for key, value in to_dict(config).items() if key not in (*_SUMMARY_ONLY, *ENGINE_KEYS)}
    deciding["measure"] = config.measure or "accuracy"  # as in runs made before there was more
    return Path("runs") / f"budget-{hashlib.sha256(json.dumps(deciding, sort_keys=True).encode()).hexdigest()[:8]}"
