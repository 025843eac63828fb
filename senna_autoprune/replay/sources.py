"""What a replay asks, frame by frame: the keyframes of a scene in the tables, or questions of a finished run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.measures.flips import HARMLESS, Flip
from senna_autoprune.evaluation.measures.summary import flips_between
from senna_autoprune.evaluation.runs.rows import UNPRUNED, QuestionRow
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.nuscenes import builders
from senna_autoprune.nuscenes.can_bus import CanBus
from senna_autoprune.nuscenes.records import Views
from senna_autoprune.nuscenes.rules import Navigation
from senna_autoprune.nuscenes.scenes import Sample, iter_samples, keyframes_of, load_tables, rows_present
from senna_autoprune.nuscenes.strings import channel, strings, view_names, view_order
from senna_autoprune.replay.geometry import SampleGeometry, sample_geometry

if TYPE_CHECKING:
    from nuscenes.nuscenes import NuScenes

    from senna_autoprune.adapters.schema import Adapter

MOST_FLIPS = 12  # frames of a run's flips, unless the user says otherwise


@dataclass(frozen=True)
class Shot:
    """One frame to ask. views: what the images show, in the order in which they are fed; "" where nobody knows."""

    question: QuestionRow  # images are paths that can be opened
    views: tuple[str, ...]
    timestamp_us: int | None = None
    geometry: SampleGeometry | None = None
    before: str | None = None  # answers that the run stored, unpruned
    after: str | None = None  # and pruned


@dataclass(frozen=True)
class Source:
    """Frames in order, a name for them, and what the user must know about them."""

    title: str
    shots: list[Shot]
    description: str = ""
    notes: list[str] = field(default_factory=list)


def find_version(dataroot: str | os.PathLike[str]) -> str:
    """The one table folder of a data root. SennaPruneError if there is none, or a choice."""
    found = sorted(path.parent.name for path in Path(dataroot).glob("*/scene.json"))
    if len(found) == 1:
        return found[0]
    there = f"it holds {', '.join(found)}" if found else "no folder in it has a scene.json"
    raise SennaPruneError(f"cannot tell the table version of {dataroot} ({there}): name it with --version")


def open_tables(dataroot: str | os.PathLike[str], version: str | None) -> NuScenes:
    """The tables of a data root; without a version, of its only one."""
    return load_tables(dataroot, version or find_version(dataroot))


def scene_source(
    nusc: NuScenes, name: str | None, navigation: Navigation = "fixed", views: Views = "fixed", limit: int | None = None
) -> Source:
    """The planning question at every keyframe of a scene that has its images, the last three seconds included.

    Near a scene's end there is no label, as nobody knows what came next; the question is asked all the same.

    Args:
        name: scene name, scene token, or a sample token for that keyframe alone; None: the scene with most images.
        limit: at most so many frames.
    Raises:
        SennaPruneError: no such scene, or none of its keyframes has all six image files.
    """
    scene, only = _find_scene(nusc, name)
    can_bus = CanBus(nusc.dataroot)
    samples = [s for s in iter_samples(nusc, scene, can_bus, navigation) if only in (None, s.token)]
    there = [s for s in samples if all(map(os.path.isfile, s.images.values()))]
    if not there:
        raise SennaPruneError(
            f"{scene['name']}: none of its {len(samples)} keyframes has all six image files under {nusc.dataroot}: "
            "unpack samples/, or name another --scene"
        )
    notes = []
    if len(there) < len(samples):
        notes.append(f"{len(samples) - len(there)} of {len(samples)} keyframes have no image files and are left out")
    if limit is not None and limit < len(there):
        notes.append(f"only the first {limit} of {len(there)} keyframes (--limit)")
        there = there[:limit]
    if not any(sample.annotated for sample in there):
        notes.append("the tables hold no boxes for this scene")
    shots = [_scene_shot(nusc, sample, number, views) for number, sample in enumerate(there)]
    if any(not shot.question.label for shot in shots):
        notes.append("frames less than 3 s before the scene's end have no label: their future is not in the tables")
    return Source(scene["name"], shots, str(scene.get("description", "")), notes)


def with_wanted(source: Source, adapter: Adapter | None, nusc: NuScenes) -> Source:
    """The source with what an adapter's prompt shows beside a question's own text and images: facts, history, earlier frames.

    Raises:
        SennaPruneError: the tables miss a row.
    """
    from senna_autoprune.evaluation.answering.truths import from_tables, said_facts

    if adapter is None:
        return source
    rows = [replace(shot.question, facts={**said_facts(shot.question.text), **shot.question.facts}) for shot in source.shots]
    found = from_tables(rows, adapter, nusc)
    return replace(source, shots=[replace(shot, question=row) for shot, row in zip(source.shots, found, strict=True)])


def _find_scene(nusc: NuScenes, name: str | None) -> tuple[dict[str, Any], str | None]:
    """A scene row, and the one sample asked for, if it was a sample's token."""
    if name is None:
        return _fullest_scene(nusc), None
    for scene in nusc.scene:
        if name in (scene["name"], scene["token"]):
            return scene, None
    for sample in nusc.sample:
        if sample["token"] == name:
            return nusc.get("scene", sample["scene_token"]), name
    there = ", ".join(sorted(scene["name"] for scene in nusc.scene)[:12]) + (", ..." if len(nusc.scene) > 12 else "")
    raise SennaPruneError(f"no scene or sample {name!r} in {nusc.table_root}, which has {there}")


def _fullest_scene(nusc: NuScenes) -> dict[str, Any]:
    """The first scene whose keyframes all have their images, or that with the most."""
    best, most = None, 0
    for scene in nusc.scene:
        with rows_present(nusc, scene["name"]):
            samples = keyframes_of(nusc, scene)
            paths = [[nusc.get_sample_data_path(sample["data"][channel(view)]) for view in view_names()] for sample in samples]
        there = sum(all(map(os.path.isfile, files)) for files in paths)
        if there > most:
            best, most = scene, there
        if there == len(samples) > 0:
            break
    if best is None:
        raise SennaPruneError(f"no keyframe under {nusc.dataroot} has all six image files: unpack samples/")
    return best


def _scene_shot(nusc: NuScenes, sample: Sample, number: int, views: Views) -> Shot:
    geometry, order = sample.geometry, view_order(views)
    try:
        asked = strings()["plan"]["question"].format(speed=int(geometry.ego_speed), command=geometry.command)
        pair = builders.plan_question(geometry)
        label = "" if pair is None else pair.answer
    except (ValueError, OverflowError) as error:
        raise SennaPruneError(f"sample {sample.token}: position or speed is not a number in the tables") from error
    row = QuestionRow(
        question=number,
        token=sample.token,
        type="plan",
        text=strings()["image_prompt"] + asked,
        label=label,
        images=tuple(sample.images[view] for view in order),
        scene=sample.scene,
        scene_known=True,
        attributes={},
    )
    with rows_present(nusc, f"sample {sample.token}"):
        return Shot(row, order, sample.timestamp_us, sample_geometry(nusc, sample.token))


# --- a run ------------------------------------------------------------------------------------------------------------


def run_source(
    store: RunStore,
    method: str,
    root: Path,
    scene: str | None,
    flips: str | None,
    limit: int | None,
    nusc: Any = None,
    reading: Any = None,
) -> Source:
    """Questions of a run: its flips, worst first, or those of a scene in file order.

    Args:
        method: the run's pruning setting.
        root: folder of the run's relative image paths.
        flips: "worst" (harmful ones only) or "all"; None with ``scene``: every question of it.
        nusc: tables that hold the run's samples, for times and geometry; None: without.
    Raises:
        SennaPruneError: nothing to show, or the run holds no answers of ``method``.
    """
    questions = {row.question: row for row in store.questions()}
    if scene is not None:
        questions = {key: row for key, row in questions.items() if scene in (row.scene, row.token)}
        if not questions:
            raise SennaPruneError(f"the run {store.directory} has no question about scene {scene}")
    before, after = store.words(UNPRUNED), store.words(method)
    if not after:
        raise SennaPruneError(f"the run {store.directory} has no answers of {method}: finish it with senna-prune eval")
    title, chosen = f"run {store.directory.name}", list(questions.values())
    if flips is not None:
        found = _flips(chosen, before, after, method, flips == "worst", reading)
        if not found:
            kind = "harmful flip" if flips == "worst" else "flip"
            hint = "; see --flips all" if flips == "worst" else "; name a --scene to replay instead"
            raise SennaPruneError(f"the run {store.directory} has no {kind} of {method}{hint}")
        chosen = [questions[flip.question] for flip in found]
        limit = MOST_FLIPS if limit is None else limit
        title += ": flips, worst first"
    notes = [] if limit is None or limit >= len(chosen) else [f"only {limit} of {len(chosen)} questions (--limit)"]
    shots = [_run_shot(row, root, before, after, nusc) for row in chosen[:limit]]
    if nusc is None:
        notes.append("no tables were given (--dataroot): without times, boxes and poses")
    return Source(title, shots, scene or "", notes)


def _flips(
    questions: Sequence[QuestionRow], before: dict[int, str], after: dict[int, str], method: str, harmful: bool, reading: Any = None
) -> list[Flip]:
    left_out = HARMLESS if harmful else ("wording",)
    return [flip for flip in flips_between(questions, before, after, method, reading) if flip.severity not in left_out]


def _run_shot(row: QuestionRow, root: Path, before: dict[int, str], after: dict[int, str], nusc: Any) -> Shot:
    images = tuple(str(root / image) for image in row.images)
    placed = replace(row, images=images, earlier={key: str(root / path) for key, path in row.earlier.items()})
    geometry = None
    if nusc is not None:
        try:
            geometry = sample_geometry(nusc, row.token)
        except KeyError as error:
            raise SennaPruneError(f"{nusc.table_root} lacks the run's sample {row.token}: give its tables") from error
    time = geometry.timestamp_us if geometry else None
    return Shot(placed, views_of(images), time, geometry, before.get(row.question), after.get(row.question))


def views_of(images: Sequence[str]) -> tuple[str, ...]:
    """What each image shows: by the channel in its path (samples/CAM_FRONT/...), else by the prompt's order of six."""
    channels = {channel(view): view for view in view_names()}
    named = [next((channels[part] for part in reversed(Path(image).parts) if part in channels), "") for image in images]
    if all(named) and len(set(named)) == len(named):
        return tuple(named)
    return view_order("fixed") if len(images) == len(view_names()) else ("",) * len(images)
