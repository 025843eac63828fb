"""``questions convert``: a file of somebody else's format to one question file with its sidecar, record by record.

Nothing is dropped in silence: what cannot be asked is counted by its reason, and so is every image that is not there.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from senna_autoprune import __version__
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.formats.pairs import Pair, Unusable, record_of, shown
from senna_autoprune.formats.readers import LICENCES, read_pairs
from senna_autoprune.nuscenes.labels import LabelCounts
from senna_autoprune.nuscenes.questions import FORMAT
from senna_autoprune.nuscenes.questions_file import Question, QuestionWriter, file_sha256, write_sidecar

REPEATED = "asked before with the same answer"
CONTRADICTING = "asked before with another answer"
NO_IMAGES = "an image is missing"
_NUSCENES = re.compile(r"(?:^|.*[/\\])((?:samples|sweeps)[/\\].+)")


def convert(
    path: str | os.PathLike[str],
    images: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    licence: str | None = None,
    require_images: bool = False,
) -> dict[str, Any]:
    """Write the pairs of a file as questions, and return the sidecar.

    Args:
        images: folder that image paths are relative to. Paths like ``../nuscenes/samples/...`` are found below it, too.
        licence: of the source; None: what is known of the format, else "unknown".
        require_images: leave out questions that lack one of their images.
    Raises:
        SennaPruneError: no such file or folder, an unknown format, a broken record, nothing to ask; ``out`` is as it was.
    """
    path, root = Path(path), Path(images)
    if not root.is_dir():
        raise SennaPruneError(f"--images {root} is not a folder: name the one that image paths are relative to")
    if path.exists() and Path(out).exists() and path.samefile(out):
        raise SennaPruneError(f"--out {out} is the file to be converted: name another")
    source, pairs = read_pairs(path)
    counts, skipped = LabelCounts(), Counter[str]()
    asked: dict[tuple[str, str], str] = {}
    categories, scenes, missing, turns = Counter[str](), set[str](), set[str](), 0
    there: dict[str, bool] = {}
    unlabelled = 0
    with QuestionWriter(out) as writer:
        for pair in pairs:
            try:
                text, paths = shown(pair)
            except Unusable as reason:
                skipped[str(reason)] += 1
                continue
            placed = [_placed(root, one, there) for one in paths]
            absent = [one for one in placed if not there[one]]
            missing.update(absent)
            if absent and require_images:
                skipped[NO_IMAGES] += 1
                continue
            record = record_of(pair, placed, text, source, writer.count)
            key = (record["token"], text)
            if key in asked:
                skipped[REPEATED if asked[key] == _answer(pair) else CONTRADICTING] += 1
                continue
            asked[key] = _answer(pair)
            counts.add(Question(record))
            categories.update([pair.category] if pair.category else [])
            scenes.update([pair.scene] if pair.scene else [])
            turns += pair.turn > 0
            unlabelled += pair.answer is None
            writer.write(record)
        if not writer.count:
            reasons = "; ".join(f"{reason} ({count})" for reason, count in skipped.items()) or "it holds no pair"
            raise SennaPruneError(f"{path}: nothing to ask: {reasons}")
        if all(not exists for exists in there.values()):
            raise SennaPruneError(f"not one of {len(there)} images is in {root} (the first missing is {next(iter(there))}): see --images")
    sidecar = {
        "format": FORMAT,
        "sha256": writer.sha256,
        "records": writer.count,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"senna_autoprune": __version__},
        "source": {
            "format": source,
            "file": path.name,
            "sha256": file_sha256(path),
            "licence": licence or LICENCES.get(source, "unknown"),
        },
        "dataroot": str(root.resolve()),
        "samples": {"with_questions": len({token for token, _ in asked}), "missing_images": len(missing)},
        "later_turns": turns,
        "unlabelled": unlabelled,
        "categories": dict(categories.most_common()),
        "scene_tokens": len(scenes),
        "skipped": dict(skipped),
        **counts.to_dict(),
    }
    write_sidecar(out, sidecar)
    return sidecar


def _answer(pair: Pair) -> str:
    return (pair.answer or "").strip()


def _placed(root: Path, path: str, there: dict[str, bool]) -> str:
    """The path as it is opened from ``root``; ``there`` remembers whether it exists. Backslashes are tried as slashes."""
    if path in there:
        return path
    for one in dict.fromkeys((path, path.replace("\\", "/"))):
        inside = _NUSCENES.fullmatch(one)
        for place in (one, *([inside[1]] if inside is not None and inside[1] != one else [])):
            if place in there or os.path.isfile(root / place):
                there.setdefault(place, True)
                if there[place]:
                    return place
    there[path] = False
    return path
