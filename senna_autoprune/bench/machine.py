"""The machine that times belong to, as far as it changes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from senna_autoprune.bench.memory import memory_total
from senna_autoprune.device import cores
from senna_autoprune.evaluation.answering import provenance

_INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile", "asimd", "bf16", "sve")  # what low precision depends on


def describe(dtype: str, device: str, root: Path = Path("/")) -> dict[str, Any]:
    """Processor, cores that this process may use, bytes of memory, versions, threads, dtype. ``root`` is for tests."""
    found = provenance.machine(device)
    info = _cpuinfo(root)
    flags = info.get("flags", info.get("Features", "")).split()
    return {
        **found,
        "processor": info.get("model name", found["processor"]),
        "instructions": [name for name in _INSTRUCTIONS if name in flags],
        "cores": cores(),
        "memory_bytes": memory_total(root),
        "versions": provenance.versions(),
        "dtype": dtype,
    }


def one_line(machine: dict[str, Any]) -> str:
    """For people."""
    memory = machine["memory_bytes"]
    parts = [
        machine.get("gpu"),
        f"{machine['processor']} ({', '.join(machine['instructions'])})" if machine["instructions"] else machine["processor"],
        f"{machine['cores']} cores",
        f"{memory / 1e9:.1f} GB" if memory else None,
        f"torch {machine['versions']['torch']}",
        f"transformers {machine['versions']['transformers']}",
        f"{machine['threads']} threads",
        machine["dtype"],
    ]
    return ", ".join(part for part in parts if part)


def _cpuinfo(root: Path) -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo."""
    try:
        text = (root / "proc/cpuinfo").read_text()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in text.split("\n\n")[0].splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}
