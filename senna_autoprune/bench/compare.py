"""A measurement beside an earlier one of the same shape, setting by setting."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from senna_autoprune.bench.passes import BenchRow
from senna_autoprune.errors import SennaPruneError

MAX_BYTES = 20_000_000


@dataclass(frozen=True)
class Pair:
    """One setting then and now: medians in ms, speed-ups over the unpruned row of the same measurement."""

    setting: str
    before_ms: float
    now_ms: float
    before_speedup: float
    now_speedup: float


def read_earlier(path: Path) -> dict[str, Any]:
    """A document of ``senna-prune bench``: a JSON file, or the command's output, whose last line it is.

    Raises:
        SennaPruneError: unreadable, too large, or not such a document.
    """
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise SennaPruneError(f"{path} is not a file of at most {MAX_BYTES / 1e6:.0f} MB: name the JSON of an earlier bench")
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SennaPruneError(f"cannot read {path}: {error}") from error
    for candidate in (text, text.rpartition("\n")[2]):
        try:
            found = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and isinstance(found.get("rows"), list) and isinstance(found.get("shape"), dict):
            return found
    raise SennaPruneError(f"{path} holds no measurement: name a file with the last line that `senna-prune bench` printed")


def pairs(earlier: dict[str, Any], now: dict[str, Any], rows: Sequence[BenchRow], path: Path) -> list[Pair]:
    """The settings that both measured, in the order of now.

    Args:
        earlier: of ``read_earlier``. now: the document of this measurement (its shape, clock and machine). rows: of this one.
    Raises:
        SennaPruneError: another shape, clock, dtype or device (named), a broken row, or no setting in common.
    """
    for name, there, here in _conditions(earlier, now):
        if there != here:
            raise SennaPruneError(f"{path} was measured with {name} {there}, this with {here}: nothing to compare")
    found = {}
    for row in earlier["rows"]:
        try:
            figures = float(row["prefill_ms"]["median"]), float(row["speedup"])
            found[row["setting"]] = figures
        except (TypeError, KeyError, ValueError) as error:
            raise SennaPruneError(f"{path}: a row lacks its setting, prefill_ms.median or speedup") from error
        if not all(math.isfinite(figure) and figure > 0 for figure in figures):
            raise SennaPruneError(f"{path}: {row['setting']!r} has a time or speed-up that is no positive number")
    same = [
        Pair(row.setting, before_ms, row.prefill_ms.median, before_speedup, row.speedup)
        for row in rows
        if row.setting in found
        for before_ms, before_speedup in (found[row.setting],)
    ]
    if not same:
        raise SennaPruneError(f"{path} has none of this measurement's settings ({', '.join(row.setting for row in rows)})")
    return same


def _conditions(earlier: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    shapes = [("shape." + name, earlier["shape"].get(name), value) for name, value in now["shape"].items()]
    there, here = (found if isinstance(found := document.get("machine"), dict) else {} for document in (earlier, now))
    return [
        *shapes,
        ("clock", earlier.get("clock"), now.get("clock")),
        *((name, there.get(name), here.get(name)) for name in ("dtype", "device")),
    ]
