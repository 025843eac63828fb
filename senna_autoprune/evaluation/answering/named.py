"""What a run folder points to, and only its user may have opened: checkpoint, vision tower, adapter, images, a method of one's own.

The folder may be a stranger's. What it holds is data; what it points to is a place on this machine, a hub id or a program. Whatever asks
a run's model again opens only what this package brings along, and what the user names on the command line himself.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from senna_autoprune.adapters.open import FAMILIES, is_program, python_adapters
from senna_autoprune.demo import label_of
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.runs.rows import SeenImage
from senna_autoprune.pruning.methods.registry import METHODS, announced

OPTIONS = {"model": "model", "vision_tower": "vision_tower", "adapter": "adapter", "images": "images_root"}  # option: its key in ``places``
WORDS = {"vision_tower": "the vision tower ", "adapter": "the adapter ", "images": "the images in ", "method": "the method "}


def pointed_to(description: Mapping[str, Any], method: str | None = None) -> dict[str, str]:
    """Option -> value, of everything outside this package that a run's model is asked again with.

    Args:
        description: the run's ``config.yaml``.
        method: of its settings (``settings[NAME]["method"]``); None: that of ``config.method``.
    """
    places, settings = (description.get(key) or {} for key in ("places", "settings"))
    if method is None:
        method = (settings.get((description.get("config") or {}).get("method")) or {}).get("method")
    values = {**{option: places.get(key) for option, key in OPTIONS.items()}, "method": method}
    return {option: str(value) for option, value in values.items() if value is not None and not _ours(option, str(value))}


def _ours(option: str, value: str) -> bool:
    if option == "method":
        return value in METHODS or value in announced()
    if option == "adapter":
        return value in FAMILIES or value in python_adapters()
    return label_of(value) is not None


def in_words(options: Mapping[str, str]) -> str:
    """Options as they are typed, each with a space before it."""
    return "".join(f" --{option.replace('_', '-')} {shlex.quote(value)}" for option, value in options.items())


def require_named(run: str | Path, description: Mapping[str, Any], method: str | None, named: Collection[str]) -> None:
    """SennaPruneError: the run points to what is not among ``named``, the options that the user gave. It says which to add."""
    missing = {option: value for option, value in pointed_to(description, method).items() if option not in named}
    if not missing:
        return
    it = "it" if len(missing) == 1 else "them"
    what = ", ".join(f"{WORDS.get(option, '')}{value}" for option, value in missing.items())
    said = f"{run} was answered with {what}: name {it} again to open {it}:{in_words(missing)}"
    programs = [value for option, value in missing.items() if option == "method" or (option == "adapter" and is_program(value))]
    raise SennaPruneError(said + "".join(f"; {value} is a program: only if you trust it" for value in programs))


def require_under(shown: Iterable[Path], root: Path, noted: Iterable[SeenImage], run: str | Path) -> None:
    """SennaPruneError: one of the pictures (``root`` / its name in the run) leads out of the folder of images, and its content was not
    noted as answered from: only the run says that it is the run's.
    """
    known, folder = {root / one.image for one in noted}, os.path.abspath(root)
    for picture in shown:
        if picture not in known and not Path(os.path.abspath(picture)).is_relative_to(folder):
            raise SennaPruneError(
                f"{run} names the picture {picture}, which is not under {root}: name a folder that holds it with --images"
            )
