"""A run directory -> ``report.html``, ``answers.html``, its figures as files, and (where asked for) a replay of its flips."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.runs.identity import CONFIG, CONFIG_BYTES, DATABASE, read_description
from senna_autoprune.files.atomic import write_atomically
from senna_autoprune.files.json_files import read_json
from senna_autoprune.files.regular import require_no_link, require_own, require_own_folder
from senna_autoprune.report.answers import render_answers
from senna_autoprune.report.drawing import save, sign
from senna_autoprune.report.figures import figures
from senna_autoprune.report.information import Measured, information_of
from senna_autoprune.report.page import Replays, render_report
from senna_autoprune.report.run import Run, read_run, section
from senna_autoprune.report.svg import PAPER, drawing

REPORT, REPLAY, ALL, FIGURES = "report.html", "flips.html", "answers.html", "figures"
FRAMES = "flips.json"  # of which run the replay is, and which question is which of its frames


@dataclass
class Written:
    """files: the report first. notes: what could not be done, and why."""

    files: list[Path]
    notes: list[str] = field(default_factory=list)


def write_report(
    directory: str | Path,
    out: str | Path | None = None,
    flips: int = 12,
    replay: bool | None = None,
    on_frame: Callable[[int, int], None] | None = None,
    **asked: Any,
) -> Written:
    """The report of a run of ``eval``.

    Args:
        out: folder; None: the run's own.
        flips: how many flips get a picture and a frame in the replay, worst first.
        replay: make the replay that the pictures open; this asks the model again. Where that is not possible the report is written
            without. None: the pictures open one that was made before. False: none.
        asked: of the replay: ``model``, ``vision_tower``, ``adapter``, ``images``, ``method`` of the run as the user names them again
            (``evaluation.answering.named``), ``device`` to use in place of the run's.
    Raises:
        SennaPruneError: no finished or started run of ``eval``, or a folder that cannot be written.
    """
    run = read_run(directory)
    folder = make_folder(out, run.directory)
    written = Written([folder / REPORT])
    replays = None
    if replay is None:
        replays = _replay_before(run, folder)
    elif replay and flips and _changed(run):
        try:
            replays = _write_replay(run, folder, flips, on_frame, asked)
            written.files.append(folder / REPLAY)
        except SennaPruneError as error:
            written.notes.append(f"no replay of the flips: {error}")
    information = information_of(run)
    written.files += _write_figures(run, information, folder / FIGURES)
    write_atomically(folder / ALL, render_answers(run, replays))
    written.files.insert(1, folder / ALL)
    page = render_report(run, flips, replays, written.notes, datetime.now(UTC), ALL, information)
    write_atomically(folder / REPORT, page)
    return written


def make_folder(out: str | Path | None, directory: Path) -> Path:
    """Where a report goes, made if need be: ``out``, else the run's own folder. SennaPruneError if it cannot be."""
    folder = Path(out) if out is not None else directory
    require_no_link(folder, directory)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SennaPruneError(f"cannot write the report to {folder}: {error.strerror or error}; give another with --out") from error
    return folder


def _changed(run: Run) -> bool:
    """Whether there is a flip that a replay would show."""
    listed = run.metrics["flips"].get(run.method, {}).get("list", [])
    return any(flip["severity"] != "wording" for flip in listed)


def _write_replay(run: Run, folder: Path, flips: int, on_frame: Callable[[int, int], None] | None, asked: dict[str, Any]) -> Replays:
    from senna_autoprune.replay.setup import prepare
    from senna_autoprune.replay.write import write_replay

    if asked.get("method", run.method) != run.method:
        raise SennaPruneError(f"--method {asked['method']}: the report is of {run.method}")
    place = folder / REPLAY
    job = prepare(run=str(run.directory), flips="all", limit=flips, out=str(place), **asked)
    (folder / FRAMES).unlink(missing_ok=True)  # until the new page is there
    write_replay(job.make(on_frame), place)
    frames = {shot.question.question: number for number, shot in enumerate(job.source.shots, 1)}
    write_atomically(folder / FRAMES, json.dumps({"run": _number(run), "frames": list(frames)}) + "\n")
    return Replays(REPLAY, frames)


def _replay_before(run: Run, folder: Path) -> Replays | None:
    """The replay that an earlier report of this very run made here; None where there is none, or of whom it is cannot be told."""
    try:
        if not (folder / REPLAY).is_file():
            return None
        found = read_json(folder / FRAMES, own=True)
        if not isinstance(found, dict) or found.get("run") is None or found["run"] != _number(run):
            return None
        return Replays(REPLAY, {int(question): number for number, question in enumerate(found["frames"], 1)})
    except (SennaPruneError, KeyError, TypeError, ValueError):
        return None


def _number(run: Run) -> Any:
    """The number of the run's database, which no other run has."""
    return section(read_description(run.directory), DATABASE).get("id")


def _write_figures(run: Run, information: tuple[list[Measured], str], folder: Path) -> list[Path]:
    """Each figure as PNG and SVG, in the colours of paper; returns the PNG files."""
    require_own_folder(folder)
    found, name = information
    files = []
    with drawing(PAPER):
        for figure in figures(run.metrics, found, name).values():
            drawn = figure.draw(PAPER)
            sign(drawn, run.label)
            files.append(folder / f"report-{figure.name}.png")
            save(drawn, files[-1], files[-1].with_suffix(".svg"))
    return files


def is_sweep(directory: str | Path) -> bool:
    """Whether a run directory is one of ``senna-prune sweep``."""
    from senna_autoprune.files.yaml_files import read_yaml

    path = Path(directory) / CONFIG
    require_own(path)
    return path.is_file() and "sweep" in read_yaml(path, CONFIG_BYTES)
