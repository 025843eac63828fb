"""What ``auto`` stands for, on a machine with a GPU and on one without."""

from __future__ import annotations

import subprocess
import sys

import pytest

from senna_autoprune import device
from senna_autoprune.evaluation.config import EvalConfig


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(device, "has_gpu", lambda: True)
    monkeypatch.setattr(device, "_computes_bfloat16", lambda name: name != "cuda:1")
    return monkeypatch


@pytest.mark.parametrize(
    "asked, settled",
    [
        ({}, ("cuda", "bfloat16")),
        ({"device": "cpu"}, ("cpu", "float32")),
        ({"dtype": "float16"}, ("cuda", "float16")),
        ({"device": "cuda:1"}, ("cuda:1", "float32")),
        ({"device": "cpu", "dtype": "bfloat16"}, ("cpu", "bfloat16")),
    ],
)
def test_with_a_gpu(gpu: pytest.MonkeyPatch, asked: dict[str, str], settled: tuple[str, str]) -> None:
    config = EvalConfig(**asked)
    assert (config.device, config.dtype) == settled


def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "has_gpu", lambda: False)
    config = EvalConfig()
    assert (config.device, config.dtype) == ("cpu", "float32")  # as in runs made before there was auto: they go on


def test_workers_elsewhere_decide(gpu: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "has_gpu", lambda: False)
    assert (found := EvalConfig(engine="ray", gpus_per_worker=1)).device == "cuda" and found.dtype == "bfloat16" and found.worker_gpus == 1
    assert EvalConfig(engine="ray", workers=2).device == "cpu"
    monkeypatch.setattr(device, "has_gpu", lambda: True)
    assert EvalConfig(engine="ray", gpus_per_worker=0).device == "cpu"
    assert EvalConfig(engine="ray").worker_gpus == 1


def test_no_torch_where_no_driver_is() -> None:
    """On a machine without device files the answer is known at once; patched so that this one has none."""
    code = "import sys; from senna_autoprune import device; device._NODES = (); print(device.settle(), 'torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = "('cpu', 'float32') False\n" if sys.platform == "linux" else found.stdout
    assert found.stdout == expected
