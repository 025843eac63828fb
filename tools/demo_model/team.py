"""How senna-mini's training runs on a machine: its processes, their precision, their checkpoints."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn


def mixed_precision() -> torch.autocast:
    """bfloat16 where the processor multiplies it natively; elsewhere it is emulated, ten times slower than float32."""
    native = "avx512_bf16" in _processor_flags() or "amx_bf16" in _processor_flags()
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=native)


@cache
def _processor_flags() -> frozenset[str]:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().split("\n") if file.exists() else []
    return frozenset(next((line for line in lines if line.startswith("flags")), "").split())


class Team:
    """Processes of one thread each that train the same weights on different keyframes and average their gradients.

    On a shared machine this is much faster than threads: these meet once a step, threads at every operation.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def average(self, parameters: list[nn.Parameter]) -> None:
        """Gradients become their mean over the team."""
        if self.size == 1:
            return
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([g.flatten() for g in grads])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        for parameter, part in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            parameter.grad = part.view_as(parameter)

    def mean(self, value: float) -> float:
        if self.size == 1:
            return value
        number = torch.tensor([value], dtype=torch.float64)
        torch.distributed.all_reduce(number)
        return float(number) / self.size


def write_state(state: dict[str, Any], file: Path) -> None:
    """At once (rename): a killed run leaves the checkpoint before."""
    torch.save(state, file.with_suffix(".new"))
    file.with_suffix(".new").replace(file)
