"""What a stock model knows of a step and does not tell its cache: after the ``with`` no hook is there to see it, so the frames are read."""

from __future__ import annotations

import sys
from typing import Any

DEPTH = 4  # frames from a cache layer to whoever asked its cache


def local_of_caller(name: str) -> Any:
    """The nearest caller's local variable, if it is set; None: nobody near has one."""
    frame = sys._getframe(2)
    for _ in range(DEPTH):
        if frame is None:
            return None
        if frame.f_locals.get(name) is not None:
            return frame.f_locals[name]
        frame = frame.f_back  # type: ignore[assignment]
    return None


def asked_by_generate() -> bool:
    """Whether ``generate`` itself, and not a model's forward, is asking a cache layer."""
    frame = sys._getframe(2)
    for _ in range(2):  # the layer's method's caller is the cache, and its caller the one who asks
        if frame is not None and frame.f_globals.get("__name__") == "transformers.generation.utils":
            return True
        frame = frame.f_back if frame is not None else None  # type: ignore[assignment]
    return False
