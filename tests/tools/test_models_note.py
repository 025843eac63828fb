"""docs/models.md says what the tables say."""

from __future__ import annotations

import runpy
from pathlib import Path

from senna_autoprune.pruning.decoder.proven import PROVEN, REFUSED

ROOT = Path(__file__).resolve().parents[2]


def test_the_note_is_made_from_the_tables():
    made = runpy.run_path(str(ROOT / "tools" / "maintain" / "models_note.py"))["note"]()
    written = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert written == made, "run python tools/maintain/models_note.py"
    assert all(f"| `{kind}` |" in written for kind in PROVEN) and all(f"`{kind}`" in written for kind in REFUSED)
