"""A small sweep, and a tiny Senna that answers it."""

from __future__ import annotations

from typing import Any

from senna_autoprune.evaluation.sweep.config import SweepConfig
from tests.evaluation.conftest import LABELS, Asked, Place, counting_senna

METHODS_ASKED = ("autoprune", "fastv", "divprune")


def sweep_config(place: Place, **changes: Any) -> SweepConfig:
    values: dict[str, Any] = {
        "questions": str(place.questions),
        "out": str(place.folder / "sweep"),
        "methods": METHODS_ASKED,
        "retention": (0.5, 0.8),
        "max_new_tokens": 3,
        "resamples": 100,
    }
    return SweepConfig(**{**values, **changes})


def talking() -> Asked:
    """A tiny Senna whose words are planning answers: which one, its random tokens decide."""
    asked = counting_senna()

    def talk(ids: Any, prompt_length: int) -> list[str]:
        return [LABELS[int(row[prompt_length:].sum()) % len(LABELS)].strip() for row in ids]

    asked.senna.processor.decode_answers = talk  # type: ignore[method-assign]
    return asked
