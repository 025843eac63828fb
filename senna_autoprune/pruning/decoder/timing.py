"""How much of a prefill is the pruner's own work, by the host's clock."""

from __future__ import annotations

from time import perf_counter
from types import TracebackType
from typing import Self


class HostTimer:
    """Adds up the seconds spent in ``with timer:``; a block within a block counts once.

    It never waits for a device, so on a GPU, which works after the call has returned, its seconds mean nothing.
    """

    seconds: float = 0.0
    _depth: int = 0
    _begun: float = 0.0

    def __enter__(self) -> Self:
        if not self._depth:
            self._begun = perf_counter()
        self._depth += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._depth -= 1
        if not self._depth:
            self.seconds += perf_counter() - self._begun

    def take(self) -> float:
        """The seconds so far; the timer starts again at 0."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds
