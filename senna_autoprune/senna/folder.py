"""A checkpoint folder before a library reads it: regular files of bounded size, and a tokenizer that keeps texts about as long as they are.

transformers opens a dozen files by itself, a pipe among them without an end; and a tokenizer.json is a program: normalisers that
replace a space by a page, one after the other, make gigabytes of a question.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.json_files import MAX_BYTES, read_json
from senna_autoprune.files.regular import require_regular_folder

LIMITS = dict.fromkeys((".json", ".jinja", ".txt", ".model", ".yaml"), MAX_BYTES)
MOST_GROWTH = 32  # times a text's length; a byte as "<0xE2>" grows to six, a space as "\u2581" in UTF-8 to three
MOST_STEPS = 64  # of a tokenizer's normaliser or decoder
LONGEST_PATTERN = 2000  # characters; the longest we know has about 300
_REPEATS = re.compile(r"[*+]|\{\d+,\d*\}")


def check_folder(folder: Path) -> None:
    """Raises SennaPruneError if a file of a checkpoint folder is none that may be read, or its tokenizer blows texts up."""
    require_regular_folder(folder, LIMITS)
    path = folder / "tokenizer.json"
    if path.is_file():
        check_tokenizer(read_json(path), path)


def check_tokenizer(values: Any, path: Path) -> None:
    """``values``: of a tokenizer.json. Raises SennaPruneError if it can make a text ``MOST_GROWTH`` times as long, or has a pattern
    that may search for ever (a repeat within a repeat).
    """
    parts = {name: values.get(name) for name in ("normalizer", "pre_tokenizer", "decoder")} if isinstance(values, dict) else {}
    for name, part in parts.items():
        steps = _steps(part)
        if len(steps) > MOST_STEPS:
            raise SennaPruneError(f"{path}: its {name} has {len(steps)} steps, more than {MOST_STEPS}: not of a tokenizer in use")
        growth = 1
        for step in steps:
            growth *= _growth(step)
            pattern = step.get("pattern")
            expression = pattern.get("Regex") if isinstance(pattern, dict) else None
            if isinstance(expression, str) and (len(expression) > LONGEST_PATTERN or nested_repeat(expression)):
                raise SennaPruneError(f"{path}: the pattern of its {name} may search without an end: {expression[:80]!r}")
        if growth > MOST_GROWTH:
            raise SennaPruneError(f"{path}: its {name} makes texts {growth} times as long, more than {MOST_GROWTH}")


def _steps(part: Any) -> list[dict[str, Any]]:
    """The steps of a normaliser, in order; sequences in sequences are one."""
    found, todo = [], [part]
    while todo:
        item = todo.pop()
        if isinstance(item, list):
            todo += reversed(item)
        elif isinstance(item, dict):
            inner = [item[key] for key in ("normalizers", "pretokenizers", "decoders") if isinstance(item.get(key), list)]
            todo += reversed(inner)
            if not inner:
                found.append(item)
    return found


def _growth(step: dict[str, Any]) -> int:
    """How many times as long a text can become (in characters); a step that adds to a text once counts as what it adds."""
    added = [value for key in ("content", "prepend", "replacement", "prefix", "suffix") if isinstance(value := step.get(key), str)]
    pattern = step.get("pattern")
    least = max(1, len(pattern["String"])) if isinstance(pattern, dict) and isinstance(pattern.get("String"), str) else 1
    return max(1, max((-(-len(text) // least) for text in added), default=1))


def nested_repeat(pattern: str) -> bool:
    """Whether a group that may be repeated without bound holds something that may: ``(a+)+``, the classic search without an end.

    Character classes and escapes are skipped; a possessive or lazy sign after a repeat is no repeat of its own.
    """
    groups = [False]  # whether the group under way has held a repeat, the whole pattern first
    closed: bool | None = None  # of a group that has just been closed
    at = 0
    while at < len(pattern):
        character = pattern[at]
        repeat = _REPEATS.match(pattern, at)
        held, closed = closed, None
        if character == "\\":
            at += 2
        elif character == "[":
            at = _end_of_class(pattern, at)
        elif character == "(":
            groups.append(False)
            at += 1
        elif character == ")" and len(groups) > 1:
            closed = groups.pop()
            groups[-1] |= closed
            at += 1
        elif repeat is not None:
            if held:
                return True
            groups[-1] = True
            at = repeat.end() + (pattern[repeat.end() : repeat.end() + 1] in ("+", "?") and repeat.end() < len(pattern))
        else:
            at += 1
    return False


def _end_of_class(pattern: str, at: int) -> int:
    """The place after a character class that begins at ``at`` (classes may hold classes)."""
    depth = 0
    while at < len(pattern):
        if pattern[at] == "\\":
            at += 1
        elif pattern[at] == "[":
            depth += 1
        elif pattern[at] == "]":
            depth -= 1
            if not depth:
                return at + 1
        at += 1
    return at
