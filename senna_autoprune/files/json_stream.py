"""A file that is one JSON list, element by element: memory does not grow with the file.

The standard decoder does the decoding; only the list round the elements is ours. ijson was built in and taken out again: it refuses NaN,
so that one keyframe without a position would cost a data set (here its questions are left out and counted), and takes half a character
for "?", a byte order mark for an error and memory with the square of the depth. To keep all that from it took more code than this.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.json_files import text_fault
from senna_autoprune.files.regular import open_regular_text

CHUNK = 1 << 20  # characters read at once, at least
LONGEST = 1 << 24  # characters of one element; beyond this the file is no such list
_SPACE = re.compile("[ \t\r\n\ufeff]*")
_ODD = re.compile("\\\\[ubf]|[\x7f-\x9f\ud800-\udfff]")  # in JSON: an escape that may be no text, or a code that is none
_MARKS = ("\\u", "\\b", "\\f", "\x7f")  # without them a chunk of ASCII has nothing odd
_COMMA = re.compile("[ \t\r\n]*,[ \t\r\n]*")


def iter_elements(path: str | PathLike[str], file: str, holds: str, noun: str, remedy: str, text: bool = False) -> Iterator[Any]:
    """The elements of a file that is one JSON list, decoded one at a time.

    Elements must be objects or lists to be told from their own beginnings at a chunk's end; anything else is an error.

    Args:
        file, holds, noun, remedy: for an error: what the file is called, its contents, one element of it, and what to do then.
        text: strings must be text (``json_files.text_fault``), for they will be stored or shown.
    Raises:
        SennaPruneError: the file is missing, unreadable, no JSON list, cut off or broken, when the fault is reached.
    """
    reader = _Reader(Path(path), holds, noun, remedy, text)
    try:
        for number, value in enumerate(reader.elements()):
            if text and reader.odd and _ODD.search(reader.text, reader.start, reader.at) is not None:  # else there is nothing to look for
                fault = text_fault(value)
                if fault:
                    raise reader.broken(number, fault)
            yield value
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SennaPruneError(f"{path}: cannot read the {file} ({reason})") from error


class _Reader:
    """``text[at:]`` is read and not decoded yet; ``done``: the file holds no more."""

    def __init__(self, path: Path, holds: str, noun: str, remedy: str, looked_through: bool) -> None:
        self.path, self.holds, self.noun, self.remedy, self.looked_through = path, holds, noun, remedy, looked_through
        self.text, self.at, self.done = "", 0, False
        self.start = 0  # of the element decoded last
        self.odd = False  # whether ``_ODD`` may be found in the text: a look at a chunk is a tenth of one at each element

    def elements(self) -> Iterator[Any]:
        decode = json.JSONDecoder().raw_decode
        with open_regular_text(self.path) as file:
            self.file = file
            if self._next() != "[":
                raise SennaPruneError(f"{self.path}: not a JSON list of {self.holds}: {self.remedy}")
            self.at += 1
            number = 0
            while (here := self._next()) != "]":
                if number:
                    if here != ",":
                        raise self._cut_or_broken(number, here)
                    self.at += 1
                    here = self._next()
                if here not in ("{", "["):
                    raise self._cut_or_broken(number, here)
                value = self._element(number)
                while True:  # the usual case in a row: an element that is wholly read, its comma, the next one's bracket
                    yield value
                    number += 1
                    comma = _COMMA.match(self.text, self.at)
                    if comma is None or self.text[comma.end() : comma.end() + 1] not in ("{", "["):
                        break
                    try:
                        self.start = comma.end()
                        value, self.at = decode(self.text, self.start)
                    except (ValueError, RecursionError):  # not yet wholly read, perhaps: the careful way says
                        if not self.done:
                            self._more()
                        break
            self.at += 1
            if self._next():
                raise SennaPruneError(f"{self.path}: text after the end of the list, at {self.text[self.at : self.at + 20]!r}")

    def _element(self, number: int) -> Any:
        """The element that begins here, reading on until it is whole."""
        while True:
            try:
                self.start = self.at
                value, self.at = json.JSONDecoder().raw_decode(self.text, self.at)
                return value
            except json.JSONDecodeError as error:
                if len(self.text) - self.at > LONGEST:
                    raise self.broken(number, f"longer than {LONGEST} characters") from error
                if self.done:
                    raise self.broken(number, error.msg) from error
                self._more()
            except RecursionError as error:
                raise self.broken(number, "nested too deeply") from error
            except ValueError as error:  # an integer of thousands of digits
                raise self.broken(number, str(error)) from error

    def _more(self) -> None:
        chunk = self.file.read(max(CHUNK, len(self.text) - self.at))  # doubling: a long element is not decoded again and again
        self.text, self.at, self.done = self.text[self.at :] + chunk, 0, chunk == ""
        if self.looked_through:  # a fifth of the time that nuScenes tables take
            self.odd = not self.text.isascii() or any(mark in self.text for mark in _MARKS)

    def _next(self) -> str:
        """The next character that is no white space; empty at the end of the file."""
        while True:
            self.at = _SPACE.match(self.text, self.at).end()  # type: ignore[union-attr]  # matches anywhere, if nothing
            if self.at < len(self.text) or self.done:
                return self.text[self.at : self.at + 1]
            self._more()

    def broken(self, number: int, reason: str) -> SennaPruneError:
        return SennaPruneError(f"{self.path}: {self.noun} {number} is broken or cut off ({reason}): {self.remedy}")

    def _cut_or_broken(self, number: int, here: str) -> SennaPruneError:
        if not here:
            return SennaPruneError(f"{self.path}: the file is cut off after {number} {self.noun}s: {self.remedy}")
        return SennaPruneError(f"{self.path}: {self.noun} {number} is not an object (found {here!r}): {self.remedy}")
