"""What a teacher behind the cache must be: something that answers one question about one image.

As in the released converter the teacher sees one image and the bare question, answers greedily and in at most 512 tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

MAX_NEW_TOKENS = 512


class TeacherError(Exception):
    """One question got no answer. The build counts it and goes on."""


class Backend(Protocol):
    """Something that answers. ``identity`` is all that its answers depend on besides question and image."""

    identity: dict[str, Any]
    concurrency: int

    def answer(self, question: str, image: Path) -> str:
        """The answer. Raises TeacherError for this question, SennaPruneError if no question can be answered."""
        ...

    def close(self) -> None:
        """Stop: answers under way may raise."""
        ...
