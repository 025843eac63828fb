"""A replay to files: a folder gets all three kinds and a layout for Foxglove, a file name its suffix's. Each appears whole or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.atomic import replace_file
from senna_autoprune.replay.frames import Replay

SUFFIXES = (".html", ".mcap", ".mp4")
LAYOUT = "foxglove-layout.json"  # beside the recording of a folder
OTHER_SUFFIXES = (
    ".htm",
    ".bag",
    ".mov",
    ".avi",
    ".webm",
    ".gif",
    ".json",
    ".png",
    ".jpg",
    ".pdf",
    ".zip",
)  # no folders


def check_out(out: str | Path) -> Path:
    """``out`` if it can be a replay's place. SennaPruneError: a file of another kind, or a parent that is no folder."""
    path = Path(out)
    if path.is_dir():
        return path
    if path.exists() and path.suffix not in SUFFIXES:
        raise SennaPruneError(f"--out {path} is a file: name a folder, or a file ending in {', '.join(SUFFIXES)}")
    if path.suffix in OTHER_SUFFIXES:
        raise SennaPruneError(f"--out {path}: a replay is a folder, or a file ending in {', '.join(SUFFIXES)}")
    for parent in path.parents:
        if parent.exists():
            if not parent.is_dir():
                raise SennaPruneError(f"--out {path}: {parent} is not a folder")
            break
    if path.suffix == ".mp4":
        from senna_autoprune.replay.video import require_encoder

        require_encoder()
    return path


def kinds(out: Path) -> tuple[list[Path], list[str]]:
    """Files that ``out`` asks for and can be made here, and a line for each that a folder goes without: what it lacks."""
    if out.suffix in SUFFIXES and not out.is_dir():
        return [out], []
    from senna_autoprune.replay.video import encoder_fault

    fault = encoder_fault()
    left_out = {} if fault is None else {".mp4": f"no {out / 'replay.mp4'}: {fault}"}
    return [out / f"replay{suffix}" for suffix in SUFFIXES if suffix not in left_out], list(left_out.values())


def write_replay(replay: Replay, out: Path, on_file: Callable[[Path], None] | None = None) -> list[Path]:
    """Write what ``out`` asks for (``kinds``) and return the files.

    Args:
        on_file: called with each file as soon as it is there, so that a fault of a later one hides none.
    Raises:
        SennaPruneError: the place cannot be written.
    """
    wanted, _ = kinds(out)
    try:
        wanted[0].parent.mkdir(parents=True, exist_ok=True)
        for path in wanted:
            _write(replay, path)
            if on_file is not None:
                on_file(path)
        if len(wanted) > 1:
            from senna_autoprune.replay.layout import foxglove_layout

            wanted.append(out / LAYOUT)
            replace_file(wanted[-1], foxglove_layout(replay))
            if on_file is not None:
                on_file(wanted[-1])
    except OSError as error:
        raise SennaPruneError(f"cannot write to {out} ({error.strerror or error}): choose another --out") from error
    return wanted


def _write(replay: Replay, path: Path) -> None:
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    part.unlink(missing_ok=True)  # what a kill left, or somebody's link
    try:
        if path.suffix == ".html":
            from senna_autoprune.replay.html import render_page

            part.write_text(render_page(replay), encoding="utf-8")
        elif path.suffix == ".mcap":
            from senna_autoprune.replay.mcap import write_mcap

            write_mcap(replay, part)
        else:
            from senna_autoprune.replay.video import write_video

            write_video(replay, part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
