"""Rows that share a commit: one that waits for the disk costs as much as sixty-four that wait together."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, RLock, Thread
from time import perf_counter

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.runs.rows import AnswerRow

ROWS = 64  # of a group, at most
SECONDS = 0.1  # that a row waits for its commit, at most


class Groups:
    """Give rows to ``add``; ``write`` gets them in groups, in order, and commits each group as a whole.

    A row that comes long after the last commit is written at once: a slow model loses nothing. Of a fast one a kill loses the group
    that was not committed yet, which is then asked again. Rows that nothing follows are written by a thread of this object's.

    Args:
        write: raises SennaPruneError where it cannot (the rows are kept, and are tried again with the next ones).
    """

    def __init__(self, write: Callable[[list[AnswerRow]], None]) -> None:
        self._write = write
        self._rows: list[AnswerRow] = []
        self._committed = float("-inf")
        self._fault: SennaPruneError | None = None
        self._lock, self._waiting, self._closed = RLock(), Event(), Event()
        self._thread: Thread | None = None

    def add(self, row: AnswerRow) -> None:
        """SennaPruneError: this group, or one that the thread was to write, could not be written."""
        with self._lock:
            self._rows.append(row)
            if self._fault is not None or len(self._rows) >= ROWS or perf_counter() - self._committed >= SECONDS:
                self.flush()
                return
            if self._thread is None:
                self._thread = Thread(target=self._run, name="commits", daemon=True)
                self._thread.start()
            self._waiting.set()

    def flush(self) -> None:
        """Write what waits. SennaPruneError: it cannot be."""
        with self._lock:
            self._fault = None
            if self._rows:
                self._write(self._rows)
                self._rows = []
                self._committed = perf_counter()

    def close(self) -> None:
        """End the thread; what waits is not written."""
        self._closed.set()
        self._waiting.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._waiting.wait()
            self._waiting.clear()  # before it is asked whether this is closed: ``close`` says so first, then wakes
            if self._closed.wait(SECONDS):
                return
            with self._lock:
                try:
                    self.flush()
                except SennaPruneError as error:
                    self._fault = error  # said to whoever adds the next row, or closes
