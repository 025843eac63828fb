"""What moves while a run computes: how far, how long it took, how long it will take; shared by ``eval``, ``sweep`` and ``budget``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task
from rich.text import Text

FIRST_QUESTIONS = 3  # asked under every setting before the whole time is estimated,
PATIENCE_S = 60.0  # or what was answered by then
LONG_S = 3600.0  # of an estimate that comes with what can be done about it


def spell(seconds: float) -> str:
    """A duration that cannot be misread: ``42 s``, ``14 min``, ``5 h 20 min``, ``12 days``."""
    minutes = round(seconds / 60)
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes / 60 / 24:.0f} days"


class _Words(ProgressColumn):
    """``12 of 1030 answers, 8 s so far, about 11 min left``; says what is waited for while nothing has come."""

    def render(self, task: Task) -> Text:
        elapsed, left, note = spell(task.elapsed or 0), task.fields["left"], task.fields["note"]
        if task.total is None:
            return Text(f"no answer yet, {elapsed} so far")
        seconds = None if left is None else max(left[1] - (monotonic() - left[0]), 0)
        most, at_most = ("at most ", " at most") if task.fields["bound"] and not task.finished else ("", "")
        rest = "" if task.finished or seconds is None else f", about {spell(seconds)} left{at_most}"
        return Text(f"{task.completed:.0f} of {most}{task.total:.0f} answers, {elapsed} so far{rest}{note}")


class AnswersBar:
    """Give ``on_row`` to ``evaluate``, ``sweep`` or ``search``; ``finish`` fills the bar of a run that had nothing left to ask.

    Args:
        settings: answers that make a question. bound: it may end sooner, so the total is the most that there can be. at_once: answers that
            may come together, a batch of each worker's: those of the first tell no time.
    """

    def __init__(self, progress: Progress, settings: int, bound: bool = False, at_once: int = 1) -> None:
        self._progress, self._settings, self._bound, self._at_once = progress, settings, bound, at_once
        self._task = progress.add_task("answers", total=None, note="", left=None, bound=bound)
        self._first = monotonic()
        self._computed = self._failed = 0
        self._estimated = False

    def on_row(self, row: Any, done: int, total: int) -> None:
        now = monotonic()
        if self._computed == 0:
            self._first = now  # until then workers started, and a model ran for the first time
        self._computed += 1
        self._failed += row.status == "failed"
        pace = (now - self._first) / max(1, self._computed - self._at_once)
        seconds = pace * (total - done)
        if not self._estimated and done < total and self._settled(now - self._first):
            self._estimated = True
            self._estimate(pace, seconds, total - done)
        left = (monotonic(), seconds) if self._estimated else None
        note = f", {self._failed} failed" if self._failed else ""
        self._progress.update(self._task, total=total, completed=done, note=note, left=left)

    def finish(self, rows: int) -> None:
        self._progress.update(self._task, total=rows, completed=rows)

    def _settled(self, passed: float) -> bool:
        """Whether enough was seen to say how long the rest takes: settings differ, so whole questions, if those come soon."""
        enough = max(FIRST_QUESTIONS * self._settings, self._at_once * (self._settings + 1))
        return self._computed >= enough or (passed > PATIENCE_S and self._computed > self._at_once)

    def _estimate(self, pace: float, seconds: float, left: int) -> None:
        others = f"at most {left} more answers" if self._bound else f"the other {left} answers"
        sooner = "; less where a budget fails early" if self._bound else ""
        said = f"estimate: about {spell(seconds)} for {others}, at {pace:.2g} s an answer{sooner}"
        if seconds < LONG_S:
            self._progress.console.print(said, markup=False)
            return
        fewer = "--limit, or a shorter --grid or list of --methods" if self._bound else "--limit or --limit-scenes"
        cure = f"Ctrl-C loses nothing and the same command goes on; fewer: {fewer}; faster: a GPU, --dtype, --engine ray"
        self._progress.console.print(f"{said}. {cure}", style="yellow", markup=False)


@contextmanager
def answers_bar(console: Console, settings: int, bound: bool = False, at_once: int = 1) -> Iterator[AnswersBar]:
    """A bar on ``console`` while in use; it moves before the first answer is there. settings, bound, at_once: of ``AnswersBar``."""
    with Progress(SpinnerColumn(), BarColumn(bar_width=16), _Words(), console=console) as progress:
        yield AnswersBar(progress, settings, bound, at_once)


@contextmanager
def questions_bar(console: Console) -> Iterator[Callable[[int, int], None]]:
    """A bar of questions on a terminal while in use: yields what is told how many are done, and how many there are."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("questions", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def counted(questions: int, settings: int) -> str:
    """``1030 answers = 206 questions x 5 settings``."""
    return f"{questions * settings} answers = {questions} question{'s' * (questions != 1)} x {settings} settings"
