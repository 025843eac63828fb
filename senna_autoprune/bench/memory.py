"""Does a decoder of this shape fit? What it needs, and what this process can still have: RAM, its cgroup's limit, or a GPU's memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch

from senna_autoprune.bench.hollow import RECORDED
from senna_autoprune.bench.shapes import BenchShape
from senna_autoprune.errors import SennaPruneError

MARGIN = 1024**3  # torch itself, threads' buffers, what the allocator holds back; 16.5 GB were seen where the rest adds up to 15.6


@dataclass(frozen=True)
class Need:
    """Bytes by part."""

    weights: int
    kv_cache: int
    activations: int
    margin: int = MARGIN

    @property
    def total(self) -> int:
        return self.weights + self.kv_cache + self.activations + self.margin

    def __str__(self) -> str:
        parts = {"weights": self.weights, "KV cache": self.kv_cache, "activations": self.activations, "margin": self.margin}
        return f"{_gb(self.total)} ({', '.join(f'{_gb(size)} {name}' for name, size in parts.items())})"


def needed(shape: BenchShape, dtype: torch.dtype, layers: int, batch: int = 1) -> Need:
    """What the benchmark takes with ``layers`` of the shape's layers built; the cache always has the shape's depth.

    Activations: the recordings that a sample needs, and at the widest point of a layer the states, gate, up and product of the MLP and
    a reordered copy of a matrix, beside the float32 scores and keys of the rows that a pruner reads.
    """
    size, hidden, mlp, tokens = dtype.itemsize, shape.hidden, shape.mlp_width, shape.tokens
    weights = 2 * shape.vocabulary * hidden + hidden + layers * (4 * hidden * hidden + 3 * hidden * mlp + 2 * hidden)
    cache = 2 * shape.layers * hidden * tokens * batch
    recordings = RECORDED * 5 * tokens * hidden if layers < shape.layers else 0
    wide = batch * tokens * (6 * hidden + 3 * mlp) + hidden * mlp
    rows = 4 * batch * (2 * shape.heads * shape.text_tokens * tokens + 2 * tokens * hidden)
    return Need(weights * size, cache * size, (recordings + wide) * size + rows)


def available(device: str = "cpu", root: Path = Path("/")) -> tuple[int | None, str]:
    """Bytes that this process can still take and what limits them; None where nothing can be told. ``root`` is for tests."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0]), f"free on {device}"
    found = [(room, "free under the cgroup's memory limit") for room in _cgroup_rooms(root)]
    memory = _fields(root / "proc/meminfo").get("MemAvailable:")
    if memory is not None:
        found.append((memory * 1024, "available in RAM"))
    return min(found) if found else (None, "unknown")


def check_fits(need: Need, device: str, advice: str, root: Path = Path("/")) -> None:
    """Raise before anything is built.

    Raises:
        SennaPruneError: if less is available than needed; with both figures and ``advice``.
    """
    room, where = available(device, root)
    if room is not None and room < need.total:
        raise SennaPruneError(f"bench: this decoder needs {need}, but only {_gb(room)} is {where}; {advice}")


def memory_total(root: Path = Path("/")) -> int | None:
    """Bytes of RAM, or of the smallest cgroup limit below that; None where it cannot be told."""
    total = _fields(root / "proc/meminfo").get("MemTotal:")
    limits = [limit for limit, _ in _cgroups(root)]
    return min([*limits, total * 1024] if total is not None else limits, default=None)


def _cgroup_rooms(root: Path) -> list[int]:
    """What each limited cgroup of this process has left; file pages that the kernel would drop first count as free."""
    return [max(limit - used, 0) for limit, used in _cgroups(root)]


def _cgroups(root: Path) -> list[tuple[int, int]]:
    """(limit, use) in bytes of every limited memory cgroup that this process is in, its ancestors included (v1 and v2)."""
    found = []
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            mount, names = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        inside = PurePosixPath(path).relative_to("/")
        for folder in (inside, *inside.parents):  # inside a container only the last may be visible
            limit, used = _number(mount / folder / names[0]), _number(mount / folder / names[1])
            if limit is not None and used is not None and limit < 2**60:  # v1 writes "no limit" as a huge number
                found.append((limit, used - _fields(mount / folder / "memory.stat").get(names[2], 0)))
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdigit() else None  # "max" is no limit


def _fields(path: Path) -> dict[str, int]:
    """Files of ``name value ...`` lines."""
    pairs = (line.split() for line in _lines(path))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) > 1 and pair[1].isdigit()}


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
