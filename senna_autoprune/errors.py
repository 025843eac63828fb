"""The one error type a user is meant to see.

The CLI turns a ``SennaPruneError`` into one line on stderr and exit code 2; everything else is a bug and keeps its traceback.
"""

from __future__ import annotations

import unicodedata

LONGEST_LINE = 1000  # characters
_STEERING = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}  # categories: control, format (bidi too), half characters, line separators


def visible(text: str) -> str:
    """A text that may quote untrusted input, with every character that steers a terminal, or the order of what is read (bidi), as
    its escape: ``\\x1b``. Line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" or unicodedata.category(c) not in _STEERING else repr(c)[1:-1] for c in text)


def one_line(text: object) -> str:
    """A text that may quote untrusted input, as one line for a terminal: no line breaks, no control codes, not endless."""
    line = visible(" ".join(str(text).split()))
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE // 2]} ... {line[-LONGEST_LINE // 2 :]}"


class SennaPruneError(Exception):
    """Bad input or set-up: one line that says what is wrong, where, and what to do. Raised by every public entry point."""
