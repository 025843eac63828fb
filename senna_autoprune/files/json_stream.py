"""A file that is one JSON list, element by element: memory does not grow with the file.

ijson decodes. It has three habits that an untrusted file must not meet, and the file is read through ``_Guarded`` for them: half a
character becomes "?" without a word, memory grows with the square of the depth, and a byte order mark is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from os import PathLike, fspath
from typing import Any, BinaryIO

import ijson

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.json_files import text_fault
from senna_autoprune.files.regular import open_regular

CHUNK = 1 << 15  # bytes read at once
LONGEST = 1 << 24  # bytes of one element; beyond this the file is no such list
DEEPEST = 500  # brackets within brackets; json takes about twice as many
_BOM, _SPACE = b"\xef\xbb\xbf", b" \t\r\n"
_SHAPE = bytes.maketrans(b"{}", b"[]")
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))
# \ud800 to \udbff, its backslash not escaped itself, and then something else than \udc00 to \udfff or, at the end, its beginning
_HALF = re.compile(rb"(?<!\\)(?:\\\\)*\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F]|\\?\Z|\\u\Z|\\u[dD]\Z)")
_SEEN_AGAIN = 64  # bytes of a chunk that are looked at with the next one: a pair of escapes may lie across
_ODD = (b"\\u", b"\\b", b"\\f", b"\x7f", b"\xc2")  # without them no string holds what ``text_fault`` looks for


def iter_elements(path: str | PathLike[str], file: str, holds: str, noun: str, remedy: str, text: bool = False) -> Iterator[Any]:
    """The elements of a file that is one JSON list, decoded one at a time.

    Elements must be objects or lists. Whole numbers must fit into 64 bits, others into a double; NaN is no JSON.

    Args:
        file, holds, noun, remedy: for an error: what the file is called, its contents, one element of it, and what to do then.
        text: strings must be text (``json_files.text_fault``), for they will be stored or shown.
    Raises:
        SennaPruneError: the file is missing, unreadable, no JSON list, cut off or broken, when the fault is reached.
    """
    where, source = fspath(path), _Guarded(text)

    def broken(reason: object) -> SennaPruneError:
        return SennaPruneError(f"{where}: {noun} {source.ended} is broken or cut off ({reason}): {remedy}")

    try:
        with open_regular(path) as source.file:
            for number, value in enumerate(ijson.items(source, "item", use_float=True, buf_size=CHUNK)):
                if not isinstance(value, dict | list):
                    raise SennaPruneError(f"{where}: {noun} {number} is not an object (found {value!r:.40}): {remedy}")
                if source.odd and (fault := text_fault(value)):
                    raise broken(fault)
                source.ended = number + 1
                yield value
    except OSError as error:
        raise SennaPruneError(f"{where}: cannot read the {file} ({error.strerror or error})") from error
    except _NoList as error:
        raise SennaPruneError(f"{where}: not a JSON list of {holds}: {remedy}") from error
    except _Fault as error:
        raise broken(error) from error
    except (ijson.JSONError, UnicodeDecodeError) as error:
        reason = _first_line(error)
        if "premature EOF" in reason:
            raise SennaPruneError(f"{where}: the file is cut off after {source.ended} {noun}s: {remedy}") from error
        if "trailing garbage" in reason:
            raise SennaPruneError(f"{where}: text after the end of the list: {remedy}") from error
        raise broken(reason) from error


def _first_line(error: Exception) -> str:
    """What the parser says, without the picture of the place below it."""
    return re.match(r"(?:b['\"])?([^\n\\]*)", str(error))[1].strip()  # type: ignore[index]  # matches anything


class _NoList(Exception):
    """The file does not begin with a bracket."""


class _Fault(Exception):
    """What the parser would not notice, or not survive."""


class _Guarded:
    """A file's bytes, looked at before the parser gets them.

    file: to be given before the first ``read``. ended: how many elements have, to be told.
    odd: whether an element that ends in the last chunk may hold what is no text (never, unless ``text``).
    """

    file: BinaryIO

    def __init__(self, text: bool) -> None:
        self._text = text
        self.ended = self._ended_before = 0
        self._begun = self.odd = self._odd_here = False
        self._fault: _Fault | None = None
        self._tail = b""  # of the chunk before
        self._depth = self._length = 0  # since an element ended; brackets in strings count, too, which does no harm

    def read(self, size: int) -> bytes:
        """Bytes up to the first fault, so that the elements before it are there; it is raised when it is reached.

        Raises _NoList, _Fault, OSError.
        """
        if self._fault is not None:
            raise self._fault
        if self.ended != self._ended_before:
            self._ended_before, self.odd = self.ended, self._odd_here
            self._depth = self._length = 0
        chunk = self.file.read(size)
        if size and not self._begun:
            chunk = self._beginning(chunk, size)
        for look in (self._half, self._too_deep, self._too_long):
            place = look(chunk)
            if place is not None and self._fault is not None:
                chunk = chunk[:place]
                if not chunk:
                    raise self._fault
        if self._text:  # a look at a chunk is a tenth of one at each element
            marked = self._tail[-1:] + chunk
            self._odd_here = any(mark in marked for mark in _ODD)
            self.odd = self.odd or self._odd_here
        self._tail = (self._tail[-_SEEN_AGAIN:] + chunk[-_SEEN_AGAIN:])[-_SEEN_AGAIN:]
        return chunk

    def _half(self, chunk: bytes) -> int | None:
        """Where a text ends that holds half a character, in the chunk."""
        if b"\\u" not in chunk and b"\\" not in self._tail:
            return None
        found = _HALF.search(self._tail + chunk)
        if found is None:
            return None
        self._fault = _Fault("not text: half a character")
        return max(0, found.end() - len(self._tail))

    def _too_deep(self, chunk: bytes) -> int | None:
        opened = chunk.count(b"[") + chunk.count(b"{")
        if self._depth + opened > DEEPEST:  # else it is at most that deep: no need to count what is closed
            closed, opened = _left_open(chunk)
            if max(self._depth - closed, 0) + opened > DEEPEST:
                self._fault = _Fault("nested too deeply")
                return _place_of_depth(chunk, DEEPEST - self._depth)
            self._depth = max(self._depth - closed, 0)
        self._depth += opened
        return None

    def _too_long(self, chunk: bytes) -> int | None:
        self._length += len(chunk)
        if self._length <= LONGEST + CHUNK:
            return None
        self._fault = _Fault(f"longer than {LONGEST} bytes")
        return 0

    def _beginning(self, chunk: bytes, size: int) -> bytes:
        """The first chunk that holds more than white space."""
        while len(chunk) < len(_BOM) and (more := self.file.read(size)):
            chunk += more
        chunk = chunk.removeprefix(_BOM).lstrip(_SPACE)
        while not chunk and (more := self.file.read(size)):
            chunk = more.lstrip(_SPACE)
        if not chunk.startswith(b"["):
            raise _NoList
        self._begun = True
        return chunk


def _left_open(chunk: bytes) -> tuple[int, int]:
    """How many brackets a text closes that were open before it, and how many it leaves open; or more, of one that nests too deeply."""
    left = chunk.translate(_SHAPE, _NO_BRACKET)
    for _ in range(DEEPEST):  # each round takes the innermost pairs away
        before, left = len(left), left.replace(b"[]", b"")
        if len(left) == before:
            closed = left.count(b"]")
            return closed, before - closed
    return 0, len(left)


def _place_of_depth(chunk: bytes, levels: int) -> int:
    """The bracket with which a text goes down more than ``levels``; its end, if none does."""
    depth = 0
    for place, byte in enumerate(chunk):
        if byte in b"[{":
            depth += 1
            if depth > levels:
                return place
        elif byte in b"]}":
            depth -= 1
    return len(chunk)
