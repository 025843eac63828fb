"""Pictures opened by a thread ahead of the model: the next keyframes' are decoded and resized while it answers what comes before.

What is opened, and in which order, is what would be opened without the thread; so the answers are the same. A fault is raised where the
picture is wanted. At most ``KEYFRAMES`` wait beside the one that is answered; nothing is opened that nobody comes for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import torch

from senna_autoprune.adapters.views import Asked
from senna_autoprune.device import cores

KEYFRAMES = 2  # opened ahead: of six cameras 17 MB for Senna, 26 MB as pictures


class LookAhead:
    """A context manager; leaving it ends the thread after the keyframe it is at.

    Args:
        opens: of a ``DrivingModel``. coming: a question of each keyframe, in the order in which they will be taken; asked as they are due.
    """

    def __init__(self, opens: Callable[[Asked], Any], coming: Iterator[Asked], keyframes: int = KEYFRAMES) -> None:
        self._opens, self._coming, self._keyframes = opens, coming, keyframes
        self._thread = ThreadPoolExecutor(1, "pictures")
        self._waiting: deque[tuple[Asked, Future[Any]]] = deque()

    def __enter__(self) -> Self:
        self._fill()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._waiting.clear()

    def take(self, asked: Asked) -> Any:
        """What ``opens`` returns for this question, or raises; one that does not come next is opened here and now."""
        if not self._waiting or self._waiting[0][0] != asked:
            return self._opens(asked)
        _, opened = self._waiting.popleft()
        self._fill()
        return opened.result()

    def _fill(self) -> None:
        while len(self._waiting) < self._keyframes and (asked := next(self._coming, None)) is not None:
            self._waiting.append((asked, self._thread.submit(self._opens, asked)))


def worth_it(device: torch.device) -> bool:
    """Whether a thread has time of its own: beside an accelerator, or where there are more cores than threads that compute."""
    return device.type != "cpu" or cores() > torch.get_num_threads()
