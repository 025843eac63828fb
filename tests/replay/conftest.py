"""A replay of an embedded scene by a tiny random Senna: real tables, boxes and image files, answers of nonsense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import senna_autoprune.demo
from senna_autoprune.evaluation.answering.settings import Setting
from senna_autoprune.nuscenes.scenes import load_tables
from senna_autoprune.replay.frames import Replay, make_replay
from senna_autoprune.replay.sources import scene_source
from senna_autoprune.senna import Senna
from tests.senna.tiny import tiny_model, tiny_processor

DATAROOT = Path(senna_autoprune.demo.__file__).parent / "data"
RETENTION = 0.6  # three layers, and the first runs on everything


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def nusc() -> Any:
    return load_tables(DATAROOT, "v1.0-demo")


@pytest.fixture(scope="package")
def senna() -> Senna:
    return Senna(tiny_model(), tiny_processor(), {"checkpoint": "tiny"})


@pytest.fixture(scope="package")
def replay(senna: Senna, nusc: Any) -> Replay:
    """The embedded scene with most images, the first of them."""
    setting = Setting("autoprune", "autoprune", {"retention": RETENTION})
    return make_replay(senna, scene_source(nusc, None), setting, "0.6 of the visual tokens", max_new_tokens=4)


@pytest.fixture(scope="package")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_model().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return folder
