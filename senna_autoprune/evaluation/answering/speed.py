"""How fast a run's answers came, its start-up left out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from senna_autoprune.evaluation.answering.engine import Engine


@dataclass(frozen=True)
class Speed:
    """``answers`` came in ``seconds`` from ``workers``, counted from when all of these had their model and there was
    work; ``settings`` answers make a question. ``start_up_s``: what came before, None if it was not measured.
    """

    answers: int
    seconds: float
    settings: int
    workers: int
    start_up_s: float | None

    @property
    def questions_per_second(self) -> float:
        """Questions answered under all settings."""
        return self.answers / self.settings / self.seconds

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "questions_per_second": self.questions_per_second}

    def __str__(self) -> str:
        workers = f"{self.workers} worker" + ("s" if self.workers > 1 else "")
        start_up = "" if self.start_up_s is None else f", after {self.start_up_s:.1f} s of start-up"
        return (
            f"{self.questions_per_second:.3g} questions/s ({self.answers} answers to {self.settings} settings a question in "
            f"{self.seconds:.1f} s, {workers}{start_up})"
        )


class SpeedMeter:
    """Counts rows; starts anew when more workers are at work than ever before. Make it when the asking begins."""

    def __init__(self, engine: Engine, settings: int) -> None:
        self._engine = engine
        self._settings = settings
        self._created = self._begun = self._last = perf_counter()
        self._workers = self._rows = 0

    def row(self) -> None:
        """An answer has come."""
        if self._engine.at_work > self._workers:
            self._workers, self._rows = self._engine.at_work, 0
            self._begun = max(self._created, self._engine.since)
        self._rows += 1
        self._last = perf_counter()

    def speed(self) -> Speed | None:
        """None if no answer came."""
        if not self._rows:
            return None
        return Speed(self._rows, self._last - self._begun, self._settings, self._workers, self._engine.start_up_s)
