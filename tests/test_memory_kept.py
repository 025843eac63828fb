"""Freed blocks stay with a process that asks for it: no page is mapped twice."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
import torch
from senna_autoprune.device import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
torch.set_num_threads(1)
for _ in range(12):
    torch.ones(12_000_000).sum()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    torch.ones(12_000_000).sum()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_a_block_that_is_wanted_again_is_not_mapped_again() -> None:
    faults = {}
    for way in ("keep", "stock"):
        done = subprocess.run([sys.executable, "-c", SCRIPT, way], capture_output=True, text=True, check=True)
        faults[way] = int(done.stdout)
    assert faults["keep"] < faults["stock"] / 4 and faults["stock"] >= 3 * 22  # of 48 MB, in pages of 4 kB or of 2 MB
