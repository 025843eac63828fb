"""The quickstart's pictures are made by its own commands: each is named in the tool that makes them, and one is made anew here."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image

from tests.docs.pages import DOCS, commands
from tools.maintain.quickstart_pictures import PICTURES, make

PAGE = DOCS / "quickstart.md"


def test_every_picture_is_made_by_a_command_of_the_page() -> None:
    shown = {" ".join(words) for words in commands(PAGE)}
    pictures = re.findall(r"!\[[^\]]+\]\(images/([^)]+)\)", PAGE.read_text(encoding="utf-8"))
    assert set(pictures) == set(PICTURES) and all((DOCS / "images" / name).is_file() for name in pictures)
    assert {command for command, _ in PICTURES.values()} <= shown


def test_a_picture_made_anew_is_the_committed_one(tmp_path: Path) -> None:
    new, committed = (
        np.asarray(Image.open(place).convert("RGB")) for place in (make("attention.png", tmp_path), DOCS / "images/attention.png")
    )
    assert new.shape == committed.shape
    assert np.abs(new.astype(float) - committed).mean() < 2  # of 255: fonts and kernels may differ a little
