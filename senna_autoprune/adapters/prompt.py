"""Prompt templates: seven placeholders in plain text, and what they stand for as a list of text and picture parts.

No expressions, attributes or format specifications: a template is data from a file of somebody else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from senna_autoprune.errors import SennaPruneError

NAMES = ("asked", "question", "view", "speed", "command", "history")
FACTS = ("speed", "command", "history")

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}\n]{0,200})\}|[{}]")
_INSIDE = re.compile(r"([a-z]+)(?::([A-Za-z0-9_-]{1,64})(?:@(-?\d{1,3}(?:\.\d{1,4})?))?)?")

P = TypeVar("P")


@dataclass(frozen=True)
class Placeholder:
    """``camera`` and ``frame`` (seconds) of a ``view``; frame None: all of them."""

    name: str
    camera: str | None = None
    frame: float | None = None


def split_template(template: str) -> list[str | Placeholder]:
    """Text and placeholders in order. ValueError: an unknown placeholder, or a brace alone."""
    parts: list[str | Placeholder] = []
    at = 0
    for match in _PIECE.finditer(template):
        parts.append(template[at : match.start()])
        at = match.end()
        if match[0] in ("{{", "}}"):
            parts.append(match[0][0])
        elif match[1] is None:
            raise ValueError(f"a {match[0]!r} alone: write {match[0] * 2!r} for the character")
        else:
            parts.append(_placeholder(match[1]))
    parts.append(template[at:])
    return [part for part in parts if part != ""]


def placeholders(template: str) -> list[Placeholder]:
    """Those of a template, in order. ValueError as ``split_template``."""
    return [part for part in split_template(template) if isinstance(part, Placeholder)]


def _placeholder(inside: str) -> Placeholder:
    match = _INSIDE.fullmatch(inside)
    if match is None or match[1] not in NAMES:
        known = ", ".join("{view:CAM_FRONT}" if name == "view" else f"{{{name}}}" for name in NAMES)
        raise ValueError(f"unknown placeholder {{{inside[:60]}}}; known: {known}")
    if (match[1] == "view") != (match[2] is not None):
        wrong = "names no camera, like {view:CAM_FRONT}" if match[1] == "view" else "takes no camera"
        raise ValueError(f"the placeholder {{{inside[:60]}}} {wrong}")
    return Placeholder(match[1], match[2], float(match[3]) if match[3] is not None else None)


def fill(
    template: str,
    question: str,
    asked: Sequence[str | P],
    pictures: Mapping[str, Sequence[tuple[float, P]]],
    facts: Mapping[str, str],
    where: str,
) -> list[str | P]:
    """The parts of a prompt: text, and pictures where they are shown; neighbouring texts are joined.

    Args:
        question: without image marks. asked: the question file's text as text and pictures.
        pictures: camera -> (frame, picture), in time.
        facts: what is known of ``FACTS``.
        where: names the question in an error.
    Raises:
        SennaPruneError: the template needs a fact or a picture that this question does not have.
    """
    parts: list[str | P] = []
    shown: list[P]
    for part in split_template(template):
        if isinstance(part, str):
            parts.append(part)
        elif part.name == "question":
            parts.append(question)
        elif part.name == "asked":
            parts += asked
        elif part.name == "view":
            shown = [one for frame, one in pictures.get(part.camera or "", ()) if part.frame in (None, frame)]
            if not shown:
                raise SennaPruneError(f"{where} has no picture of {part.camera}, which the adapter's prompt shows")
            parts += shown
        elif part.name in facts:
            parts.append(facts[part.name])
        else:
            raise SennaPruneError(f"{where} states no {part.name}, which the adapter's prompt needs: take {{{part.name}}} out of it")
    return _joined(parts)


def _joined(parts: Sequence[str | P]) -> list[str | P]:
    """Neighbouring texts as one; empty ones left out."""
    joined: list[str | P] = []
    for part in parts:
        last = joined[-1] if joined else None
        if isinstance(part, str) and isinstance(last, str):
            joined[-1] = last + part
        elif part != "":
            joined.append(part)
    return joined
