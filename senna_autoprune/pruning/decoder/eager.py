"""Graphs that ``torch.compile`` made before are not run while a policy's hooks are on a model: they may not call hooks that came later.

The compiler's stance is the process's, not a thread's, and policies of several threads do not leave in the order in which they came: the
first to come remembers what it was, the last to leave puts it back.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_LOCK = threading.Lock()
_inside = 0
_before: Any = None


@contextmanager
def without_graphs() -> Iterator[None]:
    """Within it, and within any other that is still open, models run without graphs."""
    global _inside, _before
    with _LOCK:
        stance = torch.compiler.set_stance("force_eager")  # each anew: somebody may have changed it inside another's with
        if not _inside:
            _before = stance
        _inside += 1
    try:
        yield
    finally:
        with _LOCK:
            _inside -= 1
            if not _inside:
                _before.__exit__(None, None, None)
                _before = None
