"""The engine of one machine's cores: every process holds one model on one thread and asks one work unit at a time.

A small model's layers are too short for two threads to share; two processes answer nearly twice as many questions as one. Each loads the
model anew, so this is for models of which several fit into memory. For other machines, GPUs and workers that are replaced: ray_engine.py.

Until the settings have been tried one worker works alone, so that what is impossible on this model is found out once.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self

from senna_autoprune.device import cores
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.engine import Asking, ModelFacts, ModelPlace, Say, Unit, Verdicts
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow

PATIENCE = 5.0  # seconds in which a process may end by itself before it is ended


def work(connection: Connection, place: ModelPlace, ahead: bool) -> None:
    """What runs in a process: sends ``(kind, what)``, receives the name of a part of ``LocalEngine`` and its arguments; None: the end.
    ahead: of ``LocalEngine``.
    """
    import torch

    from senna_autoprune.evaluation.answering.local_engine import LocalEngine

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the driver's
    torch.set_num_threads(1)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):  # the driver is gone
        try:
            engine = LocalEngine.load(place)
            engine.ahead = ahead
            connection.send(("ready", engine.facts()))
            while (asked := connection.recv()) is not None:
                name, arguments = asked
                if name == "answer":
                    for row in engine.answer(*arguments):
                        connection.send(("row", row))
                    connection.send(("done", None))
                else:
                    connection.send(("done", engine.calibrate(*arguments)))
        except SennaPruneError as error:
            connection.send(("error", str(error)))


@dataclass
class _Seat:
    process: Any
    connection: Connection
    loaded: bool = False
    unit: Unit | None = None
    fruitful: bool = False  # one of the unit's rows holds an answer


class ProcessEngine:
    """A context manager; see ``Engine`` for what it offers. A process that dies ends the run; the same command continues it.

    Args:
        workers: processes. say: gets a line about the start.
    """

    def __init__(self, place: ModelPlace, workers: int, say: Say) -> None:
        self.at_work = 0
        self.since = self._opened = perf_counter()
        self.start_up_s: float | None = None
        self._place, self._workers, self._say = place, workers, say
        self._seats: list[_Seat] = []
        self._facts: ModelFacts | None = None
        self._ahead = place.device != "cpu" or cores() > workers

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang
        for _ in range(self._workers):
            here, there = context.Pipe()
            process = context.Process(target=work, args=(there, self._place, self._ahead), daemon=True)
            process.start()
            there.close()
            self._seats.append(_Seat(process, here))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for seat in self._seats:
            with contextlib.suppress(OSError):
                if kind is None:
                    seat.connection.send(None)
                else:
                    seat.process.terminate()
        for seat in self._seats:
            seat.process.join(PATIENCE)
            if seat.process.is_alive():
                seat.process.terminate()
                seat.process.join()
            seat.connection.close()

    def facts(self) -> ModelFacts:
        """Of the first process that has its model. Waits for it."""
        while self._facts is None:
            for seat, kind, what in self._messages():
                self._take(seat, kind, what)
        return self._facts

    def calibrate(self, questions: Sequence[QuestionRow], root: Path, prompt_template: str) -> dict[str, Any]:
        self.facts()
        seat = next(seat for seat in self._seats if seat.loaded)
        seat.connection.send(("calibrate", (questions, root, prompt_template)))
        while True:
            kind, what = self._receive(seat)
            if kind == "done":
                return what

    def answer(self, asking: Asking, units: Sequence[Unit], verdicts: Verdicts) -> Iterator[AnswerRow]:
        queue = deque(units)
        needed = {setting for unit in units for _, setting in unit.todo}
        tried = False  # all settings, on some question
        try:
            while queue or any(seat.unit for seat in self._seats):
                tried = tried or verdicts.settled(needed)
                for seat in self._seats:
                    if queue and seat.loaded and seat.unit is None and (tried or not any(one.unit for one in self._seats)):
                        seat.unit, seat.fruitful = queue.popleft(), False
                        told = replace(
                            verdicts, proven=set(verdicts.proven), unreachable=verdicts.unreachable and dict(verdicts.unreachable)
                        )
                        seat.connection.send(("answer", (asking, [seat.unit], told)))
                for seat, kind, what in self._messages():
                    if kind == "row":
                        seat.fruitful = seat.fruitful or what.answer is not None
                        verdicts.learn(what)
                        yield what
                    elif kind == "done":
                        tried, seat.unit = tried or seat.fruitful, None
                    else:
                        self._take(seat, kind, what)
        finally:
            if any(seat.unit for seat in self._seats):  # the caller gave up: what these processes still say belongs to nobody
                for seat in self._seats:
                    seat.process.terminate()

    # --- processes --------------------------------------------------------------------------------------------------

    def _messages(self) -> Iterator[tuple[_Seat, str, Any]]:
        """One message of every process that has one; waits for the first."""
        seats = {seat.connection: seat for seat in self._seats}
        for connection in wait(list(seats)):
            seat = seats[connection]  # type: ignore[index]
            yield seat, *self._receive(seat)

    def _receive(self, seat: _Seat) -> tuple[str, Any]:
        try:
            kind, what = seat.connection.recv()
        except (EOFError, ConnectionResetError):
            seat.process.join(PATIENCE)
            code = seat.process.exitcode
            why = "it was killed: is there memory for so many models?" if code == -signal.SIGKILL else f"exit code {code}"
            raise SennaPruneError(f"a worker's process ended ({why}); nothing is lost: the same command continues") from None
        if kind == "error":
            raise SennaPruneError(what)
        return kind, what

    def _take(self, seat: _Seat, kind: str, facts: Any) -> None:
        """A process has its model."""
        assert kind == "ready"
        seat.loaded, self._facts = True, self._facts or facts
        self.at_work, self.since = self.at_work + 1, perf_counter()
        if self.at_work == self._workers:
            self.start_up_s = self.since - self._opened
            self._say(f"{self._workers} workers ready after {self.start_up_s:.1f} s")
