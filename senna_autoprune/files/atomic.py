"""Files that a reader sees whole, old or new, and the faults of a disk as one line."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from senna_autoprune.errors import SennaPruneError

PART = ".senna-prune-part"  # end of the name of a file that is being written


def write_atomically(path: Path, text: str) -> None:
    """A text file that a reader sees whole, old or new. SennaPruneError if its folder is full or cannot be written."""
    with disk_errors(path.parent):
        replace_file(path, text)


def remove_parts(directory: Path) -> None:
    """Files that a killed process was writing, under their temporary names. Only for the holder of the lock."""
    for path in directory.glob(f".*{PART}"):
        path.unlink(missing_ok=True)


def replace_file(path: Path, content: str | bytes | Iterable[bytes]) -> None:
    """A file that a reader sees whole, old or new; a link under its name is replaced, not followed. OSError as it comes."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
    try:
        with os.fdopen(descriptor, "wb") as file:
            parts = [content.encode("utf-8")] if isinstance(content, str) else [content] if isinstance(content, bytes) else content
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def open_new(path: Path) -> BinaryIO:
    """A file of one's own to write: what lies under its name (a kill left it, or it is somebody's link) is removed. OSError as it comes."""
    path.unlink(missing_ok=True)
    return path.open("xb")


@contextlib.contextmanager
def disk_errors(directory: Path) -> Iterator[None]:
    """Faults of the disk as one line."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise SennaPruneError(full_disk(directory)) from error
        raise SennaPruneError(
            f"cannot write to the run directory {directory}: {error.strerror or error}; give another with --out"
        ) from error


def full_disk(directory: Path) -> str:
    return f"the disk of {directory} is full: answers so far are kept; free some space and run the same command again"
