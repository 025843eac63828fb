"""What somebody wrote down of a question's scene."""

from __future__ import annotations

from typing import Any

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.json_files import LONGEST_NAME
from senna_autoprune.nuscenes.questions_file import Question


def scene_facts(record: Question, sidecar: dict[str, Any]) -> dict[str, str]:
    """``description`` and ``location`` of the record's scene, as far as anybody wrote them down. SennaPruneError: longer than a name."""
    scenes = sidecar.get("scenes")
    listed = scenes.get(record.scene) if isinstance(scenes, dict) else None
    facts: dict[str, str] = {}
    for source in (listed, record.get("senna_prune"), record):
        if isinstance(source, dict):
            facts.update({k: source[k] for k in ("description", "location") if isinstance(source.get(k), str)})
    for name, text in facts.items():
        if len(text) > LONGEST_NAME:
            raise SennaPruneError(f"the {name} of the scene of {record.token} has {len(text)} characters, more than {LONGEST_NAME}")
    return facts
