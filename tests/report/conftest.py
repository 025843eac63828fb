"""A report of a small run by hand, and one of a hostile run."""

from __future__ import annotations

from pathlib import Path

import pytest

from senna_autoprune.report.page import render_report
from senna_autoprune.report.run import Run, read_run
from tests.replay.browser import ATTACKS
from tests.report.rendering import REPLAYS, WHEN, hostile, rendered
from tests.report.runs import made


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return read_run(made(tmp_path_factory.mktemp("made")).write())


@pytest.fixture(scope="module")
def page(run: Run) -> str:
    return rendered(run)


@pytest.fixture(scope="module")
def attack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a hostile run."""
    folder = tmp_path_factory.mktemp("hostile")
    bad = read_run(hostile(folder).write())
    (folder / "report.html").write_text(render_report(bad, 12, REPLAYS, ["".join(ATTACKS)], WHEN), encoding="utf-8")
    return folder / "report.html"
