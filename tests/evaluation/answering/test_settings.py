"""What a blind model is shown."""

from __future__ import annotations

from senna_autoprune.evaluation.answering.settings import grey_view


def test_grey_view_is_one_colour() -> None:
    view = grey_view(8)
    assert view.size == (8, 8)
    assert view.getcolors() == [(64, (122, 116, 104))]
