"""Tables are loaded once a session."""

from __future__ import annotations

import pytest

from senna_autoprune.nuscenes.scenes import load_tables
from tests.fixtures import shared


@pytest.fixture(scope="session")
def mini():
    """v1.0-mini: 10 scenes, 404 samples with boxes and CAN poses; images of three samples."""
    return load_tables(shared("nuscenes", "mini_meta"), "v1.0-mini")


@pytest.fixture(scope="session")
def subset():
    """5 scenes, 200 samples; images of eight; three scenes without boxes and CAN poses."""
    return load_tables(shared("nuscenes", "subset"), "v1.0-mini")
