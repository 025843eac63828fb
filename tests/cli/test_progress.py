"""What is said of a run under way: words that cannot be misread, an estimate once, early."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from senna_autoprune.cli import progress
from senna_autoprune.cli.progress import answers_bar, counted, spell


@pytest.mark.parametrize(
    "seconds, words",
    [(0.4, "0 s"), (42, "42 s"), (99, "99 s"), (100, "2 min"), (5400, "90 min"), (19200, "5 h 20 min"), (12.2 * 86400, "12 days")],
)
def test_durations(seconds: float, words: str) -> None:
    assert spell(seconds) == words


def test_counted() -> None:
    assert counted(206, 5) == "1030 answers = 206 questions x 5 settings"
    assert counted(1, 5) == "5 answers = 1 question x 5 settings"


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(progress, "monotonic", lambda: self.now)


def answer(seconds: float, count: int, total: int, monkeypatch: pytest.MonkeyPatch) -> str:
    clock, screen = Clock(monkeypatch), io.StringIO()
    with answers_bar(Console(file=screen, width=400), settings=5) as bar:
        for done in range(1, count + 1):
            clock.now += seconds
            bar.on_row(SimpleNamespace(status="ok"), done, total)
    return screen.getvalue()


def test_the_estimate_comes_after_three_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "estimate" not in answer(1, 14, 1030, monkeypatch)
    assert answer(1, 40, 1030, monkeypatch).count("estimate: about 17 min for the other 1015 answers, at 1 s an answer") == 1


def test_answers_that_come_together_do_not_hide_the_time_that_they_took(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of 16 in two workers, 8 s each: a quarter of a second an answer, though each batch's come within a moment."""
    clock, screen = Clock(monkeypatch), io.StringIO()
    with answers_bar(Console(file=screen, width=400), settings=5, at_once=32) as bar:
        for done in range(1, 257):
            clock.now += 8 * (done % 32 == 1)
            clock.now += 0.001
            bar.on_row(SimpleNamespace(status="ok"), done, 1030)
            assert done >= 192 or "estimate" not in screen.getvalue()
    assert "estimate: about 4 min for the other 838 answers, at 0.25 s an answer" in screen.getvalue()


def test_one_slow_batch_is_estimated_when_the_next_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, screen = Clock(monkeypatch), io.StringIO()
    with answers_bar(Console(file=screen, width=400), settings=5, at_once=4) as bar:
        for done in range(1, 9):
            clock.now += 400 * (done % 4 == 1)
            bar.on_row(SimpleNamespace(status="ok"), done, 104)
            assert done > 4 or "estimate" not in screen.getvalue()
    assert screen.getvalue().count("estimate") == 1


def test_a_bound_is_said_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, screen = Clock(monkeypatch), io.StringIO()
    with answers_bar(Console(file=screen, width=400, force_terminal=True, color_system=None), settings=2, bound=True) as bar:
        for done in range(1, 8):
            clock.now += 1
            bar.on_row(SimpleNamespace(status="ok"), done, 1006)
        assert "about 17 min for at most 1000 more answers, at 1 s an answer; less where a budget fails early" in screen.getvalue()
        bar.on_row(SimpleNamespace(status="ok"), 8, 106)  # a budget failed
        bar._progress.refresh()
        assert "8 of at most 106 answers" in screen.getvalue() and " left at most" in screen.getvalue()
        bar.finish(8)
    assert "8 of 8 answers" in screen.getvalue()


def test_slow_answers_are_estimated_after_a_minute_with_what_can_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    said = answer(1000, 2, 1030, monkeypatch)
    assert "about 12 days for the other 1028 answers" in said and "Ctrl-C loses nothing" in said and "--limit" in said


def test_something_moves_before_the_first_answer() -> None:
    screen = io.StringIO()
    with answers_bar(Console(file=screen, width=100, force_terminal=True), settings=5):
        pass
    assert "no answer yet" in screen.getvalue()


def test_what_comes_before_the_first_answer_is_no_answers_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, screen = Clock(monkeypatch), io.StringIO()
    with answers_bar(Console(file=screen, width=400), settings=5) as bar:
        clock.now += 100  # workers start
        for done in range(1, 16):
            bar.on_row(SimpleNamespace(status="ok"), done, 1015)
            clock.now += 0.1
    assert "about 2 min for the other 1000 answers, at 0.1 s an answer" in screen.getvalue()
