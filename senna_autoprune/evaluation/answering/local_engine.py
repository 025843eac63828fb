"""The engine that asks one model in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from senna_autoprune.adapters.code import code_identity
from senna_autoprune.device import keep_freed_memory
from senna_autoprune.evaluation.answering.answerer import Answerer
from senna_autoprune.evaluation.answering.calibration import calibrate
from senna_autoprune.evaluation.answering.engine import Asking, ModelFacts, ModelPlace, Unit, Verdicts
from senna_autoprune.evaluation.answering.look_ahead import worth_it
from senna_autoprune.evaluation.answering.models import driving_model
from senna_autoprune.evaluation.answering.provenance import machine, model_fingerprint, versions
from senna_autoprune.evaluation.answering.stamp import stamp_of
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from senna_autoprune.files.yaml_files import to_dict
from senna_autoprune.pruning.decoder.check import proof_of

if TYPE_CHECKING:
    from senna_autoprune.adapters.model import DrivingModel
    from senna_autoprune.senna import Senna


@dataclass
class LocalEngine:
    """One model in this process. ahead: whether a thread opens the next keyframes' pictures; None: where it has time of its own."""

    model: DrivingModel | Senna
    start_up_s: float | None = None
    files: str | None = None
    ahead: bool | None = None
    at_work: int = field(default=1, init=False)
    since: float = field(default_factory=perf_counter, init=False)
    proof: dict[str, str] = field(default_factory=dict, init=False)  # of a decoder that is not proven, for the provenance
    _asked: tuple[Asking, Answerer] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """SennaPruneError: a decoder that is not proven does not pass the short check."""
        self.proof = proof_of(driving_model(self.model).model)

    @classmethod
    def load(cls, place: ModelPlace) -> LocalEngine:
        """SennaPruneError: see ``ModelPlace.load``."""
        begun, files = perf_counter(), stamp_of(place)
        model = place.load()
        if driving_model(model).model.device.type == "cpu":
            keep_freed_memory()
        return cls(model, perf_counter() - begun, files if files == stamp_of(place) else None)

    def facts(self) -> ModelFacts:
        model = driving_model(self.model)
        identity = {**model_fingerprint(model), **model.identity(), **code_identity(model)}
        adapter = to_dict(model.adapter) if "adapter_sha256" in identity else None
        return ModelFacts(identity, versions(), {**model.provenance, **self.proof}, machine(str(model.model.device)), adapter, self.files)

    def calibrate(self, questions: Sequence[QuestionRow], root: Path, prompt_template: str) -> dict[str, Any]:
        return calibrate(driving_model(self.model, prompt_template), questions, root)

    def answer(self, asking: Asking, units: Sequence[Unit], verdicts: Verdicts) -> Iterator[AnswerRow]:
        answerer = self._answerer(asking)
        answerer.learn(verdicts.proven, verdicts.unreachable)
        ahead = worth_it(answerer.model.device) if self.ahead is None else self.ahead
        with answerer.looking_ahead(_together(units, asking.batch_size)) if ahead else nullcontext():
            for questions, todo in _together(units, asking.batch_size):
                for row in answerer.answer(questions, todo):
                    verdicts.learn(row)
                    yield row

    def _answerer(self, asking: Asking) -> Answerer:
        """The same one for the same way of asking: it keeps the features of a grey view."""
        if self._asked is None or self._asked[0] != asking:
            answerer = Answerer(
                self.model,
                asking.settings,
                asking.root,
                asking.seed,
                asking.prompt_template,
                asking.max_new_tokens,
                batch_size=asking.batch_size,
            )
            self._asked = asking, answerer
        return self._asked[1]


def _together(units: Sequence[Unit], batch_size: int) -> Iterator[tuple[list[QuestionRow], frozenset[tuple[int, str]]]]:
    """Questions of as many samples as go into a batch, and what is to do of their unit."""
    for unit in units:
        for start in range(0, len(unit.samples), batch_size):
            yield [question for sample in unit.samples[start : start + batch_size] for question in sample], unit.todo
