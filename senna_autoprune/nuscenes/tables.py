"""Opening nuScenes tables: which folder is meant, what reading it will cost, and what comes of it.

Neither map masks nor LIDAR segmentation nor any file but the tables is needed.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.nuscenes.strings import channel, view_names
from senna_autoprune.nuscenes.table_check import check_tables

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes

logger = logging.getLogger(__name__)

LIDAR = "LIDAR_TOP"
_LARGE_BYTES = 2e8  # of tables: seconds of reading, said whoever asked for them
_BYTES_A_SECOND = 45e6  # a guess for one core of a small machine; tools/maintain/trainval_replica.py measures yours
_MEMORY_A_BYTE = {"sample_annotation": 2.9, "sample_data": 0.7, "ego_pose": 0.7}  # of what is kept; other tables as they are


def needed_channels() -> tuple[str, ...]:
    """The seven channels that questions read: the LIDAR (its rows, not its files) and six cameras."""
    return (LIDAR, *map(channel, view_names()))


def load_tables(
    dataroot: str | os.PathLike[str],
    version: str,
    *,
    channels: Mapping[str, str] | None = None,
    sweeps: bool = False,
    say: Callable[[str], None] | None = None,
) -> NuScenes:
    """The devkit's tables of ``DATAROOT/VERSION``: keyframes and their poses (``devkit.KeyframeTables``).

    Args:
        dataroot: may begin with ``~``, and may be the folder of the tables itself.
        channels: our channel -> the name it has in these tables, e.g. ``{"CAM_FRONT": "CAM_FRONT_WIDE"}``.
        sweeps: keep the LIDAR sweeps' rows and poses, which lie between the keyframes (for resampling).
        say: called with a line before reading, after each large table, and at the end; None: lines about large tables are logged.
    Raises:
        SennaPruneError: the folder or a table is missing or broken, a column that is read holds what it must not, no keyframe has one
            of the seven channels, or memory does not suffice.
    """
    channels = dict(channels or {})
    unknown = [name for name in channels if name not in needed_channels()]
    if unknown:
        raise SennaPruneError(f"--channels {unknown[0]}=...: name one of {', '.join(needed_channels())} on the left")
    root = find_root(dataroot, version)
    size, cost = _cost(os.path.join(root, version))
    if say is None:
        say = _log if size > _LARGE_BYTES else _quiet
    say(f"{version} from {root}: {cost}")
    started = time.perf_counter()
    collecting = gc.isenabled()
    gc.disable()  # millions of rows that all stay: looking through them for garbage is a third of the time
    try:
        from senna_autoprune.nuscenes.devkit import KeyframeTables

        nusc = KeyframeTables(version, root, needed_channels(), channels, LIDAR if sweeps else None, say)
        check_tables(nusc)
    except MemoryError as error:
        raise SennaPruneError(f"not enough memory for the tables of {root}/{version} ({cost}): use a larger machine") from error
    except (SennaPruneError, RecursionError) as error:
        what = f"cannot load nuScenes {version} from {root} ({error})"
        raise SennaPruneError(f"{what}: --dataroot must hold {version}/*.json") from error
    finally:
        if collecting:
            gc.enable()
    _require_channels(nusc)
    held = f"{len(nusc.scene)} scenes, {len(nusc.sample)} keyframes, {len(nusc.sample_annotation)} boxes"
    say(f"{held}: {time.perf_counter() - started:.1f} s")
    return nusc


def _log(line: str) -> None:
    logger.warning(f"loading {line}")


def _quiet(line: str) -> None:
    """Of what is there in a moment."""


def find_root(dataroot: str | os.PathLike[str], version: str) -> str:
    """The data root that is meant: ``~`` and backslashes understood, and the folder of the tables itself taken for its parent."""
    text = os.path.expanduser(os.fspath(dataroot))
    if "\\" in text and not os.path.exists(text):
        text = text.replace("\\", "/")
    root = os.path.abspath(text)
    is_tables = os.path.basename(root) == version and os.path.isfile(os.path.join(root, "scene.json"))
    return os.path.dirname(root) if is_tables and not os.path.isdir(os.path.join(root, version)) else root


def _cost(folder: str) -> tuple[int, str]:
    """How large the tables are in bytes; and that, how long reading takes and how much memory they will fill in words."""
    sizes = {}
    try:
        with os.scandir(folder) as entries:
            sizes = {entry.name[:-5]: entry.stat().st_size for entry in entries if entry.name.endswith(".json") and entry.is_file()}
    except OSError:
        pass  # reading says what is wrong
    size = sum(sizes.values())
    memory = sum(_MEMORY_A_BYTE.get(name, 1.0) * size for name, size in sizes.items()) + 3e8
    return size, f"{size / 1e9:.2f} GB of tables, about {max(1, round(size / _BYTES_A_SECOND))} s and {memory / 1e9:.1f} GB of memory"


def _require_channels(nusc: NuScenes) -> None:
    """Every channel at some keyframe at least: where one is nowhere, it has another name."""
    there: set[str] = set()
    for row in nusc.sample:
        there |= row["data"].keys()
        if there.issuperset(needed_channels()):
            return
    absent = [name for name in needed_channels() if name not in there]
    if absent and nusc.sample:
        raise SennaPruneError(
            f"tables in {nusc.table_root}: no keyframe has a row of channel {absent[0]!r}; "
            f"they know {', '.join(sorted(str(row['channel']) for row in nusc.sensor))}: "
            f"name it with --channels {absent[0]}=NAME"
        )
