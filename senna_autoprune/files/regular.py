"""Files that somebody else may have made: regular ones of a bounded size, and on demand nobody's link.

A pipe or a device would be waited for without end; a link in a folder that a stranger sent leads to the user's own files.
"""

from __future__ import annotations

import io
import os
import stat
from os import PathLike
from pathlib import Path
from typing import TextIO

from senna_autoprune.errors import SennaPruneError


def read_regular(path: str | PathLike[str], limit: int, own: bool = False) -> bytes:
    """The bytes of a regular file.

    Args:
        limit: bytes at most.
        own: the file must be no link, symbolic or hard (of a run folder, which a stranger may have sent).
    Raises:
        SennaPruneError: a pipe, a device, a folder, a link with ``own``, or larger than ``limit``.
        OSError: missing or unreadable.
    """
    if own:
        require_own(path)
    with open_regular(path, own) as file:
        raw = file.read(limit + 1)
    if len(raw) > limit:
        raise SennaPruneError(f"{os.fspath(path)} is larger than {limit} bytes: not what its name says")
    return raw


def open_regular(path: str | PathLike[str], own: bool = False) -> io.BufferedReader:
    """A regular file to be read bit by bit, whatever its size.

    Args:
        own: it must be no symbolic link.
    Raises:
        SennaPruneError: a pipe, a device or a folder. OSError: missing or unreadable.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | (os.O_NOFOLLOW if own else 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise SennaPruneError(f"{os.fspath(path)} is no regular file (a pipe, a device or a folder): name a file")
    return os.fdopen(descriptor, "rb")


def open_regular_text(path: str | PathLike[str], encoding: str = "utf-8", errors: str = "strict", newline: str | None = None) -> TextIO:
    """``open_regular`` as text."""
    return io.TextIOWrapper(open_regular(path), encoding=encoding, errors=errors, newline=newline)


def require_regular_folder(folder: Path, limits: dict[str, int]) -> None:
    """Raises SennaPruneError if a file of ``folder`` is none of the regular kind, or larger than ``limits`` says for its suffix.
    For folders that a library reads by itself. Links are followed, as the caches of models are made of them.
    """
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                found = entry.stat()
            except OSError:
                continue  # a link to nothing: whoever needs it says so
            if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
                raise SennaPruneError(f"{entry.path} is no regular file (a pipe or a device): not part of a checkpoint; remove it")
            limit = limits.get(os.path.splitext(entry.name)[1].lower())
            if limit is not None and stat.S_ISREG(found.st_mode) and found.st_size > limit:
                raise SennaPruneError(f"{entry.path} is larger than {limit} bytes: not what its name says")


def require_own(path: str | PathLike[str]) -> None:
    """Raises SennaPruneError if something is at ``path`` that is no regular file with this one name."""
    if not os.path.lexists(path):
        return
    found = os.lstat(path)
    if not stat.S_ISREG(found.st_mode):
        raise SennaPruneError(f"{os.fspath(path)} was not written by senna-prune (it is no plain file): give another directory")
    if found.st_nlink > 1:
        raise SennaPruneError(
            f"{os.fspath(path)} has a second name elsewhere (a hard link), which would change with it: copy the folder, or give another"
        )


def require_no_link(path: Path, folder: Path) -> None:
    """Raises SennaPruneError if ``path`` lies in ``folder`` (of a run, which a stranger may have sent) and leads through a link there."""
    inside, whole = Path(os.path.abspath(folder)), Path(os.path.abspath(path))
    if whole.is_relative_to(inside):
        for part in (whole, *whole.parents):
            if part == inside:
                break
            if part.is_symlink():
                raise SennaPruneError(f"{path}: {part} is a link: it was not made by senna-prune; remove it, or give another with --out")


def require_own_folder(path: Path) -> None:
    """Raises SennaPruneError if something is at ``path`` that is no folder of its own."""
    if os.path.lexists(path) and not stat.S_ISDIR(os.lstat(path).st_mode):
        raise SennaPruneError(f"{path} is a link or no folder: it was not made by senna-prune; remove it, or give another with --out")
