"""JSON files are untrusted data: how large, how deep and what text is accepted, and every fault as one line."""

from __future__ import annotations

import json
import re
from os import PathLike
from typing import Any

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.regular import read_regular

MAX_BYTES = 64_000_000  # of a file read at once; the largest we know, an index of weights, has a hundredth of it
LONGEST_NAME = 2000  # characters of what names something: a sample, a scene, a place
LONGEST_TEXT = 1_000_000  # of a question or an answer; one that is only too long for the model is a failed sample
# No C0 or C1 control code but tab and line breaks, nothing that steers a terminal; no half of a character
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def read_json(path: str | PathLike[str], limit: int = MAX_BYTES, own: bool = False) -> Any:
    """What a JSON file holds. ``own``: of a run folder, so that links are refused.

    Raises:
        SennaPruneError: the file is missing, unreadable, larger than ``limit``, no JSON, nested too deeply, or holds
        what is no text.
    """
    try:
        value = json.loads(read_regular(path, limit, own).decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise SennaPruneError(f"file not found: {path}") from error
    except RecursionError as error:
        raise SennaPruneError(f"broken JSON in {path}: nested too deeply") from error
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, no JSON, an integer of thousands of digits
        raise SennaPruneError(f"broken JSON in {path}: {error}") from error
    fault = text_fault(value)
    if fault:
        raise SennaPruneError(f"broken JSON in {path}: {fault}")
    return value


def text_fault(value: Any) -> str | None:
    """What is wrong with a text anywhere in a JSON value, if anything: such text can neither be stored nor shown."""
    todo = [value]  # no recursion: the value may be nested as deeply as the decoder could go
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            found = _NO_TEXT.search(item)
            if found:
                return f"not text: a string holds the code U+{ord(found[0]):04X}"
        elif isinstance(item, dict):
            todo += [*item, *item.values()]
        elif isinstance(item, list):
            todo += item
    return None
