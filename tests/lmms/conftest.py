"""Tests against the real lmms-eval: `make test-lmms` runs them in an environment of its own; without lmms-eval most files are left out."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

NEEDS_LMMS_EVAL = ("test_command.py", "test_plugin.py", "test_standard_tasks.py")
collect_ignore = list(NEEDS_LMMS_EVAL) if find_spec("lmms_eval") is None else []


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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not run: a folder that is left out without a word reads like one that passed."""
    if collect_ignore:
        files = [Path(__file__).parent / name for name in collect_ignore]
        count = sum(line.startswith("def test_") for file in files for line in file.read_text(encoding="utf-8").splitlines())
        said = f"tests/lmms: {count} test functions not collected, lmms-eval is not installed here: `make test-lmms` runs them"
        terminalreporter.write_line(said, yellow=True)
