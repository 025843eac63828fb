"""Other makers' names: ``--channels`` and ``--categories``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.json_files import read_json
from senna_autoprune.files.yaml_files import read_yaml, suggest
from senna_autoprune.nuscenes.strings import strings
from senna_autoprune.nuscenes.tables import needed_channels

OTHER = "other"  # a category that is known to be no road user the questions name


def parse_channels(pairs: Sequence[str]) -> dict[str, str]:
    """``["CAM_FRONT=CAM_FRONT_WIDE", ...]`` as a mapping from our channel to the tables'.

    Raises:
        SennaPruneError: a part is no ``OURS=THEIRS``, ours is not one of the seven, or one is named twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        ours, _, theirs = (part.strip() for part in pair.partition("="))
        if ours not in needed_channels() or not theirs:
            raise SennaPruneError(f"--channels {pair}: write OURS=THEIRS with one of {', '.join(needed_channels())} on the left")
        if ours in found or theirs in found.values():
            raise SennaPruneError(f"--channels: {ours if ours in found else theirs} is named twice")
        found[ours] = theirs
    return found


def read_categories(path: str | Path) -> dict[str, str]:
    """A YAML or JSON file that maps the tables' category names to ours: ``pedestrian.adult: pedestrian``.

    Ours are the names that questions use (car, pedestrian, bicycle, ...), or ``other`` for what is none of them.

    Raises:
        SennaPruneError: unreadable, no mapping of names to names, or a name that no question uses.
    """
    given = read_json(path) if str(path).endswith(".json") else read_yaml(path)
    known = sorted({*strings()["categories"].values(), OTHER})
    if not isinstance(given, dict) or not given or not all(isinstance(part, str) for pair in given.items() for part in pair):
        raise SennaPruneError(f"{path}: it must map category names to category names, e.g. pedestrian.adult: pedestrian")
    for theirs, ours in given.items():
        if ours not in known:
            raise SennaPruneError(f"{path}: {theirs}: no question knows a {ours!r}{suggest(ours, known)}")
    return {theirs: theirs if ours == OTHER else ours for theirs, ours in given.items()}
