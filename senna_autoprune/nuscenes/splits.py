"""Which scenes a split or a list of names means."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.json_files import read_json

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes


def scenes_of_split(nusc: NuScenes, split: str | None = None, names: Sequence[str] = ()) -> tuple[list[dict[str, Any]], list[str]]:
    """Scene rows of a split (in the devkit's order) and the names of its scenes that the tables do not have.

    Args:
        split: a split name of the devkit (``mini_val``, ``val``, ...) or of the tables' own ``splits.json``, ``all`` for
            every scene of the tables, None for just ``names``.
        names: if given, only these scenes of the split.
    Raises:
        SennaPruneError: no such split, a named scene outside the split, or not one scene left.
    """
    rows: dict[str, list[dict[str, Any]]] = {}  # a name may stand for several scenes
    for row in nusc.scene:
        rows.setdefault(row["name"], []).append(row)
    if split is None:
        wanted = list(names)
    elif split == "all":
        wanted = list(rows)
    else:
        wanted = _split_names(nusc, split)
    if names:
        outside = [name for name in names if name not in wanted]
        if outside:
            raise SennaPruneError(f"{', '.join(outside)}: not in split {split}; leave --split out to take any scene")
        wanted = [name for name in wanted if name in set(names)]
    absent = [name for name in wanted if name not in rows]
    if len(absent) == len(wanted):
        there = ", ".join(sorted(rows)[:12]) + (", ..." if len(rows) > 12 else "")
        raise SennaPruneError(f"none of the {len(wanted)} scenes asked for is in {nusc.table_root}, which has {there}")
    return [row for name in dict.fromkeys(wanted) if name in rows for row in rows[name]], absent


def scene_key(nusc: NuScenes, row: dict[str, Any]) -> str:
    """A scene's name; with its token where another scene of the tables has the same name."""
    same = sum(other["name"] == row["name"] for other in nusc.scene)
    return f"{row['name']} ({row['token']})" if same > 1 else row["name"]


def _split_names(nusc: NuScenes, split: str) -> list[str]:
    """Scene names of one of the devkit's own splits, or of one that ``splits.json`` beside the tables defines (devkit 1.2)."""
    from nuscenes.utils.splits import create_splits_scenes

    splits = create_splits_scenes()
    own = Path(nusc.table_root) / "splits.json"
    if split not in splits and own.is_file():
        custom = read_json(own)
        lists = custom.values() if isinstance(custom, dict) else [None]
        if not all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists):
            raise SennaPruneError(f"{own}: it must map a split's name to a list of scene names")
        splits = {**splits, **custom}
    if split not in splits:
        raise SennaPruneError(f"unknown split {split!r}: use one of {', '.join(splits)}, all")
    return list(splits[split])
