"""Tests against the real lmms-eval: `make test-lmms` runs them in an environment of its own; without lmms-eval there is nothing here."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

collect_ignore_glob = ["test_*.py"] if find_spec("lmms_eval") is None else []


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random LLaVA of 16 visual tokens an image, with tokenizer, processor and chat template."""
    from tests.lmms.tiny import save_tiny_llava

    return save_tiny_llava(tmp_path_factory.mktemp("checkpoint") / "tiny-llava")


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Local tasks of lmms-eval: ``local_colours`` (answers in words) and ``local_choice`` (continuations are scored)."""
    from tests.lmms.tiny import save_tasks

    return save_tasks(tmp_path_factory.mktemp("tasks"))
