"""All hostile inputs, by kind."""

from __future__ import annotations

from tests.hostile import checkpoints, code, configs, images, questions, runs, tables
from tests.hostile.case import Case


def all_cases() -> list[Case]:
    """Every case, in the order of the files."""
    return [*images.CASES, *questions.CASES, *tables.CASES, *checkpoints.CASES, *code.CASES, *configs.CASES, *runs.CASES]
