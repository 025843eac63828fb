"""Text of strangers in pages, pictures and data of pages: neither markup, nor what no file may hold, nor turned round."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

from senna_autoprune.replay.html import script_json
from senna_autoprune.replay.pages import environment
from senna_autoprune.report.drawing import save, style
from senna_autoprune.report.svg import PAGE, drawing, inline_svg
from senna_autoprune.tables.grid import Grid, markdown

EVIL = "a<b>&\x01\x1b[2J\u202eb\u2066"
SHOWN = r"a<b>&\x01\x1b[2J\u202eb\u2066"


def figure() -> object:
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots()
    axes.set_title(EVIL)
    axes.plot([0, 1], [0, 1], label=EVIL)
    axes.set_xticks([0, 1], labels=[EVIL, "b"])
    axes.legend()
    return drawn


def texts(svg: str) -> list[str]:
    """Of its text elements; a file that is no XML raises."""
    return [element.text for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("text") and element.text]


def test_a_picture_in_a_page() -> None:
    with drawing(PAGE):
        svg = inline_svg(figure(), "x", EVIL)
    assert texts(svg).count(SHOWN) == 3
    assert "\u202e" not in svg and "\x1b" not in svg


def test_a_picture_in_a_file(tmp_path: Path) -> None:
    with style():
        save(figure(), tmp_path / "x.svg")
    text = (tmp_path / "x.svg").read_text()
    ElementTree.fromstring(text)
    assert "\u202e" not in text and "\x1b" not in text


def test_a_page() -> None:
    page = environment("senna_autoprune.replay").from_string("{{ text }}").render(text=EVIL)
    assert page == r"a&lt;b&gt;&amp;\x01\x1b[2J\u202eb\u2066"
    assert json.loads(script_json({"a": [EVIL, ("前", 1)]})) == {"a": [SHOWN, ["前", 1]]}


def test_a_table_in_markdown() -> None:
    text = "\n".join(markdown(Grid(EVIL, ["x"], [[EVIL]], notes=[EVIL])))
    assert text.count(r"a&lt;b>&amp;\x01\x1b[2J\u202eb\u2066") == 3
