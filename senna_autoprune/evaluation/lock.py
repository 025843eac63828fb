"""One process on one run directory. The lock is the operating system's (``flock``): it ends with its process, however
that dies.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Self

from senna_autoprune.errors import SennaPruneError

LOCK_NAME = "run.lock"


class RunLock:
    """Holds ``run.lock`` in a directory while in use; the file names the holder, its presence alone means nothing.

    Raises (on entry):
        SennaPruneError: another process holds the directory (says which), or the directory cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / LOCK_NAME
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise SennaPruneError(
                f"cannot write to the run directory {self.path.parent}: {error.strerror}; give another with --out"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise SennaPruneError(
                    f"the run directory {self.path.parent} is in use by {holder}; wait for it, or give another with --out"
                ) from error
            raise SennaPruneError(f"cannot lock {self.path}: {error.strerror}; use a local file system") from error
        self._descriptor = descriptor
        self._sign({"pid": os.getpid(), "host": socket.gethostname()})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)  # also releases the lock
            self._descriptor = None

    def _sign(self, holder: dict[str, object]) -> None:
        assert self._descriptor is not None
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(holder).encode(), 0)
        except OSError:
            pass  # a full disk: the lock holds all the same, only the name of its holder is missing


def _holder(descriptor: int) -> str:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {int(holder['pid'])} on {holder['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
