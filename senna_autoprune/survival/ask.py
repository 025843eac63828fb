"""From a command's configuration to survival as JSON: load the model, follow the questions, set what flipped beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from senna_autoprune.demo import label_of
from senna_autoprune.evaluation.answering.engine import ModelPlace
from senna_autoprune.evaluation.answering.models import driving_model
from senna_autoprune.evaluation.answering.questions import samples_of
from senna_autoprune.evaluation.runs.rows import QuestionRow
from senna_autoprune.evaluation.sweep.cells import Cell
from senna_autoprune.evaluation.sweep.config import SweepConfig
from senna_autoprune.evaluation.sweep.sweep import in_turns
from senna_autoprune.pruning.decoder.check import proof_of
from senna_autoprune.survival.flips import flipped_answers
from senna_autoprune.survival.run import OnQuestion, follow
from senna_autoprune.survival.sources import EvidenceOf
from senna_autoprune.survival.write import result_of


def some_of(questions: Sequence[QuestionRow], count: int) -> list[QuestionRow]:
    """The first question of at most ``count`` keyframes: of each scene the first one before any scene's second."""
    return [sample[0] for sample in in_turns(samples_of(questions))][:count]


def measured(
    config: SweepConfig,
    cells: Sequence[Cell],
    questions: Sequence[QuestionRow],
    root: Path,
    evidence: tuple[EvidenceOf, str],
    run: str | Path | None = None,
    on_question: OnQuestion | None = None,
) -> dict[str, Any]:
    """``result_of`` these questions under these cells.

    Args:
        evidence: of ``find_evidence``. run: a run over the same question file, which says what flipped.
    Raises:
        SennaPruneError: as of ``follow``; the model cannot be loaded; ``run`` is none.
    """
    flipped = flipped_answers(Path(run)) if run is not None else None
    model = driving_model(ModelPlace.of(config).load(), config.prompt_template)
    settings = [cell.setting for cell in cells]
    survived = follow(model, questions, root, settings, evidence[0], config.seed, config.prompt_template, flipped, on_question)
    provenance = {**model.provenance, **proof_of(model.model)}
    return result_of(survived, cells, evidence[1], label_of(config.model, config.questions), config.seed, provenance)
