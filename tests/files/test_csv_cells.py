"""A CSV cell is never a formula, and never steers who prints the file."""

from __future__ import annotations

import pytest

from senna_autoprune.files.csv_cells import as_data


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "'x", " =1", "\t=cmd|' /C calc'!A0", "＝1", "\n-1"])
def test_formulas_become_text(text: str) -> None:
    assert as_data(text) == f"'{text}"


def test_what_is_none_stays() -> None:
    assert [as_data(value) for value in ("KEEP, STRAIGHT", 1.5, -2, None, True, "")] == ["KEEP, STRAIGHT", 1.5, -2, None, True, ""]
    assert as_data("a\x1b[2J\u202e") == r"a\x1b[2J\u202e"
