"""The embedded default: synthetic driving scenes in nuScenes format, and a small Senna trained on such scenes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parent


class EmbeddedDemo(NamedTuple):
    """Where the package keeps them. model: checkpoint folder; questions: question file; dataroot: nuScenes-format tables and images."""

    model: Path
    questions: Path
    dataroot: Path


def embedded() -> EmbeddedDemo | None:
    """The embedded model and scenes, or None if this copy of the package ships none."""
    demo = EmbeddedDemo(FOLDER / "model", FOLDER / "data" / "questions.json", FOLDER / "data")
    return demo if (demo.model / "config.json").exists() and demo.questions.exists() else None
