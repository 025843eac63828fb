"""The one door to the terminal: what a checkpoint, a question file or a run calls itself may hold codes that steer it.

While a command runs, ``sys.stdout`` and ``sys.stderr`` are ``Screen``s: whatever is printed, logged or warned of, by us or by a
library, passes them and is made visible. Our own colours and bars come from ``console``, which cleans the text inside them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from senna_autoprune.errors import SennaPruneError, visible

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 132  # columns assumed where the output is no terminal


class ReaderGoneError(Exception):
    """Nobody reads the output any more (``| head``)."""


class Screen:
    """A text stream that shows what would steer a terminal, and tells a fault of the output from one of a file.

    ``styled`` is the same stream for text that is clean already and has our colours in it.

    Raises (on writing):
        ReaderGoneError: the output is a pipe whose reader has left.
        SennaPruneError: the output cannot be written, a full disk for example. Faults of stderr are nobody's: they pass.
    """

    def __init__(self, stream: Any, error: bool = False, clean: bool = False, faults: list[OSError] | None = None) -> None:
        self._stream, self._error, self._clean = stream, error, clean
        self._faults: list[OSError] = [] if faults is None else faults  # kept: a library may have swallowed the first

    @property
    def styled(self) -> Screen:
        return Screen(self._stream, self._error, True, self._faults)

    def write(self, text: str) -> int:
        shown = text if self._clean else visible(text)
        if shown:  # a full disk refuses to write nothing, too; click tries that
            with self._watched():
                try:
                    self._stream.write(shown)
                except UnicodeEncodeError as error:
                    self._stream.write(shown.encode(error.encoding, "backslashreplace").decode(error.encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with self._watched():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            with contextlib.suppress(OSError, ValueError):  # what is left in the buffer would fail again when Python ends
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            self._faults.append(error)
        if not self._faults or self._error:
            return
        first = self._faults[0]
        if first.errno == errno.EPIPE:
            raise ReaderGoneError("nobody reads the output") from first
        raise SennaPruneError(f"cannot write the output: {first.strerror or first}; what was computed is kept") from first


@contextlib.contextmanager
def screens() -> Iterator[None]:
    """Standard output and errors as screens, for one command."""
    before = sys.stdout, sys.stderr
    out, err = before  # None where a process was started without one
    try:
        sys.stdout, sys.stderr = out and Screen(out), err and Screen(err, error=True)
        try:
            yield
        except SystemExit:
            _flush()
            raise
        _flush()
    finally:
        sys.stdout, sys.stderr = before


def _flush() -> None:
    """While a fault of the output can still be told."""
    if sys.stdout:
        sys.stdout.flush()


def styled(error: bool = False) -> Any:
    """The stream for our own colours; None (rich: whatever is there) outside of ``screens``."""
    stream = sys.stderr if error else sys.stdout
    return stream.styled if isinstance(stream, Screen) else None


def console_for(stderr: bool = False, width: int = WIDE) -> Console:
    """A console that is wide enough for the tables when its output goes to a file or a pipe, and shows what would steer a terminal."""
    from rich.console import Console
    from rich.segment import Segment

    class Visible(Console):
        def render(self, renderable: Any, options: Any = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                shown = segment.text if segment.control else visible(segment.text)
                yield segment if shown == segment.text else Segment(shown, segment.style)

    console = Visible(file=styled(stderr), stderr=stderr, highlight=False, emoji=False)
    return console if console.is_terminal else Visible(file=styled(stderr), stderr=stderr, highlight=False, emoji=False, width=width)
