"""Two runs compared, on one page."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from senna_autoprune.files.atomic import write_atomically
from senna_autoprune.replay.pages import environment
from senna_autoprune.report.page import PACKAGE, frame
from senna_autoprune.tables.compare import grids

SECTIONS = [("verdict", "Verdict"), ("tables", "Tables"), ("run", "What was run")]


def write_comparison(found: Mapping[str, Any], path: Path) -> Path:
    """The page of ``evaluation.compare.compare``'s result. SennaPruneError: its folder cannot be written."""
    sides = [found["a"], found["b"]]
    label = next((side["label"] for side in sides if side["label"]), None)
    groups = [(name, [("run", side["run"]), ("setting", side["setting"])]) for name, side in zip("AB", sides, strict=True)]
    runs, about = f"{found['a']['run']} and {found['b']['run']}", f"{found['questions']} questions, {found['scenes']} scenes"
    page = environment(PACKAGE).get_template("budget.html.j2").render(
        **frame(runs, "Two runs compared", label, about, datetime.now(UTC)),
        sections=SECTIONS,
        sentence=found["sentence"],
        notes=[found["warning"]] if found["warning"] else [],
        picture=None,
        caption=None,
        tables=grids(found),
        groups=groups,
    )  # fmt: skip
    write_atomically(path, page)
    return path
