"""The engine of a finished run: it knows from the run folder what the model is, and loads it only if something is left to ask."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.engine import Asking, Engine, ModelFacts, ModelPlace, Unit, Verdicts
from senna_autoprune.evaluation.answering.provenance import versions
from senna_autoprune.evaluation.answering.stamp import stamp_of
from senna_autoprune.evaluation.runs.identity import ANSWERS, CERTIFIED
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow
from senna_autoprune.evaluation.runs.store import RunStore

OF_QUESTIONS = ("questions_sha256", "truths_sha256", "versions")  # what else a run's identity holds


def facts_of_finished(directory: Path, place: ModelPlace) -> ModelFacts | None:
    """What a run's model is, if every answer of the run is there, and if neither a file of the model nor a package has changed since.

    None otherwise, and of a run that cannot be read: whoever loads the model says what is wrong.
    """
    if not (directory / ANSWERS).is_file():
        return None
    try:
        with RunStore.read(directory) as store:
            stored = store.config
            answers, asked = store.counts()
        identity, stamp = dict(stored["identity"]), stored.get("files")
        finished = CERTIFIED in stored or ("choose_share" not in stored["config"] and answers >= asked * len(stored["settings"]))
        if not finished or stamp is None or stamp != stamp_of(place) or identity["versions"] != versions():
            return None
        own = {name: value for name, value in identity.items() if name not in OF_QUESTIONS}
        return ModelFacts(own, identity["versions"], dict(stored["model"]), dict(stored["machine"]), stored.get("adapter"), stamp)
    except (SennaPruneError, KeyError, TypeError, ValueError, AttributeError):
        return None


class StoredEngine:
    """``known``: of ``facts_of_finished``. ``open_model``: the engine that asks, where a run is extended or failures are asked again."""

    def __init__(self, known: ModelFacts, open_model: Callable[[], AbstractContextManager[Engine]]) -> None:
        self._known, self._open = known, open_model
        self._exit = ExitStack()
        self._engine: Engine | None = None
        self._since = perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._exit.close()

    @property
    def at_work(self) -> int:
        return 0 if self._engine is None else self._engine.at_work

    @property
    def since(self) -> float:
        return self._since if self._engine is None else self._engine.since

    @property
    def start_up_s(self) -> float | None:
        return None if self._engine is None else self._engine.start_up_s

    def facts(self) -> ModelFacts:
        return self._known

    def calibrate(self, questions: Sequence[QuestionRow], root: Path, prompt_template: str) -> dict[str, Any]:
        return self._loaded().calibrate(questions, root, prompt_template)

    def answer(self, asking: Asking, units: Sequence[Unit], verdicts: Verdicts) -> Iterator[AnswerRow]:
        if units:
            yield from self._loaded().answer(asking, units, verdicts)

    def _loaded(self) -> Engine:
        """SennaPruneError: it cannot be loaded, or is not what the run was made with, whatever its files' times say."""
        if self._engine is None:
            engine = self._exit.enter_context(self._open())
            if engine.facts().identity != self._known.identity:
                raise SennaPruneError("the model is not the one that this run was made with; give another run folder with --out")
            self._engine = engine
        return self._engine
