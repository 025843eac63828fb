"""A tiny checkpoint on disk, and one thread for all commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.senna.tiny import tiny_model, tiny_processor


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
