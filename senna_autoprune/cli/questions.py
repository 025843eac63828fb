"""``senna-prune questions build`` and ``inspect``: parse, call ``senna_autoprune.nuscenes``, print."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import click

from senna_autoprune.cli import questions_convert, questions_select
from senna_autoprune.cli.labels import print_labels


class _OnSample(Protocol):
    def __call__(self, done: int, total: int, /) -> None: ...


@click.group("questions", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Build, inspect, convert and choose questions."""


for _name, _command in {"convert": questions_convert.command, **questions_select.COMMANDS}.items():
    command.add_command(_command, _name)


def _listed(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (value or "").split(",") if part.strip())


@command.command("build")
@click.option("--dataroot", required=True, type=click.Path(), help="Folder that holds VERSION/*.json and samples/.")
@click.option("--version", "version", required=True, help="Table version: v1.0-mini, v1.0-trainval, ...")
@click.option("--split", help="mini_val, mini_train, val, train, ... (the devkit's names), or all scenes of the tables.")
@click.option("--scenes", callback=_listed, help="Only these scenes, e.g. scene-0103,scene-0916. Without --split: any.")
@click.option("--out", "out", required=True, type=click.Path(dir_okay=False), help="Question file to write (JSON).")
@click.option(
    "--types",
    callback=_listed,
    default="plan,vru,motion,light,description,explanation",
    show_default=True,
    help="Question types. The last three need --teacher.",
)
@click.option(
    "--navigation",
    type=click.Choice(["fixed", "reference", "none"]),
    default="fixed",
    show_default=True,
    help="Navigation command and ego speed: repaired, as the released converter, or 'go straight' to all. "
    "All but 'none' come from the true future.",
)
@click.option(
    "--views",
    type=click.Choice(["fixed", "reference"]),
    default="fixed",
    show_default=True,
    help="Order of the six image files: as the prompt names them, or as the released converter.",
)
@click.option("--require-images", is_flag=True, help="Leave out samples without all six image files.")
@click.option("--resample", is_flag=True, help="Keyframes not at 2 Hz: take what lies ahead from the poses at each half second.")
@click.option(
    "--channels", callback=_listed, help="Cameras and LIDAR of other names: CAM_FRONT=CAM_FRONT_WIDE,LIDAR_TOP=TOP,... (ours=theirs)."
)
@click.option(
    "--categories",
    "categories_file",
    type=click.Path(),
    metavar="FILE",
    help="YAML or JSON: category names of other makers -> ours, e.g. pedestrian.adult: pedestrian.",
)
@click.option("--can-bus", type=click.Path(), help="Folder that holds can_bus/.  [default: DATAROOT]")
@click.option("--teacher", "teacher_spec", help="hf:MODEL_OR_DIR or openai:BASE_URL#MODEL (key: $OPENAI_API_KEY).")
@click.option("--teacher-cache", type=click.Path(), help="Folder of the teacher's answers.  [default: teacher-cache by OUT]")
@click.option("--teacher-concurrency", type=click.IntRange(1, 256), default=4, show_default=True, help="Requests at once.")
@click.option("--teacher-timeout", type=click.FloatRange(1), default=120.0, show_default=True, help="Seconds a request.")
def build(
    dataroot: str,
    version: str,
    split: str | None,
    scenes: tuple[str, ...],
    out: str,
    types: tuple[str, ...],
    navigation: Any,
    views: Any,
    require_images: bool,
    resample: bool,
    channels: tuple[str, ...],
    categories_file: str | None,
    can_bus: str | None,
    teacher_spec: str | None,
    teacher_cache: str | None,
    teacher_concurrency: int,
    teacher_timeout: float,
) -> None:
    """Write the questions of a split as the original's LLaVA-format list, and OUT.meta.json with what was counted."""
    from senna_autoprune.errors import SennaPruneError, one_line
    from senna_autoprune.nuscenes.mapping import parse_channels, read_categories
    from senna_autoprune.nuscenes.questions import build_questions
    from senna_autoprune.nuscenes.records import BuildSettings
    from senna_autoprune.nuscenes.tables import load_tables
    from senna_autoprune.nuscenes.teacher.open import open_teacher

    if not split and not scenes:
        raise SennaPruneError("name a --split (e.g. mini_val, all) or --scenes")
    settings = BuildSettings(
        types=types,
        navigation=navigation,
        views=views,
        require_images=require_images,
        categories=read_categories(categories_file) if categories_file else {},
        resample=resample,
    )
    names = parse_channels(channels)
    cache = teacher_cache or Path(out).parent / "teacher-cache"
    opened = open_teacher(teacher_spec, cache, concurrency=teacher_concurrency, timeout_s=teacher_timeout) if teacher_spec else None
    with opened or nullcontext() as teacher:
        nusc = load_tables(dataroot, version, channels=names, sweeps=resample, say=_say_loading)
        with _progress() as on_sample:
            sidecar = build_questions(
                nusc,
                out,
                settings,
                split=split,
                scenes=scenes,
                can_bus=can_bus,
                teacher=teacher,
                on_sample=on_sample,
            )
        _print_built(out, sidecar)
        if teacher and teacher.failed:
            click.echo(f"the teacher's last failure: {one_line(teacher.last_failure)}; the same command asks again", err=True)
            sys.exit(3)


@command.command("inspect")
@click.argument("file", type=click.Path())
@click.option(
    "--image",
    "image",
    nargs=2,
    type=(str, click.Path(dir_okay=False)),
    metavar="TOKEN OUT.png",
    help="Draw a sample (or a question by its id): six views, boxes, future path, question, label.",
)
@click.option("--dataroot", type=click.Path(), help="nuScenes folder for --image.  [default: the sidecar's, else FILE's]")
@click.option("--version", "version", help="Table version for --image.  [default: the sidecar's]")
def inspect(file: str, image: tuple[str, str] | None, dataroot: str | None, version: str | None) -> None:
    """Print counts per type, labels, the majority baseline, missing images, and a sample of FILE."""
    if image:
        _draw(file, image[0], image[1], dataroot, version)
        return
    from senna_autoprune.nuscenes.inspection import inspect_questions

    found = inspect_questions(file)
    _print_variant(found.sidecar)
    print_labels(found.counts.to_dict())
    click.echo(f"{found.samples} samples, {found.images} images, {found.missing_images} of them missing; ", nl=False)
    click.echo(f"{found.samples_without_all_images} samples lack at least one")
    if found.example:
        click.echo(f"\nsample {found.example.token}, {found.example.type} question\n{found.example.text}")
        click.echo(f"-> {found.example.answer.strip()}")


def _draw(file: str, token: str, out: str, dataroot: str | None, version: str | None) -> None:
    from senna_autoprune.errors import SennaPruneError
    from senna_autoprune.nuscenes.drawing import save_sample
    from senna_autoprune.nuscenes.inspection import find_question
    from senna_autoprune.nuscenes.questions_file import read_sidecar
    from senna_autoprune.nuscenes.tables import load_tables

    sidecar = read_sidecar(file)
    dataroot = dataroot or sidecar.get("dataroot") or str(Path(file).parent)  # a file that moves with its data names no folder
    version = version or sidecar.get("data", {}).get("version")
    if not version:
        raise SennaPruneError(f"{file} has no sidecar that names its tables: give --dataroot and --version")
    question = find_question(file, token)
    names = sidecar.get("data", {}).get("channels", {})
    save_sample(load_tables(dataroot, version, channels=names, say=_say_loading), question, out)
    click.echo(f"{question.type} question about sample {question.token} -> {out}")


def _say_loading(line: str) -> None:
    click.echo(f"loading {line}", err=True)


@contextmanager
def _progress() -> Iterator[_OnSample]:
    """A progress bar on stderr; nothing where stderr is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from senna_autoprune.cli.screen import console_for

    console = console_for(stderr=True)
    columns = (TextColumn("samples"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("samples", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_built(out: str, sidecar: dict[str, Any]) -> None:
    from senna_autoprune.errors import one_line

    samples, speed, navigation = sidecar["samples"], sidecar["ego_speed"], sidecar["navigation"]
    click.echo(f"{sidecar['records']} questions about {samples['with_questions']} of {samples['seen']} samples -> {out}")
    _print_variant(sidecar)
    print_labels(sidecar)
    if navigation["commands"]:
        click.echo("commands: " + ", ".join(f"{name} {n}" for name, n in navigation["commands"].items()))
    click.echo(f"ego speed: CAN bus for {speed['can_bus']} samples, fallback to displacement for {speed['displacement']}")
    for reason in sorted(set(speed["why"].values())):
        names = [one_line(scene) for scene, why in speed["why"].items() if why == reason]
        click.echo(f"  {one_line(reason)}: {', '.join(names[:5])}{f' and {len(names) - 5} more' if len(names) > 5 else ''}")
    for what, scenes in sidecar["checks"].items():
        click.echo(f"checked: {what}: {_by_scene(scenes)}")
    if sidecar["unknown_categories"]:
        click.echo("unknown categories: " + ", ".join(f"{one_line(name)} {n}" for name, n in sidecar["unknown_categories"].items()))
    if samples["missing_images"]:
        left_out = samples["left_out_for_images"]
        click.echo(
            f"images: {samples['missing_images']} files missing, {samples['without_all_images']} samples lack some, "
            + (f"{left_out} left out" if sidecar["require_images"] else "kept (see --require-images)")
        )
    for kind, reasons in sidecar["skipped"].items():
        for reason, count in reasons.items():
            click.echo(f"not asked: {count} {kind} questions, {reason}")
    if sidecar["types_left_out"]:
        click.echo(f"left out, they need --teacher: {', '.join(sidecar['types_left_out'])}")
    if sidecar["scenes_absent"]:
        absent = sidecar["scenes_absent"]
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        click.echo(f"not in the tables: {', '.join(absent[:5])}{more}")
    if "reference" in sidecar["variant"].values():
        click.echo("".join(f"note: {note}\n" for note in sidecar["notes"]), nl=False)
    if sidecar["teacher"]:
        teacher = sidecar["teacher"]
        click.echo(
            f"teacher {teacher['model']}: {teacher['asked']} answers asked, {teacher['cached']} from the cache, {teacher['failed']} failed"
        )


def _by_scene(counts: dict[str, int]) -> str:
    """How many, and in which scenes: the five with the most by name."""
    from senna_autoprune.errors import one_line

    most = sorted(counts.items(), key=lambda item: -item[1])[:5]
    more = f" and {len(counts) - 5} scenes more" if len(counts) > 5 else ""
    return f"{sum(counts.values())} ({', '.join(f'{one_line(scene)} {count}' for scene, count in most)}{more})"


def _print_variant(sidecar: dict[str, Any]) -> None:
    if "variant" in sidecar and "data" in sidecar:
        data, variant = sidecar["data"], sidecar["variant"]
        where = data.get("split") or ", ".join(data.get("scenes_asked", []))
        navigation, views = variant.get("navigation", "unknown"), variant.get("views", "unknown")
        click.echo(f"{data.get('version', 'unknown version')} {where}, navigation {navigation}, views {views}")
    elif isinstance(source := sidecar.get("source"), dict):
        click.echo(f"converted from {source.get('format')} ({source.get('file')}), licence: {source.get('licence')}")
    elif sidecar:
        click.echo("the sidecar says nothing of data version and variant")
    else:
        click.echo("no sidecar: data version and variant are unknown")
