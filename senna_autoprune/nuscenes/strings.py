"""The question strings of the original, loaded from ``strings.json``: the one place where they are written.

Source and licence stand in the data file itself.
"""

from __future__ import annotations

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

QUESTION_TYPES = ("plan", "vru", "motion", "light", "description", "explanation")
GEOMETRIC_TYPES = ("plan", "vru", "motion")
TEACHER_TYPES = ("light", "description", "explanation")


@lru_cache(maxsize=1)
def strings() -> dict[str, Any]:
    """The parsed ``strings.json``. Shared: treat it as read-only."""
    return json.loads(files(__package__).joinpath("strings.json").read_text(encoding="utf-8"))


def view_names() -> tuple[str, ...]:
    """The six views in the order in which the released converter asks about them: front, front right, ..."""
    return tuple(strings()["views"])


def view_order(variant: str) -> tuple[str, ...]:
    """Views in the order of a record's files: ``fixed`` as the prompt names them, ``reference`` as released."""
    return tuple(strings()["view_orders"][variant])


def channel(view: str) -> str:
    """The nuScenes channel of a view: ``front left`` -> ``CAM_FRONT_LEFT``."""
    return strings()["views"][view]["channel"]


def question_type(text: str) -> str:
    """The type of a question, by the words only that type holds; ``other`` if none fits."""
    for kind in QUESTION_TYPES:
        if strings()[kind]["mark"] in text:
            return kind
    return "other"


def question_view(text: str) -> str | None:
    """The view a motion or description question asks about; None for every other question."""
    kind = question_type(text)
    for view, entry in strings()["views"].items():
        if kind == "motion" and f"dynamic objects in the {view} view image." in text:
            return view
        if kind == "description" and f"captured by the car's {entry['camera']}," in text:
            return view
    return None
