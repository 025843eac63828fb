"""Cells of a CSV file that no spreadsheet runs, and no terminal obeys.

A spreadsheet takes a cell that begins with = + - or @ for a formula, quoted or not. So text that does (after white space,
full-width signs too) gets an apostrophe in front, and so does text that begins with one: ``cell.removeprefix("'")`` is the text.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

from senna_autoprune.errors import visible

DANGEROUS = tuple("=+-@'＝＋－＠")


def as_data(value: object) -> object:
    """``value``, which no spreadsheet will run; numbers as they are."""
    if not isinstance(value, str):
        return value
    text = "\r\n".join(map(visible, value.split("\r\n")))
    return f"'{text}" if text.lstrip().startswith(DANGEROUS) else text


def csv_text(columns: Sequence[str], lines: Iterable[Mapping[str, object]]) -> str:
    """A CSV file's text: the columns' names, then a line each; a column that a line lacks is empty. ValueError: a line has another one."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: as_data(value) for name, value in line.items()} for line in lines)
    return out.getvalue()
