"""The progress bar of answers, with an estimate of the time left, that ``eval`` and ``sweep`` share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class AnswersBar:
    """Give ``on_row`` to ``evaluate`` or ``sweep``; ``finish`` fills the bar of a run that had nothing left to ask."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("answers", total=None, note="")
        self._computed = self._failed = 0

    def on_row(self, row: Any, done: int, total: int) -> None:
        if not self._computed:  # rows found on disk are no measure of speed
            self._progress.reset(self._task, total=total, completed=done - 1)
        self._computed += 1
        self._failed += row.status == "failed"
        self._progress.update(self._task, completed=done, note=f"{self._failed} failed" if self._failed else "")

    def finish(self, rows: int) -> None:
        self._progress.update(self._task, total=rows, completed=rows)


@contextmanager
def answers_bar(console: Console) -> Iterator[AnswersBar]:
    """A bar on ``console`` while in use."""
    times = (TextColumn("elapsed"), TimeElapsedColumn(), TextColumn("left, about"), TimeRemainingColumn())
    columns = (TextColumn("answers"), BarColumn(), MofNCompleteColumn(), *times)
    with Progress(*columns, TextColumn("{task.fields[note]}"), console=console) as progress:
        yield AnswersBar(progress)
