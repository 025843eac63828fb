"""The recorded checkpoint and its samples, loaded once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from senna_autoprune.senna import Senna, load_senna
from tests.fixtures import shared

SAMPLES = ("s0", "s1", "s2", "s3", "s4")


@pytest.fixture(autouse=True, scope="package")
def few_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Recording:
    """One recorded sample: its question, image paths, exact pixels, and what the original code computed from them."""

    def __init__(self, name: str) -> None:
        root = shared("fixtures", "senna-samples")
        self.name = name
        sample = next(item for item in json.loads((root / "samples.json").read_text()) if item["id"] == name)
        self.question: str = sample["question"]
        self.images: list[Path] = [root / image for image in sample["images"]]
        self.dump = dict(np.load(shared("fixtures", "senna-tiny-a", "dump_f32", f"{name}.npz")))
        runs = json.loads(shared("fixtures", "senna-tiny-a", "dump_f32", "runs.json").read_text())
        self.run: dict[str, Any] = next(item for item in runs if item["id"] == name)
        stored = np.load(root / "pixels" / f"{name}.npz")
        self.pixels = np.stack([stored["lut"][c][stored["u8"][:, c]] for c in range(3)], 1)  # (6, 3, 336, 336)

    def inputs(self) -> dict[str, torch.Tensor]:
        """Model inputs from the recorded ids and pixels."""
        return {"input_ids": torch.tensor(self.dump["input_ids"])[None], "pixel_values": torch.tensor(self.pixels)[None]}


_cache: dict[str, Recording] = {}


@pytest.fixture(params=SAMPLES)
def recording(request) -> Recording:
    return recorded(request.param)


def recorded(name: str) -> Recording:
    if name not in _cache:
        _cache[name] = Recording(name)
    return _cache[name]


@pytest.fixture
def s0() -> Recording:
    return recorded("s0")


@pytest.fixture(scope="session")
def senna() -> Senna:
    return load_senna(shared("fixtures", "senna-tiny-a", "checkpoint"))


@pytest.fixture
def checkpoint_copy(tmp_path) -> Path:
    """A writable copy of the recorded checkpoint and of its vision tower, side by side."""
    source = shared("fixtures", "senna-tiny-a")
    for name in ("checkpoint", "openai"):
        shutil.copytree(source / name, tmp_path / name, copy_function=shutil.copyfile)
        for folder in [tmp_path / name, *(p for p in (tmp_path / name).rglob("*") if p.is_dir())]:
            folder.chmod(0o755)
    return tmp_path / "checkpoint"


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    """The hub's client must never be asked for a download unless a test says so."""
    import huggingface_hub

    def refuse(name, *args, local_files_only=False, **kwargs):
        if not local_files_only:
            raise AssertionError(f"the network was asked for {name}")
        raise FileNotFoundError(name)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
