"""Who computes a run's answers: an engine maps work units over one model or many, as a stream of answer rows.

The driver (``run.py``, ``sweep.py``) decides what is asked and alone writes; an engine only asks. Rows of different
engines are the same but for their times: a row depends on its question, its setting and the model, never on what was
asked before it. The one thing that is remembered, which settings this model can do at all, is kept in ``Verdicts``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from senna_autoprune.evaluation.answering.settings import Setting
from senna_autoprune.evaluation.config import AskConfig
from senna_autoprune.evaluation.runs.rows import UNREACHABLE, AnswerRow, QuestionRow

if TYPE_CHECKING:
    from senna_autoprune.adapters.model import DrivingModel

Say = Callable[[str], None]


@dataclass(frozen=True)
class ModelPlace:
    """Where a model is loaded from, and how: what ``adapters.open_model`` takes."""

    model: str
    vision_tower: str | None
    dtype: str
    device: str
    adapter: str | None = None
    prompt_template: str = "eval"

    @classmethod
    def of(cls, config: AskConfig) -> ModelPlace:
        """Paths are made absolute: a worker may have another working directory."""
        assert config.model is not None
        tower, adapter = config.vision_tower, config.adapter
        return cls(
            _absolute(config.model),
            tower and _absolute(tower),
            config.dtype,
            config.device,
            adapter and _absolute(adapter),
            config.prompt_template,
        )

    def load(self) -> DrivingModel:
        """SennaPruneError: no such checkpoint, or a broken one; no such device; no adapter for it."""
        from senna_autoprune.adapters.open import open_model

        return open_model(
            self.model,
            self.adapter,
            vision_tower=self.vision_tower,
            dtype=self.dtype,
            device=self.device,
            prompt_template=self.prompt_template,
        )


def _absolute(place: str) -> str:
    return str(Path(place).resolve()) if Path(place).exists() else place


@dataclass(frozen=True)
class ModelFacts:
    """What a loaded model is, and where it runs. ``identity`` and ``versions`` decide the answers. ``adapter``: as plain data;
    None for Senna as released. ``files``: ``stamp.stamp_of`` where they were loaded from; None where files do not tell.
    """

    identity: dict[str, str]
    versions: dict[str, str]
    provenance: dict[str, str]
    machine: dict[str, Any]
    adapter: dict[str, Any] | None = None
    files: str | None = None


@dataclass(frozen=True)
class Asking:
    """How all questions of a run are asked. ``root``: folder of relative image paths."""

    settings: tuple[Setting, ...]
    root: Path
    seed: int
    prompt_template: str
    max_new_tokens: int | None
    batch_size: int

    @classmethod
    def of(cls, config: AskConfig, settings: Sequence[Setting], root: Path) -> Asking:
        """What a configuration says of it; ``root`` is made absolute: a worker may have another working directory."""
        return cls(tuple(settings), root.resolve(), config.seed, config.prompt_template, config.max_new_tokens, config.batch_size)


@dataclass(frozen=True)
class Unit:
    """Samples that one worker asks, in order: ``todo`` says which (question, setting) pairs are still to be asked."""

    samples: tuple[tuple[QuestionRow, ...], ...]
    todo: frozenset[tuple[int, str]]


@dataclass
class Verdicts:
    """What this model can do: settings that have worked, and settings it can never do, with the reason.

    ``unreachable`` is None where an impossible setting is an error (see ``Answerer``).
    """

    proven: set[str]
    unreachable: dict[str, str] | None = None

    def learn(self, row: AnswerRow) -> None:
        """Take in what an answer says of its setting."""
        if row.status == UNREACHABLE and self.unreachable is not None:
            self.unreachable[row.setting] = row.reason or ""
        elif row.answer is not None:
            self.proven.add(row.setting)

    def settled(self, settings: set[str]) -> bool:
        """Whether all of them are known to work, or not to."""
        return settings <= self.proven | (self.unreachable or {}).keys()


class Engine(Protocol):
    """``at_work``: workers that have had their model loaded, ``since`` (of ``perf_counter``) the last of them had.
    ``start_up_s``: seconds that the start took; None: not measured, or not all are there yet.
    """

    @property
    def at_work(self) -> int: ...

    @property
    def since(self) -> float: ...

    @property
    def start_up_s(self) -> float | None: ...

    def facts(self) -> ModelFacts:
        """Of the model, which all workers share."""
        ...

    def calibrate(self, questions: Sequence[QuestionRow], root: Path, prompt_template: str) -> dict[str, Any]:
        """``calibration.calibrate`` with this model."""
        ...

    def answer(self, asking: Asking, units: Sequence[Unit], verdicts: Verdicts) -> Iterator[AnswerRow]:
        """One row for every pair in the units' ``todo``, as they are computed. ``verdicts`` is kept up to date.

        Raises:
            SennaPruneError: the set-up is wrong (see ``Answerer.answer``), or nobody is left to compute.
        """
        ...
