"""Are the tables what the rest of the package takes them for? Kinds, shapes and ranges of every column and row that is read.

The devkit checks nothing. Columns are judged as a whole (a type, an array), so that v1.0-trainval's 2 million rows that questions
read take seconds; the row at fault is looked for only when there is one. Positions may be NaN: no question is asked about them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.json_files import LONGEST_NAME, text_fault

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes

Row = dict[str, Any]

_TEXTS = {
    "scene": ("token", "name", "description", "log_token", "first_sample_token"),
    "sample": ("token", "prev", "next", "scene_token"),
    "sample_data": ("token", "filename", "ego_pose_token", "calibrated_sensor_token"),
    "sample_annotation": ("token", "sample_token", "instance_token", "next", "category_name"),
    "calibrated_sensor": ("token",),
    "ego_pose": ("token",),
    "log": ("location",),
}
_SHOWN = {"scene": ("name", "description"), "log": ("location",), "category": ("name",)}  # texts that reach a terminal or a sidecar
_WHOLE = {  # whole numbers: what they count, and the first one that is too large
    "scene": {"nbr_samples": ("keyframes", 10**6)},
    "sample": {"timestamp": ("microseconds since 1970", 2**32 * 10**6)},
    "sample_data": {
        "timestamp": ("microseconds since 1970", 2**32 * 10**6),
        "width": ("pixels", 2**14),
        "height": ("pixels", 2**14),
    },
}
_VECTORS = {
    "ego_pose": {"translation": 3, "rotation": 4},
    "calibrated_sensor": {"translation": 3, "rotation": 4},
    "sample_annotation": {"translation": 3, "rotation": 4, "size": 3},
}
_FAR_M = 1e8  # farther from the origin than any place on Earth


def check_tables(nusc: NuScenes) -> None:
    """Raises SennaPruneError for the first fault: table, row, column and value."""
    for table, keys in _TEXTS.items():
        for key in keys:
            _check(nusc, table, key, lambda values: set(map(type, values)) <= {str}, "a text")
        rows = len(getattr(nusc, table))
        if "token" in keys and len({row["token"] for row in getattr(nusc, table)}) < rows:
            raise SennaPruneError(f"{_file(nusc, table)}: a token stands for more than one of {rows} rows: unpack the tables again")
    for table, keys in _SHOWN.items():
        for key in keys:
            _check(nusc, table, key, _shown, f"a text to be shown, of at most {LONGEST_NAME} characters")
    for table, columns in _WHOLE.items():
        for key, (what, end) in columns.items():
            _check(nusc, table, key, partial(_whole, end=end), f"{what}, a whole number from 0 to {end - 1}")
    for table, sizes in _VECTORS.items():
        for key, size in sizes.items():
            what = "a rotation, four numbers that are not all zero" if key == "rotation" else f"{size} numbers of metres"
            _check(nusc, table, key, partial(_vectors, size=size, rotation=key == "rotation"), what)
    _check(nusc, "calibrated_sensor", "camera_intrinsic", lambda values: all(map(_intrinsic, values)), "a 3 x 3 matrix, or empty")


def _shown(values: Sequence[Any]) -> bool:
    return set(map(type, values)) <= {str} and text_fault(values) is None and max(map(len, values), default=0) <= LONGEST_NAME


def _check(nusc: NuScenes, table: str, key: str, right: Callable[[Sequence[Any]], bool], what: str) -> None:
    rows: list[Row] = getattr(nusc, table)
    try:
        values = [row[key] for row in rows]
    except KeyError:
        index = next(index for index, row in enumerate(rows) if key not in row)
        raise SennaPruneError(f"{_file(nusc, table)}: {_row(rows, index)} has no {key}: unpack the tables again") from None
    if not right(values):
        index = next((index for index, value in enumerate(values) if not right([value])), 0)
        raise SennaPruneError(
            f"{_file(nusc, table)}: {key} of {_row(rows, index)} is {repr(values[index])[:80]}, not {what}: unpack the tables again"
        )


def _row(rows: list[Row], index: int) -> str:
    """A row by its token: rows were dropped while reading, so its number is not that in the file."""
    token = rows[index].get("token")
    return f"row {token}" if isinstance(token, str) else f"row {index}"


def _file(nusc: NuScenes, table: str) -> str:
    return f"tables in {nusc.table_root}: {table}.json"


def _whole(values: Sequence[Any], end: int) -> bool:
    return not values or (set(map(type, values)) <= {int} and min(values) >= 0 and max(values) < end)


def _vectors(values: Sequence[Any], size: int, rotation: bool) -> bool:
    if not (set(map(type, values)) <= {list} and set(map(len, values)) <= {size} and _numbers(chain.from_iterable(values))):
        return False
    array = _array(values)
    if array is None:
        return False
    array = array.reshape(-1, size)  # (n, size)
    if rotation:
        return bool(np.isfinite(array).all() and (np.abs(array).max(axis=1, initial=0) > 1e-6).all() and (np.abs(array) < 1e6).all())
    return not bool((np.isfinite(array) & (np.abs(array) > _FAR_M)).any())


def _intrinsic(value: Any) -> bool:
    if value == []:
        return True
    if not (isinstance(value, list) and all(isinstance(row, list) for row in value) and [len(row) for row in value] == [3, 3, 3]):
        return False
    array = _array(value) if _numbers(chain.from_iterable(value)) else None
    return array is not None and bool(np.isfinite(array).all())


def _numbers(values: Iterable[Any]) -> bool:
    return set(map(type, values)) <= {int, float}


def _array(values: Sequence[Any]) -> np.ndarray | None:
    try:
        return np.array(values, dtype=float)
    except OverflowError:  # an integer beyond all floats
        return None
