"""All hostile inputs, by kind."""

from __future__ import annotations

from tests.hostile import images, questions
from tests.hostile.case import Case


def all_cases() -> list[Case]:
    """Every case, in the order of the files."""
    return [*images.CASES, *questions.CASES]
