"""The one error type a user is meant to see.

The CLI turns a ``SennaPruneError`` into one line on stderr and exit code 2; everything else is a bug and keeps its traceback.
"""

from __future__ import annotations


class SennaPruneError(Exception):
    """Bad input or set-up: one line that says what is wrong, where, and what to do. Raised by every public entry point."""
