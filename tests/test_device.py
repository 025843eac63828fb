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


class _Event:
    """Of CUDA: records when the device's queue is at it; here the queue is a number."""

    queue, waited = 0.0, 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        self.at = -1.0

    def record(self, stream: object) -> None:
        assert stream == "the stream of cuda:1"
        self.at = _Event.queue

    def synchronize(self) -> None:
        _Event.waited += 1

    def elapsed_time(self, other: _Event) -> float:
        return other.at - self.at


def test_marks_on_cuda_are_events_and_nothing_waits_between_them(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "Event", _Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"the stream of {device}")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: pytest.fail("the host waited"))
    marks = device.Marks(torch.device("cuda:1"), clock=lambda: pytest.fail("the host's clock was read"))
    first = marks.mark()
    _Event.queue += 7.5
    second = marks.mark()
    assert _Event.waited == 0
    assert marks.ms(first, second) == 7.5 and _Event.waited == 1


def test_marks_elsewhere_are_the_hosts_clock() -> None:
    import torch

    times = iter((2.0, 2.25))
    marks = device.Marks(torch.device("cpu"), clock=lambda: next(times))
    first = marks.mark()
    assert marks.ms(first, marks.mark()) == pytest.approx(250)
