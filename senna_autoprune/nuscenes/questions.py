"""``questions build``: keyframes to question records, streamed to a file, with everything that was counted on the way.

One sample is in memory at a time (with a teacher, the records that wait for its answers too). What is left out, and
why, what fell back on what, and which labels came out go into the sidecar.
"""

from __future__ import annotations

import os
import platform
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version as package_version
from typing import TYPE_CHECKING, Any

from senna_autoprune import __version__
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.nuscenes.can_bus import CanBus
from senna_autoprune.nuscenes.questions_file import Question, QuestionWriter
from senna_autoprune.nuscenes.records import NO_ANSWER, BuildCounts, BuildSettings, PendingRecord, RecordBuilder
from senna_autoprune.nuscenes.scenes import Sample, iter_samples, rows_present
from senna_autoprune.nuscenes.splits import scene_key, scenes_of_split
from senna_autoprune.nuscenes.strings import QUESTION_TYPES, TEACHER_TYPES
from senna_autoprune.nuscenes.teacher.backend import TeacherError
from senna_autoprune.nuscenes.teacher.teacher import Teacher

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes

FORMAT = "senna-prune questions 1"


def build_questions(
    nusc: NuScenes,
    out: str | os.PathLike[str],
    settings: BuildSettings | None = None,
    *,
    split: str | None = None,
    scenes: Sequence[str] = (),
    can_bus: str | os.PathLike[str] | None = None,
    teacher: Teacher | None = None,
    on_sample: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Write the questions of a split to ``out``, its sidecar beside it, and return the sidecar.

    Args:
        nusc: tables, from ``scenes.load_tables``.
        split, scenes: as ``scenes.scenes_of_split``.
        can_bus: folder that holds ``can_bus/``; the tables' own by default.
        teacher: answers light, description and explanation questions; without one they are left out.
        on_sample: called with (samples done, samples in all) after each sample.
    Raises:
        SennaPruneError: bad split, no scene, nothing to ask, an unwritable file, broken tables, or a teacher that
            cannot be reached; ``out`` is then as it was before.
    """
    settings = settings or BuildSettings()
    types = [kind for kind in QUESTION_TYPES if kind in settings.types and (teacher or kind not in TEACHER_TYPES)]
    if not types:
        raise SennaPruneError(f"only a teacher can answer {', '.join(settings.types)}: name one with --teacher")
    rows, absent = scenes_of_split(nusc, split, scenes)
    bus = CanBus(os.path.abspath(os.path.expanduser(can_bus)) if can_bus else nusc.dataroot)
    counts = BuildCounts()
    builder = RecordBuilder(settings, types, counts, teacher)
    total = sum(row["nbr_samples"] for row in rows)

    def samples() -> Iterator[Sample]:
        for row in rows:
            key = scene_key(nusc, row)

            def lost(why: str, key: str = key) -> None:
                counts.samples += 1
                counts.find(why, key)

            for sample in iter_samples(
                nusc, row, bus, settings.navigation, categories=settings.categories, resample=settings.resample, on_lost=lost
            ):
                yield sample
                counts.samples += 1
                if on_sample:
                    on_sample(counts.samples, total)

    def sidecar(writer: QuestionWriter) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "sha256": writer.sha256,
            "records": writer.count,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {
                "senna_autoprune": __version__,
                "nuscenes-devkit": package_version("nuscenes-devkit"),
                "python": platform.python_version(),
            },
            "data": {
                "version": nusc.version,
                "split": split,
                "scenes_asked": list(scenes),
                "channels": dict(getattr(nusc, "channels", {})),
                "categories": dict(settings.categories),
                "resample": settings.resample,
            },
            "dataroot": nusc.dataroot,
            "variant": {"navigation": settings.navigation, "views": settings.views},
            "notes": settings.notes(),
            "types": types,
            "types_left_out": [kind for kind in settings.types if kind not in types],
            "require_images": settings.require_images,
            "teacher": teacher.describe() if teacher else None,
            "scenes": {scene_key(nusc, row): _scene_facts(nusc, row) for row in rows},
            "scenes_absent": absent,
            **_counted(counts, {scene_key(nusc, row): bus.missing.get(row["name"], "") for row in rows}),
        }

    last = ""
    with QuestionWriter(out, sidecar) as writer:
        pending = (record for sample in samples() for record in builder.records(sample))
        for record in _answered(pending, counts, limit=2 * teacher.concurrency if teacher else 0):
            counts.labels.add(Question(record))
            counts.asked += record["token"] != last  # a sample's records follow one another
            last = record["token"]
            writer.write(record)
    return writer.sidecar


def _scene_facts(nusc: NuScenes, row: dict[str, Any]) -> dict[str, Any]:
    with rows_present(nusc, row["name"]):
        location = nusc.get("log", row["log_token"])["location"]
    return {"token": row["token"], "samples": row["nbr_samples"], "description": row["description"], "location": location}


def _counted(counts: BuildCounts, missing: dict[str, str]) -> dict[str, Any]:
    """The sidecar's counts. ``ego_speed`` is over samples kept, ``navigation`` over plan questions, ``checks`` of keyframes by scene."""
    return {
        "samples": {
            "seen": counts.samples,
            "with_questions": counts.asked,
            "left_out_for_images": counts.left_out,
            "without_all_images": counts.incomplete,
            "missing_images": counts.missing_images,
        },
        "ego_speed": {
            "can_bus": counts.speed_sources["can_bus"],
            "displacement": counts.speed_sources["displacement"],
            "why": {scene: why for scene, why in missing.items() if scene in counts.fallback_scenes},
        },
        "checks": {what: dict(scenes) for what, scenes in counts.found.items()},
        "unknown_categories": dict(counts.unknown_categories.most_common()),
        "navigation": {
            "commands": dict(counts.commands.most_common()),
            "target_nearer_than_6s": counts.shortened_navigation,
        },
        "skipped": {kind: dict(reasons) for kind, reasons in counts.skipped.items()},
        **counts.labels.to_dict(),
    }


def _answered(pending: Iterable[PendingRecord], counts: BuildCounts, limit: int) -> Iterator[dict[str, Any]]:
    """Records in order, answers filled in; at most ``limit`` records are held back for a teacher."""
    waiting: deque[PendingRecord] = deque()
    for item in pending:
        waiting.append(item)
        while waiting and (waiting[0].future is None or len(waiting) > limit):
            yield from _resolve(waiting.popleft(), counts)
    while waiting:
        yield from _resolve(waiting.popleft(), counts)


def _resolve(item: PendingRecord, counts: BuildCounts) -> Iterator[dict[str, Any]]:
    if item.future is not None:
        try:
            item.record["conversations"][1]["value"] = item.future.result()
        except TeacherError:
            counts.skip(item.kind, NO_ANSWER)
            return
    yield item.record
