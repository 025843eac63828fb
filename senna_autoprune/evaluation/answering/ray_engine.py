"""The engine of many machines: every Ray actor holds one model and asks one work unit at a time.

The driver gives the next unit to whichever worker is free and yields rows as they stream in, so that slow and fast
workers share the work as they can. A worker that dies is replaced, and what its unit still lacks is asked again. Every
worker loads the model from its path, on its own node: the folders of the model and the images must be there under the same
names, and a worker whose weights or package versions differ from the first one's is an error.

Until the settings have been tried (on the first question that can be asked at all) one worker works alone: which
settings are impossible on this model is then found out once, as by the local engine, and all say the same.

Without an address a cluster of this machine is started for the run: it listens on the loopback interface only, asks for
a token that only this process and its children know, has no dashboard, writes its logs to a folder of its own that goes
with it, and sends no usage statistics. Ray's transport is pickle: arguments and rows pass between processes that hold
the cluster's token or can reach its ports, and whoever can do that can run code on the cluster. So give ``--ray-address``
only of a cluster that you trust. No file that the user names is unpickled here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any, Self

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.engine import Asking, ModelFacts, ModelPlace, Say, Unit, Verdicts
from senna_autoprune.evaluation.answering.local_engine import LocalEngine
from senna_autoprune.evaluation.runs.rows import AnswerRow, QuestionRow

STORE_BYTES = 80 * 2**20  # Ray's least, about: rows are small and travel inside messages
DEATHS = 3  # of workers over one unit without a new row, or over loading, before the run stops
LISTENS_S = 5.0  # seconds for a cluster to take a connection
PATIENCE = 30.0  # seconds without a loaded worker before the user is told what the cluster has


class Worker:
    """What runs in an actor: a local engine in another process."""

    def load(self, place: ModelPlace) -> tuple[ModelFacts, str]:
        """The model's facts, and the name of this process. SennaPruneError: see ``ModelPlace.load``."""
        import torch

        if place.device == "cpu":
            torch.set_num_threads(1)  # Ray sets OMP_NUM_THREADS to an actor's one CPU; a user's environment may differ
        self._engine = LocalEngine.load(place)
        self._engine.ahead = place.device != "cpu"  # an actor has one CPU
        return self._engine.facts(), f"process {os.getpid()} on {socket.gethostname()}"

    def calibrate(self, questions: Sequence[QuestionRow], root: Path, prompt_template: str) -> dict[str, Any]:
        return self._engine.calibrate(questions, root, prompt_template)

    def answer(self, asking: Asking, unit: Unit, verdicts: Verdicts) -> Iterator[AnswerRow]:
        yield from self._engine.answer(asking, [unit], verdicts)


@dataclass
class _Task:
    """A unit of which ``unit.todo`` shrinks as its rows arrive."""

    unit: Unit
    deaths: int = 0  # of workers since its last row
    fruitful: bool = False  # one of its rows holds an answer


@dataclass
class _Seat:
    """A worker's place. ``pending``: reference of its loading, or the stream of its task; None while it is free."""

    actor: Any
    pending: Any
    name: str | None = None  # of its process, once the model is loaded
    task: _Task | None = None
    failed_starts: int = 0


class _Died(Exception):
    """A worker is gone; the text is Ray's reason."""


class RayEngine:
    """A context manager; see ``Engine`` for what it offers.

    Args:
        place: of the model, on every node.
        workers: actors, of one CPU and ``gpus`` GPUs each.
        address: of a running cluster ("auto": the one of this node); None: a local one. A process that is connected to a
            cluster already uses that one.
        say: gets a line about the start and about workers that die.
    Raises (on entry):
        SennaPruneError: Ray is not installed, or no cluster is at the address.
    """

    def __init__(self, place: ModelPlace, workers: int, gpus: float, address: str | None, say: Say) -> None:
        self.at_work = 0
        self.since = self._opened = perf_counter()
        self.start_up_s: float | None = None
        self._place, self._workers, self._gpus, self._address, self._say = place, workers, gpus, address, say
        self._facts: ModelFacts | None = None
        self._seats: list[_Seat] = []
        self._explained = False
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))  # where Ray reports a death
            self._ray = _import_ray(self._address)
            _connect(self._ray, self._address, self._workers, stack)
            stack.callback(self._dismiss)
            for _ in range(self._workers):
                self._seats.append(_Seat(*self._start()))
            self._exit = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._exit.close()

    @property
    def processes(self) -> list[str]:
        """Names of the workers that have loaded their model: "process PID on HOST"."""
        return [seat.name for seat in self._seats if seat.name is not None]

    # --- what an engine offers --------------------------------------------------------------------------------------

    def facts(self) -> ModelFacts:
        """Of the first worker's model; the others are compared with it. Waits for that worker."""
        self._first_loaded()
        assert self._facts is not None
        return self._facts

    def calibrate(self, questions: Sequence[QuestionRow], root: Path, prompt_template: str) -> dict[str, Any]:
        while True:
            seat = self._first_loaded()
            try:
                found: dict[str, Any] = self._fetch(seat.actor.calibrate.remote(questions, root, prompt_template))
                return found
            except _Died as death:
                self._replace(seat, death)

    def answer(self, asking: Asking, units: Sequence[Unit], verdicts: Verdicts) -> Iterator[AnswerRow]:
        for seat in self._seats:
            if seat.task is not None:  # of a caller that gave up
                self._renew(seat)
        queue = deque(map(_Task, units))
        needed = {setting for unit in units for _, setting in unit.todo}
        tried = False  # all settings, on some question
        while queue or self._busy():
            tried = tried or verdicts.settled(needed)
            for seat in self._seats:
                if queue and seat.name is not None and seat.task is None and (tried or not self._busy()):
                    seat.task = queue.popleft()
                    stream = seat.actor.answer.options(num_returns="streaming")
                    seat.pending = stream.remote(asking, seat.task.unit, verdicts)
            for seat in self._stirring():
                task = seat.task
                try:
                    row = self._advance(seat)
                except _Died as death:
                    self._replace(seat, death)
                    if task is not None:
                        queue.appendleft(task)
                    continue
                if row is not None:
                    verdicts.learn(row)
                    yield row
                elif task is not None:
                    tried = tried or task.fruitful

    # --- workers ----------------------------------------------------------------------------------------------------

    def _start(self) -> tuple[Any, Any]:
        """A new actor, and the reference of its loading."""
        actor = self._ray.remote(Worker).options(num_cpus=1, num_gpus=self._gpus, max_restarts=0).remote()
        return actor, actor.load.remote(self._place)

    def _busy(self) -> bool:
        return any(seat.task for seat in self._seats)

    def _first_loaded(self) -> _Seat:
        while True:
            for seat in self._seats:
                if seat.name is not None:
                    return seat
            for seat in self._stirring():
                try:
                    self._advance(seat)
                except _Died as death:
                    self._replace(seat, death)

    def _stirring(self) -> list[_Seat]:
        """Seats with something to fetch; waits for one."""
        pending = {seat.pending: seat for seat in self._seats if seat.pending is not None}
        ready, _ = self._ray.wait(list(pending), timeout=PATIENCE)
        if not ready:
            self._explain()
            return []
        ready, _ = self._ray.wait(list(pending), num_returns=len(pending), timeout=0)
        return [pending[one] for one in ready]

    def _advance(self, seat: _Seat) -> AnswerRow | None:
        """Fetch what a seat has: the end of its loading, a row, or the end of its task."""
        if seat.task is None:
            self._welcome(seat, *self._fetch(seat.pending))
            return None
        try:
            reference = next(seat.pending)
        except StopIteration:
            seat.task = seat.pending = None
            return None
        row: AnswerRow = self._fetch(reference)
        task = seat.task
        task.unit = replace(task.unit, todo=task.unit.todo - {(row.question, row.setting)})
        task.deaths, task.fruitful = 0, task.fruitful or row.answer is not None
        return row

    def _welcome(self, seat: _Seat, facts: ModelFacts, name: str) -> None:
        seat.name, seat.pending, seat.failed_starts = name, None, 0
        first = self._facts = self._facts or facts
        for said, there, here in (("the model", first.identity, facts.identity), ("versions", first.versions, facts.versions)):
            differing = [key for key in there if there[key] != here.get(key)]
            if differing:
                raise SennaPruneError(f"{name}: {said} differs from the first worker's ({', '.join(differing)}): make the nodes alike")
        loaded = len(self.processes)
        if loaded > self.at_work:
            self.at_work, self.since = loaded, perf_counter()
            if loaded == self._workers:
                self.start_up_s = self.since - self._opened
                self._say(f"{loaded} Ray workers ready after {self.start_up_s:.1f} s")

    def _replace(self, seat: _Seat, death: _Died) -> None:
        """Fill a dead worker's seat. SennaPruneError if that has been tried often enough."""
        who = f"the worker {seat.name}" if seat.name else "a worker that was loading its model"
        if seat.task is not None:
            seat.task.deaths += 1
            if seat.task.deaths == DEATHS:
                token = seat.task.unit.samples[0][0].token
                raise SennaPruneError(f"{DEATHS} workers died one after the other over the scene of sample {token}: {death}")
        elif seat.name is None:
            seat.failed_starts += 1
            if seat.failed_starts == DEATHS:
                raise SennaPruneError(f"a worker could not be started, {DEATHS} times: {death}")
        self._say(f"{who} died; a new one takes its place")
        self._renew(seat)

    def _renew(self, seat: _Seat) -> None:
        self._kill(seat)
        seat.name = seat.task = None
        seat.actor, seat.pending = self._start()

    def _kill(self, seat: _Seat) -> None:
        """Also of what only seems dead, out of reach for a moment."""
        with contextlib.suppress(Exception):
            self._ray.kill(seat.actor)

    def _dismiss(self) -> None:
        for seat in self._seats:
            self._kill(seat)

    def _fetch(self, reference: Any) -> Any:
        """What a worker returned. Raises what it raised as a SennaPruneError; _Died if it is gone."""
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError as error:
            if isinstance(error.cause, SennaPruneError):
                raise SennaPruneError(str(error.cause)) from None
            raise
        except errors.RayError as error:
            raise _Died(" ".join(str(error).split())[:500]) from error

    def _explain(self) -> None:
        """Tell, once, why nothing happens yet."""
        if self.processes or self._explained:
            return
        self._explained = True
        there, free = self._ray.cluster_resources(), self._ray.available_resources()
        has = ", ".join(f"{free.get(kind, 0):g} of {there.get(kind, 0):g} {kind}s" for kind in ("CPU", "GPU"))
        self._say(f"no worker has its model yet; a worker takes 1 CPU and {self._gpus:g} GPUs, free in the cluster: {has}")


def _import_ray(address: str | None) -> Any:
    """Ray, told before its import to send no statistics and, for a local cluster, how to behave on this machine."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address is None:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 gives way to whatever else runs here
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # Ray's name for "listen on more than loopback"
    try:
        import ray
    except ImportError as error:
        raise SennaPruneError(
            "--engine ray needs Ray, which is not installed: pip install 'senna_autoprune[ray]', or use --engine local"
        ) from error
    return ray


def _require_listener(address: str) -> None:
    """Raises SennaPruneError if nobody listens at HOST:PORT within some seconds; Ray itself would try for a minute."""
    host, _, port = address.rpartition(":")
    if not host:
        return  # auto, local: Ray's own words
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=LISTENS_S):
            pass
    except (OSError, ValueError, OverflowError) as error:
        raise SennaPruneError(
            f"--ray-address {address}: nobody listens there ({error}): start the cluster, or correct HOST:PORT"
        ) from error


def _connect(ray: Any, address: str | None, workers: int, stack: contextlib.ExitStack) -> None:
    """Start or join a cluster; leaving ``stack`` undoes it."""
    if ray.is_initialized():
        return
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # the path of a socket in it must be short
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(ray.shutdown)
        ray.init("local", num_cpus=workers, include_dashboard=False, object_store_memory=STORE_BYTES, _temp_dir=folder, **quiet)
        return
    if "://" in address:
        raise SennaPruneError(f"--ray-address {address}: run on a node of the cluster (`ray job submit` does) with --ray-address auto")
    _require_listener(address)
    stack.callback(ray.shutdown)
    try:
        ray.init(address, **quiet)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split())[:300]
        raise SennaPruneError(f"--ray-address {address}: no Ray cluster can be joined there: {reason}") from error
