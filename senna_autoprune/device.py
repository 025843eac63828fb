"""Where a model runs and in which numbers, where nobody said: a GPU in bfloat16 where there is one, else the CPU in float32.

What is chosen here is written into a run's settings by its own name, so that a run goes on only on what it was begun on.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

AUTO = "auto"
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _NEVER = -1, -3, 2**31 - 1  # of mallopt(3)
# device files without which CUDA or ROCm cannot work on Linux: drivers, WSL, ROCm, Jetson
_NODES = ("nvidia[0-9]*", "nvidiactl", "dxg", "kfd", "nvhost-*", "nvmap", "nvgpu")


def settle(device: str = AUTO, dtype: str = AUTO, gpus: float | None = None) -> tuple[str, str]:
    """Device and dtype by name, with "auto" replaced.

    Args:
        device: "auto", or any torch device, which stays as it is.
        dtype: "auto": bfloat16 on a GPU that computes in it, else float32.
        gpus: of each worker on other machines, where that was said; they then decide in place of this machine.
    """
    if device == AUTO:
        there = has_gpu() if gpus is None else gpus > 0
        device = "cuda" if there else "cpu"
    if dtype == AUTO:
        dtype = "bfloat16" if device.startswith("cuda") and (not has_gpu() or _computes_bfloat16(device)) else "float32"
    return device, dtype


@cache
def has_gpu() -> bool:
    """Whether torch can use a GPU of this machine. Does not import torch where no driver is."""
    if sys.platform == "linux" and not any(next(Path("/dev").glob(pattern), None) for pattern in _NODES):
        return False
    import torch

    return torch.cuda.is_available()


def keep_freed_memory() -> bool:
    """Let this process keep the memory that it frees; whether it does now: False where the allocator is not glibc's, or refuses.

    glibc hands blocks above 32 MB back to the system, so that every large activation on a CPU (a batch's, or one prompt's of a 7B model)
    is mapped and zeroed anew, page by page: a tenth of a batch's prefill. Answers are the same.
    """
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _NEVER)) and bool(mallopt(_TRIM_THRESHOLD, _NEVER))


def cores() -> int:
    """Of this machine, that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _computes_bfloat16(device: str) -> bool:
    """In hardware; what torch emulates is slower than float32. A device that is not there is refused where the model is loaded."""
    import torch

    try:
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    except (RuntimeError, AssertionError, ValueError):
        return False


def synchronise(device: Any) -> None:
    """Wait until a torch device has done what it was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class Marks:
    """Moments of a device's work: CUDA events in its stream, which nothing waits for; elsewhere seconds of the host's clock, read when
    the device has done what it was given.
    """

    def __init__(self, device: Any, clock: Callable[[], float] = perf_counter) -> None:
        """device: of torch. clock: seconds."""
        self._device, self._clock = device, clock

    def mark(self) -> Any:
        """The end of what was asked of the device so far."""
        if self._device.type != "cuda":
            synchronise(self._device)
            return self._clock()
        import torch

        event: Any = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def ms(self, first: Any, last: Any) -> float:
        """Milliseconds between two marks. Waits for the second."""
        if self._device.type != "cuda":
            return (last - first) * 1e3
        last.synchronize()
        return float(first.elapsed_time(last))


def words(device: str, dtype: str) -> str:
    """``cuda (NVIDIA H100) in bfloat16``; ``cpu in float32``."""
    if device.startswith("cuda") and has_gpu():
        import torch

        with suppress(RuntimeError, AssertionError, ValueError):  # refused with its reason where the model is loaded
            device = f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} in {dtype}"
