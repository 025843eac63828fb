"""A file that is one JSON list, element by element, by ijson: memory does not grow with the file.

What ijson refuses though the standard decoder reads it (NaN, where a position was lost; whole numbers beyond 64 bits), and what it would
not read rightly (half a character becomes "?" without a word, memory grows with the square of the depth), is left to that decoder, which
needs the file whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from os import PathLike, fspath, fstat
from typing import Any, BinaryIO

import ijson

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.json_files import text_fault
from senna_autoprune.files.regular import open_regular

CHUNK = 1 << 12  # bytes read at once
LONGEST = 1 << 24  # bytes of one element; beyond this the file is no such list
BRACKETS = 4000  # opened since the last element, which nests no deeper
WHOLE = 1 << 30  # bytes of a file that is read whole
_BOM, _SPACE = b"\xef\xbb\xbf", b" \t\r\n"
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")  # of a character beyond 16 bits
_ODD = (b"\\u", b"\\b", b"\\f", b"\x7f", b"\xc2")  # without them no string holds what ``text_fault`` looks for


def iter_elements(path: str | PathLike[str], file: str, holds: str, noun: str, remedy: str, text: bool = False) -> Iterator[Any]:
    """The elements of a file that is one JSON list, decoded one at a time. Elements must be objects or lists.

    Args:
        file, holds, noun, remedy: for an error: what the file is called, its contents, one element of it, and what to do then.
        text: strings must be text (``json_files.text_fault``), for they will be stored or shown.
    Raises:
        SennaPruneError: the file is missing, unreadable, no JSON list, cut off or broken, when the fault is reached.
    """
    where, number = fspath(path), 0

    def broken(reason: object) -> SennaPruneError:
        return SennaPruneError(f"{where}: {noun} {number} is broken or cut off ({reason}): {remedy}")

    try:
        with open_regular(path) as opened:
            source = _Watched(opened, text)
            if not source.begins_a_list():
                raise SennaPruneError(f"{where}: not a JSON list of {holds}: {remedy}")
            for value in _elements(source):
                if not isinstance(value, dict | list):
                    raise SennaPruneError(f"{where}: {noun} {number} is not an object (found {value!r:.40}): {remedy}")
                if source.odd and (fault := text_fault(value)):
                    raise broken(fault)
                yield value
                number += 1
                source.element_ended()
    except UnicodeDecodeError as error:
        raise SennaPruneError(f"{where}: cannot read the {file} ({error})") from error
    except OSError as error:
        raise SennaPruneError(f"{where}: cannot read the {file} ({error.strerror or error})") from error
    except RecursionError as error:
        raise broken("nested too deeply") from error
    except _CutOff as error:
        raise SennaPruneError(f"{where}: the file is cut off after {number} {noun}s: {remedy}") from error
    except _Trailing as error:
        raise SennaPruneError(f"{where}: text after the end of the list: {remedy}") from error
    except ValueError as error:  # no JSON, or an integer of thousands of digits
        raise broken(error) from error


class _CutOff(Exception):
    """The file ends between elements, or may."""


class _Trailing(Exception):
    """The list ends before the file does."""


class _NotInPieces(ValueError):
    """What is not for ijson."""


def _elements(source: _Watched) -> Iterator[Any]:
    """In pieces as far as that goes; the rest of the file whole. Raises _CutOff, _Trailing, ValueError, RecursionError, OSError."""
    number = 0
    try:
        for value in ijson.items(source, "item", use_float=True, buf_size=CHUNK):
            yield value
            number += 1
    except (ijson.JSONError, _NotInPieces) as error:
        reason = str(error)
        if reason.startswith("parse error: premature EOF"):  # a picture of the place follows, in the file's own words
            raise _CutOff if source.between else ValueError("the file ends in it") from error
        if reason.startswith("parse error: trailing garbage"):
            raise _Trailing from error
        yield from source.whole(reason)[number:]


class _Watched:
    """A file's bytes on their way to ijson.

    odd: whether elements may hold what is no text (never, unless ``text``).
    """

    def __init__(self, file: BinaryIO, text: bool) -> None:
        self._file, self._text = file, text
        self._head = self._tail = self._last = b""  # what was read ahead; the end of the chunk before; its last byte that is no space
        self._brackets = self._length = 0  # since an element ended; brackets in strings count, too, which does no harm
        self.odd = False

    def begins_a_list(self) -> bool:
        """Whether the first character that is no white space is a bracket."""
        head = self._file.read(CHUNK).removeprefix(_BOM).lstrip(_SPACE)
        while not head and (more := self._file.read(CHUNK)):
            head = more.lstrip(_SPACE)
        self._head = head
        return head.startswith(b"[")

    @property
    def between(self) -> bool:
        """Whether what was read last may end an element, or begin the list."""
        return self._last in (b"}", b"]", b",", b"[")

    def element_ended(self) -> None:
        self._brackets = self._length = 0

    def read(self, size: int) -> bytes:
        """Raises _NotInPieces, ValueError, OSError."""
        if size == 0:  # ijson asks so whether these are bytes
            return b""
        chunk = self._head or self._file.read(max(size, self._length))  # doubling: a string is scanned again from its beginning
        self._head = b""
        self._last = chunk.rstrip()[-1:] or self._last
        seen = self._tail + chunk
        self._brackets += chunk.count(b"[") + chunk.count(b"{")
        self._length += len(chunk)
        if self._length > LONGEST + CHUNK:
            raise ValueError(f"longer than {LONGEST} bytes")
        if self._brackets > BRACKETS + CHUNK or _HALF.search(seen):
            raise _NotInPieces("it nests deeply, or has a character in two halves")
        self.odd = self.odd or (self._text and any(mark in seen for mark in _ODD))
        self._tail = seen[-5:]
        return chunk

    def whole(self, reason: str) -> list[Any]:
        """All elements. Raises ValueError, RecursionError, OSError."""
        if fstat(self._file.fileno()).st_size > WHOLE:
            raise ValueError(f"not to be read in pieces: {reason.splitlines()[0]}; and the file is too large to be read whole")
        self._file.seek(0)
        self.odd = self._text
        values = json.loads(self._file.read().decode("utf-8-sig"))
        assert isinstance(values, list)  # it begins with a bracket
        return values
