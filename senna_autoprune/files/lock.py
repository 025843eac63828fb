"""One process on one run directory. The lock is the operating system's (``flock``): it ends with its process, however
that dies. NFS, Lustre and their like share it between hosts; where a file system does not, another host's holder cannot
be seen, so a lock that one of them left without releasing it is taken over with a warning.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import stat
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from senna_autoprune.errors import SennaPruneError

logger = logging.getLogger(__name__)

LOCK_NAME = "run.lock"


class RunLock:
    """Holds ``run.lock`` in a directory while in use. The file names the holder and is emptied on release; its presence
    alone means nothing, and neither does a name left by a killed process, even if its id is in use again.

    Raises (on entry):
        SennaPruneError: another process holds the directory (says which), or the directory cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / LOCK_NAME
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        try:  # a link would be followed, and what it leads to overwritten
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                os.close(descriptor)
                raise SennaPruneError(f"{self.path} is no plain file of its own: not ours; give another directory with --out")
        except OSError as error:
            raise SennaPruneError(
                f"cannot write to the run directory {self.path.parent}: {error.strerror}; give another with --out"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _named(_holder(descriptor))
            os.close(descriptor)
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise SennaPruneError(
                    f"the run directory {self.path.parent} is in use by {holder}; wait for it, or give another with --out"
                ) from error
            raise SennaPruneError(f"cannot lock {self.path}: {error.strerror}; use a local file system") from error
        self._descriptor = descriptor
        last = _holder(descriptor)
        if last is not None and last["host"] != socket.gethostname():
            logger.warning(
                f"the run directory {self.path.parent} was left by {_named(last)} without a good end: "
                "going on with what it holds; make sure that process is gone"
            )
        self._write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._descriptor is not None:
            self._write("")
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # closing would leave it to a forked child
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, holder: str) -> None:
        assert self._descriptor is not None
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, holder.encode(), 0)
        except OSError:
            pass  # a full disk: the lock holds all the same, only the name of its holder is missing


def _holder(descriptor: int) -> dict[str, Any] | None:
    """``pid`` and ``host`` in the lock file; None if it names nobody."""
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        pid, host = int(holder["pid"]), str(holder["host"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return {"pid": pid, "host": host} if host.isprintable() else None


def _named(holder: dict[str, Any] | None) -> str:
    return "another process" if holder is None else f"process {holder['pid']} on {holder['host']}"
