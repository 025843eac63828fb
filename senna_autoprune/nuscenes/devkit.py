"""The devkit's ``NuScenes``, filled row by row with what questions read. Importing this imports the devkit.

The devkit's own constructor reads all 6.5 million rows of v1.0-trainval at once, 84 % of them about sweeps, and asks for map masks and
LIDAR segmentation. Here tables are streamed: radars and sweeps, poses that no row left names, and columns of the large tables that no
question and no picture reads are dropped as they pass. What is kept is as the devkit has it (tests/nuscenes/test_tables.py).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from sys import intern
from typing import Any

from nuscenes.nuscenes import NuScenes, NuScenesExplorer
from nuscenes.utils.color_map import get_colormap

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.json_stream import iter_elements

Row = dict[str, Any]

SMALL = ("category", "attribute", "visibility", "instance", "sensor", "calibrated_sensor", "log", "scene", "sample")
TABLES = (*SMALL, "sample_data", "ego_pose", "sample_annotation")  # in the order in which they are read
_FILE_TOKENS = ("token", "sample_token", "ego_pose_token", "calibrated_sensor_token", "channel", "sensor_modality")
_FILE = (*_FILE_TOKENS, "timestamp", "is_key_frame", "filename", "width", "height")
_BOX_TOKENS = ("token", "sample_token", "instance_token", "prev", "next")
_BOX = (*_BOX_TOKENS, "translation", "size", "rotation")


def _kept(row: Row, columns: tuple[str, ...], tokens: tuple[str, ...]) -> Row:
    """These columns of a row, those that it has. Tokens that many rows repeat are kept in memory once."""
    kept = {key: row[key] for key in columns if key in row}
    for key in tokens:
        value = kept.get(key)
        if value.__class__ is str:
            kept[key] = intern(value)  # type: ignore[arg-type]
    return kept


class KeyframeTables(NuScenes):  # type: ignore[misc]  # the devkit has no types
    """Tables of ``DATAROOT/VERSION`` whose ``sample_data`` are keyframes and whose ``ego_pose`` are theirs; ``map`` is empty.

    Args:
        wanted: the channels whose rows are kept.
        channels: our channel -> the tables' own name for it, where they differ.
        sweeps_of: a channel of ours whose sweeps are kept, too (their poses lie between the keyframes).
        say: called with a line after each stage.
    Raises:
        SennaPruneError: a table is missing or broken, or a row lacks what ties it to others.
    """

    def __init__(
        self,
        version: str,
        dataroot: str,
        wanted: Collection[str],
        channels: Mapping[str, str],
        sweeps_of: str | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.version, self.dataroot, self.verbose = version, dataroot, False
        self.table_names = [*TABLES, "map"]
        self.map: list[Row] = []
        self.channels = dict(channels)
        self._wanted, self._say = frozenset(wanted), say
        for name in SMALL:
            setattr(self, name, list(self._rows(name)))
        self._token2ind = {name: self._index(name) for name in SMALL}
        self._channels = self._channels_by_mount(channels)
        self.sample_data = self._timed("sample_data", self._files(sweeps_of))
        wanted = {token: token for row in self.sample_data if isinstance(token := row.get("ego_pose_token"), str)}
        self.ego_pose = self._timed("ego_pose", self._poses(wanted))
        boxes = (_kept(row, _BOX, _BOX_TOKENS) for row in self._rows("sample_annotation"))
        self.sample_annotation = self._timed("sample_annotation", boxes)
        for name in ("sample_data", "ego_pose", "sample_annotation", "map"):
            self._token2ind[name] = self._index(name)
        self._tie()
        self.colormap = get_colormap()
        self.explorer = NuScenesExplorer(self)

    def _rows(self, table: str) -> Iterator[Row]:
        """A table's rows as they pass."""
        path = os.path.join(self.table_root, f"{table}.json")
        count = 0
        for row in iter_elements(path, "table", "rows", "row", "unpack the tables again"):
            if not isinstance(row, dict):
                raise SennaPruneError(f"{path}: row {count} is no object: unpack the tables again")
            count += 1
            yield row
        self._read = count

    def _timed(self, table: str, rows: Iterator[Row]) -> list[Row]:
        started = time.perf_counter()
        kept = list(rows)
        self._say(f"{table}: {len(kept)} of {self._read} rows kept, {time.perf_counter() - started:.1f} s")
        return kept

    def _files(self, sweeps_of: str | None) -> Iterator[Row]:
        for number, row in enumerate(self._rows("sample_data")):
            try:
                channel, row["sensor_modality"] = self._channels[row["calibrated_sensor_token"]]
                if channel not in self._wanted or not (row["is_key_frame"] or channel == sweeps_of):
                    continue
            except (KeyError, TypeError) as error:
                raise self._lost("sample_data", number, error) from None
            row["channel"] = channel
            if isinstance(row.get("filename"), str) and "\\" in row["filename"]:  # packed on Windows
                row["filename"] = row["filename"].replace("\\", "/")
            yield _kept(row, _FILE, _FILE_TOKENS)

    def image_rows(self, samples: Collection[str], cameras: Collection[str]) -> Iterator[Row]:
        """Rows about these cameras at and around these samples, sweeps included, in one pass over the table's file.

        Raises:
            SennaPruneError: the table is broken, or a row lacks what ties it to others.
        """
        for number, row in enumerate(self._rows("sample_data")):
            try:
                channel, _ = self._channels[row["calibrated_sensor_token"]]
                if channel in cameras and row["sample_token"] in samples:
                    yield {**_kept(row, _FILE, ()), "channel": channel, "filename": row["filename"].replace("\\", "/")}
            except (KeyError, TypeError, AttributeError) as error:
                raise self._lost("sample_data", number, error) from None

    def _poses(self, wanted: dict[str, str]) -> Iterator[Row]:
        for row in self._rows("ego_pose"):
            token = row.get("token")
            if token.__class__ is str and token in wanted:
                row["token"] = wanted[token]
                yield row

    def _index(self, table: str) -> dict[str, int]:
        index: dict[str, int] = {}
        for number, row in enumerate(getattr(self, table)):
            try:
                index[row["token"]] = number
            except (KeyError, TypeError) as error:
                raise self._lost(table, number, error) from None
        return index

    def _channels_by_mount(self, channels: Mapping[str, str]) -> dict[str, tuple[str | None, str]]:
        """Mount (``calibrated_sensor``) token -> our name of its channel (None: hidden by one that stands for it) and its modality."""
        theirs = {row.get("channel") for row in self.sensor}
        for ours, name in channels.items():
            if name not in theirs:
                there = ", ".join(sorted(map(str, theirs)))
                raise SennaPruneError(f"--channels {ours}={name}: tables in {self.table_root} have no channel {name}, but {there}")
        names = {row.get("channel"): row.get("channel") for row in self.sensor}
        names.update(dict.fromkeys(channels))  # CAM_FRONT=CAM_WIDE: the tables' own CAM_FRONT, if any, is not it
        names.update({name: ours for ours, name in channels.items()})
        found = {}
        for number, row in enumerate(self.calibrated_sensor):
            try:
                sensor = self.get("sensor", row["sensor_token"])
                found[row["token"]] = (names[sensor["channel"]], sensor["modality"])
            except (KeyError, TypeError) as error:
                raise self._lost("calibrated_sensor", number, error) from None
        return found

    def _tie(self) -> None:
        """What the devkit adds to rows: a box's category, and of each sample its files and boxes."""
        self.sweeps_of_sample: dict[str, list[Row]] = {}  # sample token -> rows between keyframes
        for row in self.sample:
            row["data"], row["anns"] = {}, []
        for table, tie in (("sample_data", self._tie_file), ("sample_annotation", self._tie_box)):
            for number, row in enumerate(getattr(self, table)):
                try:
                    tie(row)
                except (KeyError, TypeError) as error:
                    raise self._lost(table, number, error) from None

    def _tie_file(self, row: Row) -> None:
        if row["is_key_frame"]:
            self.get("sample", row["sample_token"])["data"][row["channel"]] = row["token"]
        else:
            self.sweeps_of_sample.setdefault(row["sample_token"], []).append(row)

    def _tie_box(self, row: Row) -> None:
        instance = self.get("instance", row["instance_token"])
        row["category_name"] = self.get("category", instance["category_token"])["name"]
        self.get("sample", row["sample_token"])["anns"].append(row["token"])

    def _lost(self, table: str, number: int, error: Exception) -> SennaPruneError:
        """A row that lacks a column, or leads to a row that is not there."""
        key = repr(error.args[0])[:80] if isinstance(error, KeyError) else str(error)
        row = getattr(self, table)[number] if hasattr(self, table) and number < len(getattr(self, table)) else {}
        name = f" ({row['token']})" if isinstance(row.get("token"), str) else ""
        where = f"tables in {self.table_root}: {table}.json: row {number}{name}"
        return SennaPruneError(f"{where} needs {key}, which is not there: unpack them again")
