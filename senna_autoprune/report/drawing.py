"""What all figures share: style, colours, where a picture is saved."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from senna_autoprune.errors import SennaPruneError, visible
from senna_autoprune.files.atomic import replace_file

GREY, ACCENT = "#8a8f98", "#0b62a8"


PICTURES = (".png", ".svg", ".pdf")


STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "svg.hashsalt": "senna-prune",  # the same figure is the same file
}
NAMED = ("FixedFormatter", "FuncFormatter")  # formatters of axes whose ticks are words


@contextmanager
def style() -> Iterator[None]:
    """Our look, on a backend without a screen."""
    import matplotlib

    matplotlib.use("Agg")
    with matplotlib.rc_context(STYLE):
        yield


def show_texts(figure: Any) -> None:
    """Make visible what is no character of a picture (no SVG could hold it) or turns the order of reading round."""
    from matplotlib.text import Text

    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            labels = [label.get_text() for label in axis.get_ticklabels()] if axis.get_major_formatter().__class__.__name__ in NAMED else []
            if not all(label.isprintable() for label in labels):
                axis.set_ticks(axis.get_ticklocs(), labels=[visible(label) for label in labels])
    for text in figure.findobj(Text):
        if not text.get_text().isprintable():
            text.set_text(visible(text.get_text()))


def sign(figure: Any, label: str | None) -> None:
    """What must be said of the figure's data (``demo.LABEL``), below its lower right corner; None: nothing."""
    if label is not None:
        box = figure.get_tightbbox()  # in inches, names beside and below the axes included
        bottom = min(0.0, box.y0 / figure.get_figheight() - 0.01)
        figure.text(1, bottom, label, ha="right", va="top", fontsize=7, color=GREY)


def picture_path(text: str) -> Path:
    """Where to draw a figure. SennaPruneError unless it ends in .png, .svg or .pdf."""
    path = Path(text)
    if path.suffix not in PICTURES or path.is_dir():
        raise SennaPruneError(f"--out {text}: name a picture that ends in {', '.join(PICTURES)}")
    return path


def save(figure: Any, *paths: Path) -> None:
    """Write a figure to each path in the format of its suffix, without the time of day, and close it.

    Raises:
        SennaPruneError: a folder cannot be made or written.
    """
    from matplotlib import pyplot

    try:
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            undated = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(path.suffix)
            show_texts(figure)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a model may answer in any script
                drawn = io.BytesIO()
                figure.savefig(drawn, format=path.suffix[1:], dpi=150, bbox_inches="tight", metadata=undated)
            replace_file(path, drawn.getvalue())
    except OSError as error:
        raise SennaPruneError(f"cannot write the figure {path}: {error.strerror or error}") from error
    finally:
        pyplot.close(figure)
