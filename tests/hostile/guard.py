"""A watch over one call of the command line: what it reads and writes, starts, connects to, and how much it takes.

Python's own audit events are used, as a listing of one folder would miss what is written elsewhere. The hook cannot be
taken out again; it does nothing unless a watch is on.
"""

from __future__ import annotations

import contextlib
import io
import os
import resource
import signal
import sys
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import senna_autoprune

CPU_S = 5.0  # what a broken input may cost
WAIT_S = 120.0  # by the clock: nobody waits for a pipe or a server (the machine may be busy with other work)
MEMORY = 1 << 30  # bytes beyond what the process already has
_STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn")
_REACHES = (
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.bind",
    "socket.sendto",
    "socket.sendmsg",
    "urllib.Request",
)
_CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod", "os.chown", "os.link", "os.symlink")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _readable() -> tuple[Path, ...]:
    """Where a command may read besides what the case holds: Python, its packages, this one, the system's own, caches of fonts."""
    import matplotlib

    home = Path(matplotlib.get_cachedir()), Path(matplotlib.get_configdir()), Path.home() / ".cache" / "fontconfig"
    own = Path(senna_autoprune.__file__).resolve().parents[1]
    system = ("/usr", "/lib", "/etc/fonts", "/etc/mime.types", "/etc/localtime", "/proc", "/sys", "/dev", "/var/cache/fontconfig")
    return (*home, own, *map(Path, (sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), *system)))


class TookTooLong(BaseException):
    """Raised in the middle of a call that has used its time; no ``except Exception`` holds it up."""


@dataclass
class Watched:
    """What a call did. ``offences``: writes outside ``allowed``, programs started, connections, pickles, foreign code."""

    code: int | None = None
    out: str = ""
    err: str = ""
    cpu_s: float = 0.0
    offences: list[str] = field(default_factory=list)


@dataclass
class _Watch:
    foreign: Path  # folder of the case: no code of it may run
    allowed: Path  # the one folder in it that may be written to
    offences: list[str]
    readable: tuple[Path, ...]

    def see(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = args
            if isinstance(path, int):
                return
            writing = set(mode) & set("wax+") if isinstance(mode, str) else (flags or 0) & _WRITING
            if writing:
                self._write(event, path)
            else:
                self._read(path)
        elif event in _CHANGES:
            for path in args[:2] if event in ("os.rename", "os.link", "os.symlink") else args[:1]:
                self._write(event, path)
        elif event == "sqlite3.connect":
            self._write(event, args[0])
        elif event == "subprocess.Popen" and os.path.basename(os.fsdecode(args[0])) == "fc-list":
            pass  # matplotlib looks for fonts
        elif event in _STARTS or event in _REACHES or event == "pickle.find_class":
            self.offences.append(f"{event} {args!r:.200}")
        elif event == "exec" and str(getattr(args[0], "co_filename", "")).startswith(str(self.foreign)):
            self.offences.append(f"exec {args[0]!r:.200}")

    def _read(self, path: Any) -> None:
        """The user's own files are nobody's business; what the case sent and what the good world holds are."""
        place = Path(os.path.abspath(os.fsdecode(path)))
        if not any(place.is_relative_to(folder) for folder in self.readable):
            self.offences.append(f"read {place}")

    def _write(self, event: str, path: Any) -> None:
        if isinstance(path, int):
            return
        text = os.path.abspath(os.fsdecode(path).removeprefix("file:").partition("?")[0])
        if text != os.devnull and "__pycache__" not in text and not Path(text).is_relative_to(self.allowed):
            self.offences.append(f"{event} {text}")


_watch: _Watch | None = None
_installed = False


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _watch is not None:
        _watch.see(event, args)


def install() -> None:
    """Put the audit hook in, once a process."""
    global _installed
    if not _installed:
        sys.addaudithook(_hook)
        _installed = True


def call(main: Any, argv: list[str], folder: Path, allowed: Path, sent: tuple[Path, ...] = ()) -> Watched:
    """``main()`` with ``argv``, watched and bounded. Exceptions other than SystemExit pass through: they are tracebacks.

    sent: what it may read besides the system's own.
    """
    global _watch
    found, out, err = Watched(), _stream(), _stream("backslashreplace")
    before, streams = sys.argv, (sys.stdout, sys.stderr)
    start = time.process_time()
    try:
        sys.argv, sys.stdout, sys.stderr = ["senna-prune", *argv], out, err
        with _bounded():
            _watch = _Watch(folder, allowed, found.offences, (*_readable(), *sent, allowed))
            main()
    except SystemExit as left:
        found.code = left.code if isinstance(left.code, int) else 0 if left.code is None else 1
    finally:
        _watch = None
        sys.argv, (sys.stdout, sys.stderr) = before, streams
        found.cpu_s = time.process_time() - start
        found.out, found.err = (stream.buffer.getvalue().decode() for stream in (out, err))
    return found


def _stream(errors: str = "strict") -> Any:
    """A stand-in for a terminal's stream that is as strict about text as a real one."""
    return io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors=errors, write_through=True)


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """Memory beyond ``MEMORY`` more than now cannot be had; three times the CPU time, or ``WAIT_S`` by the clock, raises."""

    def late(number: int, _frame: object) -> None:
        raise TookTooLong(f"more than {3 * CPU_S} s of CPU" if number == signal.SIGPROF else f"waited for {WAIT_S} s")

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    handlers = {number: signal.signal(number, late) for number in (signal.SIGPROF, signal.SIGALRM)}
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, hard))
    signal.setitimer(signal.ITIMER_PROF, 3 * CPU_S)
    signal.setitimer(signal.ITIMER_REAL, WAIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def listing(folder: Path, without: Path) -> dict[str, tuple[Any, ...]]:
    """What is below a folder, links not followed: kind, size, time of change, and the target of a link."""
    found = {}
    for root, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(root, name)
            if path.is_relative_to(without):
                continue
            state = path.lstat()
            target = os.readlink(path) if path.is_symlink() else ""
            size = 0 if path.is_dir() else state.st_size
            found[str(path)] = (state.st_mode, size, 0 if path.is_dir() else state.st_mtime_ns, target)
    return found
