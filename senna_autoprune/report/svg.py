"""A matplotlib figure as part of a page: SVG inside the HTML, in the page's own colours, with a name and a description."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from senna_autoprune.errors import visible
from senna_autoprune.report.drawing import show_texts, style

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class Ink:
    """The colours of a figure. ``PAGE`` stands for variables of the page's style sheet, ``PAPER`` is for files."""

    text: str
    faint: str
    line: str
    card: str
    accent: str
    lit: str
    good: str
    bad: str


PAPER = Ink("#1c2128", "#5c6672", "#d5dae1", "#ffffff", "#0b62c4", "#e0850b", "#1b7f3b", "#c2272d")
PAGE = Ink(*(f"#a1b2{index:02x}" for index in range(8)))  # replaced in the SVG; no figure has these by chance


@contextmanager
def drawing(ink: Ink) -> Iterator[None]:
    """Our look in these colours, with text that stays text and is never read as a formula."""
    import matplotlib

    colours: Any = {
        "text.color": ink.text,
        "axes.labelcolor": ink.text,
        "axes.edgecolor": ink.faint,
        "axes.facecolor": "none",
        "figure.facecolor": "none" if ink is PAGE else ink.card,
        "grid.color": ink.faint,
        "xtick.color": ink.faint,
        "xtick.labelcolor": ink.text,
        "ytick.color": ink.faint,
        "ytick.labelcolor": ink.text,
        "svg.fonttype": "none",
        "text.parse_math": False,
    }
    with style(), matplotlib.rc_context(colours):
        yield


def inline_svg(figure: Any, name: str, description: str) -> Markup:
    """The figure as an SVG element that scales with its container; closes it.

    Args:
        name: unique in the page; prefix of all ids inside.
        description: what the figure shows, for those who do not see it.
    """
    from markupsafe import Markup, escape
    from matplotlib import pyplot

    file = io.StringIO()
    show_texts(figure)
    figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    pyplot.close(figure)
    text = file.getvalue()
    text = text[text.index("<svg") :]
    for variable, colour in vars(PAGE).items():
        text = text.replace(colour, f"var(--{variable})")
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)  # ids must be unique in the page
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1; font-family: inherit", text)
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="([^"]*)"', head)
    assert box is not None
    width = float(box[1].split()[2])
    opening = (
        f'<svg viewBox="{box[1]}" style="max-width: {width * 96 / 72:.0f}px" role="img" '
        f'aria-label="{escape(visible(description))}" xmlns:xlink="http://www.w3.org/1999/xlink" xmlns="http://www.w3.org/2000/svg">'
    )
    return Markup(opening + body.strip())
