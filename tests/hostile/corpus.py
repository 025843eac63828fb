"""All hostile inputs, by kind."""

from __future__ import annotations

from tests.hostile import checkpoints, code, configs, images, pipes, places, questions, resources, results, runs, siblings, tables
from tests.hostile.case import Case

KINDS = (images, questions, tables, checkpoints, code, configs, runs, places, resources, pipes, results, siblings)


def all_cases() -> list[Case]:
    """Every case, in the order of the files."""
    return [case for kind in KINDS for case in kind.CASES]
