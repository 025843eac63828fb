"""Whether a checkpoint's files are those that a run was made with, without reading gigabytes of weights: names, sizes, times of change.

A run keeps the stamp of its model beside the hash of its weights. Equal stamps: the weights need not be loaded to know what they are.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from senna_autoprune.adapters.open import FAMILIES
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.engine import ModelPlace
from senna_autoprune.files.json_files import read_json

MOST_FILES = 10_000


def stamp_of(place: ModelPlace) -> str | None:
    """Changes when a file does that the model is made of. None where files cannot tell: hub ids, adapters in Python, huge folders."""
    adapter = place.adapter
    if not Path(place.model).is_dir() or (adapter is not None and adapter not in FAMILIES and not Path(adapter).is_file()):
        return None
    sources = [place.model, place.vision_tower, adapter, *_own_tower(Path(place.model))]
    listed: list[Any] = []
    try:
        for source in filter(None, sources):
            path = Path(source)
            files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path] if path.is_file() else []
            if len(files) > MOST_FILES:
                return None
            listed.append([source, [(str(file), at.st_size, at.st_mtime_ns) for file in files if (at := file.stat())]])
    except OSError:
        return None
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:32]


def _own_tower(checkpoint: Path) -> list[str]:
    """The tower that a checkpoint in the original layout names: its folder, or where the hub's cache has it ("" if nowhere)."""
    try:
        values = read_json(checkpoint / "config.json")
    except SennaPruneError:
        return []
    named = values.get("mm_vision_tower") if isinstance(values, dict) else None
    if not isinstance(named, str) or not named:
        return []
    if Path(named).is_dir():
        return [named]
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(named, "config.json")
    except HFValidationError:
        return [f"nowhere: {named}"]
    return [str(Path(found).parent) if isinstance(found, str) else f"nowhere: {named}"]
