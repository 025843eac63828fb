"""A table as text cells, which every output (terminal, Markdown, HTML) draws its own way, and numbers as such text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from senna_autoprune.errors import visible

UNDEFINED = "n/a"
NOT_MEASURED = "not measured"


@dataclass
class Grid:
    """A titled table of text cells.

    Attributes:
        columns: headings; a line break in one is where it may be broken.
        sections: row numbers after which a rule belongs.
        notes: what must be read with the table, sentence by sentence.
        texts: columns that hold words and are aligned to the left; the others hold figures.
        strong: row numbers of what the table is about.
    """

    title: str
    columns: list[str]
    rows: list[list[str]] = field(default_factory=list)
    sections: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    texts: tuple[int, ...] = (0,)
    strong: list[int] = field(default_factory=list)

    def end_section(self) -> None:
        """A rule after the last row so far."""
        if self.rows:
            self.sections.append(len(self.rows) - 1)


def percent(value: float | None, sign: str = " %") -> str:
    """0.1234 -> "12.3 %"."""
    return UNDEFINED if value is None else f"{100 * value:.1f}{sign}"


def number(value: float | None, digits: int = 3, absent: str = UNDEFINED) -> str:
    """A figure with that many decimals."""
    return absent if value is None else f"{value:.{digits}f}"


def interval(found: Mapping[str, Any] | None, sign: str = " %") -> str:
    """``value [low, high]`` of shares, in percent; the bounds are left out where there are none."""
    if found is None or found["value"] is None:
        return UNDEFINED
    if found["low"] is None:
        return percent(found["value"], sign)
    return f"{percent(found['value'], sign)} [{percent(found['low'], '')}, {percent(found['high'], '')}]"


def markdown(grid: Grid) -> list[str]:
    """A heading, the table and its notes as lines of Markdown."""
    rules = ["---" if index in grid.texts else "---:" for index in range(len(grid.columns))]
    lines = [f"### {_escape(grid.title)}", "", _line(grid.columns), _line(rules)]
    lines += [_line(row) for row in grid.rows]
    return [*lines, "", *(f"- {_escape(note)}" for note in grid.notes)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escape(cell) for cell in cells) + " |"


def _escape(text: str) -> str:
    flat = visible(" ".join(text.split()))
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|").replace("`", "\\`")
