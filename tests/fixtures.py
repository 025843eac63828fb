"""Where the shared recordings are. Tests that need them skip on a bare machine and fail when CI says they must be there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("SENNA_SHARED", Path(__file__).resolve().parents[2] / "shared"))
FIXTURES = SHARED / "fixtures"
NUSCENES = SHARED / "nuscenes"


def shared(*parts: str) -> Path:
    """A path below ``../shared``; skips the test if it is absent, or fails it when ``CI=true``."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        message = f"{path} is missing: these recordings are needed for this test"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path
