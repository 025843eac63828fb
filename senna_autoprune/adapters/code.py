"""The code of a Python adapter, hashed: a run that was begun with other code is not continued.

A YAML adapter is hashed by its content; a class is hashed by the source files of its module, or of the whole package it lies in.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any

from senna_autoprune.evaluation.runs.identity import CODE

OURS = "senna_autoprune"
MOST_FILES = 100  # named one by one; of larger packages one hash


def code_identity(model: Any) -> dict[str, str]:
    """``{"adapter_code my_module.py": sha256}`` of the files that made a driving model; empty for what comes with this package.

    Args:
        model: its class, and the module that its ``provenance["adapter"]`` names (``package.module:attribute``).
    """
    named = str(getattr(model, "provenance", {}).get("adapter", "")).partition(":")[0]
    found: dict[str, str] = {}
    for name in dict.fromkeys([type(model).__module__, named]):
        if name and name.partition(".")[0] not in (OURS, "builtins"):
            found.update(_files(name))
    if len(found) > MOST_FILES:
        every = "".join(f"{name} {value}\n" for name, value in sorted(found.items()))
        return {CODE: hashlib.sha256(every.encode()).hexdigest()}
    return {f"{CODE} {name}": value for name, value in sorted(found.items())}


def _files(module: str) -> dict[str, str]:
    """File of a module, or files of its whole package, -> SHA-256."""
    top = module.partition(".")[0]
    place = getattr(sys.modules.get(top), "__file__", None)
    if place is None:
        return {module: "no source file"}
    file = Path(place)
    if file.name != "__init__.py":
        return {file.name: _sha256(file)}
    return {str(path.relative_to(file.parent.parent)): _sha256(path) for path in sorted(file.parent.rglob("*.py"))}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no source file"
