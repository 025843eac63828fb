"""Questions per second: what is counted, and from when."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from senna_autoprune.evaluation.answering import speed
from senna_autoprune.evaluation.answering.speed import Speed, SpeedMeter


def _meter(monkeypatch: pytest.MonkeyPatch, at_work: int) -> tuple[SpeedMeter, Any, Any]:
    """A meter made at second 10 over a clock and an engine that the test turns."""
    clock, engine = SimpleNamespace(now=10.0), SimpleNamespace(at_work=at_work, since=3.0, start_up_s=2.5)
    monkeypatch.setattr(speed, "perf_counter", lambda: clock.now)
    return SpeedMeter(engine, settings=5), clock, engine


def test_one_worker_from_the_beginning_to_the_last_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    meter, clock, _ = _meter(monkeypatch, at_work=1)
    assert meter.speed() is None
    for clock.now in (11.0, 12.0, 15.0):
        meter.row()
    clock.now = 99.0  # measuring and writing come after
    found = meter.speed()
    assert found == Speed(answers=3, seconds=5.0, settings=5, workers=1, start_up_s=2.5)
    assert found.questions_per_second == pytest.approx(3 / 5 / 5)
    assert str(found).startswith("0.12 questions/s (3 answers to 5 settings a question in 5.0 s, 1 worker, after 2.5 s")


def test_a_later_worker_starts_the_count_anew_and_a_replaced_one_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    meter, clock, engine = _meter(monkeypatch, at_work=1)
    for clock.now in (11.0, 12.0):
        meter.row()
    engine.at_work, engine.since = 2, 12.5
    for clock.now in (13.0, 13.5):
        meter.row()
    assert meter.speed() == Speed(answers=2, seconds=1.0, settings=5, workers=2, start_up_s=2.5)
    engine.since = 13.6  # at_work has not grown
    clock.now = 14.5
    meter.row()
    assert meter.speed() == Speed(answers=3, seconds=2.0, settings=5, workers=2, start_up_s=2.5)
