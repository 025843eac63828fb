"""Figures of many questions: a density where dots would make a page of 90 MB, and the dots where they can be seen."""

from __future__ import annotations

import numpy as np
import pytest

from senna_autoprune.report.figures import MOST_POINTS, correctness, tokens
from senna_autoprune.report.information import Measured
from senna_autoprune.report.svg import PAGE, drawing, inline_svg


def questions(count: int) -> list[Measured]:
    rng = np.random.default_rng(0)
    return [Measured(float(rng.normal()), bool(n % 2), bool(n % 3), float(n), (4.0, 3.0, float(rng.random()), 1.0)) for n in range(count)]


@pytest.mark.parametrize(("make", "dots"), [(correctness, 2), (tokens, 5)])
def test_many_questions_are_a_density_and_few_are_dots(make, dots: int) -> None:
    sizes = {}
    for count in (300, 4 * MOST_POINTS):
        figure = make(questions(count), "mutual information, nats")
        with drawing(PAGE):
            svg = inline_svg(figure.draw(PAGE), figure.name, figure.description)
        sizes[count] = len(svg)
        assert (svg.count("<use ") >= dots * count) == (count == 300)
        assert ("a dot a question," in figure.caption or "a dot a question." in figure.caption) == (count == 300)
    assert sizes[4 * MOST_POINTS] < 60_000


def test_a_density_is_that_of_its_values() -> None:
    """Half the questions at 0, half at 1: two bars at the ends, nothing between."""
    found = [Measured(float(n % 2), True, True, 1.0, (1.0, 1.0, 1.0, 1.0)) for n in range(2 * MOST_POINTS + 2)]
    figure = correctness(found, "nats")
    assert figure is not None
    with drawing(PAGE):
        axis = figure.draw(PAGE).axes[0]
    (first, *_) = axis.patches
    height = first.get_data().values - first.get_data().baseline
    assert height[0] == height[-1] == pytest.approx(0.6) and not height[1:-1].any()
