"""What is still to be asked -> work units -> an engine's rows, each committed as it comes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from senna_autoprune.adapters.reading import Reading
from senna_autoprune.evaluation.answering.engine import Asking, Engine, Unit, Verdicts
from senna_autoprune.evaluation.answering.pictures import Pictures
from senna_autoprune.evaluation.answering.questions import samples_of
from senna_autoprune.evaluation.answering.sanity import FirstAnswers
from senna_autoprune.evaluation.answering.speed import Speed, SpeedMeter
from senna_autoprune.evaluation.runs.rows import UNPRUNED, AnswerRow, QuestionRow
from senna_autoprune.evaluation.runs.store import RunStore

if TYPE_CHECKING:
    from senna_autoprune.adapters.model import DrivingModel
    from senna_autoprune.senna import Senna


Samples = list[list[QuestionRow]]
OnRow = Callable[[AnswerRow, int, int], None]  # row, rows finished, rows in all


@dataclass
class Prepared:
    """What can be checked before a model is loaded: the questions, and how they are asked."""

    questions: list[QuestionRow]
    asking: Asking


def engine_of(engine: Engine | DrivingModel | Senna) -> Engine:
    """A loaded model as the engine that asks it in this process."""
    if hasattr(engine, "facts"):
        return engine  # type: ignore[return-value]
    from senna_autoprune.evaluation.answering.local_engine import LocalEngine  # heavy, and a finished run needs none

    return LocalEngine(engine)  # type: ignore[arg-type]


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
    engine: Engine,
    prepared: Prepared,
    store: RunStore,
    on_row: OnRow | None,
    unreachable: dict[str, str] | None = None,
    divide: Callable[[Samples, int], list[Samples]] = by_scene,
    force: bool = False,
    reading: Reading | None = None,
) -> Speed | None:
    """Ask what the store does not hold yet, every sample under all settings, committing every row.

    Args:
        unreachable: of ``Verdicts``. divide: puts the samples into work units, in the order in which they are asked;
            its second argument is the batch size. force: go on although the first answers cannot be read.
        reading: of the run's adapter; None: as Senna's are read.
    Raises:
        Unreadable: see ``sanity.FirstAnswers``.
        SennaPruneError: the images are not those that the store's answers were made from, or the store cannot be written.
    """
    pictures = Pictures.of(store, prepared.asking.root)
    asking = prepared.asking
    names = [setting.name for setting in asking.settings]
    finished = store.finished()
    wanted, done, units = len(prepared.questions) * len(names), 0, []
    for samples in divide(samples_of(prepared.questions), asking.batch_size):
        pairs = frozenset((question.question, name) for sample in samples for question in sample for name in names)
        todo = pairs - finished if finished else pairs
        done += len(pairs) - len(todo)
        if todo:
            units.append(Unit(tuple(map(tuple, samples)), todo))
    first = None if force else FirstAnswers(prepared.questions, reading or Reading.of(None))
    if first is not None:
        for row in store.iter_answers(UNPRUNED):
            first.look(row)
            if first.settled:
                break
    asked = {question.question: question for question in prepared.questions}
    meter = SpeedMeter(engine, len(names))
    for row in engine.answer(asking, units, Verdicts(store.proven(), unreachable)):
        store.add(row, pictures.new(asked[row.question]) if row.status == "ok" else ())
        meter.row()
        done += 1
        if on_row is not None:
            on_row(row, done, wanted)
        if first is not None:
            first.look(row)
    return meter.speed()
