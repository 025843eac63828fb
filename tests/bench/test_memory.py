"""What a decoder needs and what a process may take, from files of /proc and /sys made here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from senna_autoprune import SennaPruneError
from senna_autoprune.bench import machine as bench_machine
from senna_autoprune.bench.memory import Need, available, check_fits, memory_total, needed
from senna_autoprune.bench.shapes import BenchShape, build_decoder

GB = 10**9


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = {"proc/meminfo": f"MemTotal: {16 * GB // 1024} kB\nMemFree: 5 kB\nMemAvailable: {10 * GB // 1024} kB\n"}


def test_weights_are_counted_to_the_byte():
    shape = BenchShape(layers=3, hidden=32, heads=4, vocabulary=64, views=1, text_tokens=10)
    for layers in (2, 3):
        model = build_decoder(shape, torch.bfloat16, "cpu", layers=layers)
        assert needed(shape, torch.bfloat16, layers).weights == sum(weight.nbytes for weight in model.parameters())
    one, eight = needed(shape, torch.float32, 3), needed(shape, torch.float32, 3, batch=8)
    assert one.kv_cache == 3 * 2 * 138 * 32 * 4 and eight.kv_cache == 8 * one.kv_cache and eight.activations > one.activations


def test_without_a_limit_it_is_what_the_kernel_calls_available(tmp_path: Path):
    room, where = available("cpu", write(tmp_path, MEMINFO))
    assert (room, where) == (10 * GB // 1024 * 1024, "available in RAM")
    assert memory_total(tmp_path) == 16 * GB // 1024 * 1024


def test_a_cgroup_of_version_2_limits_and_so_do_its_parents(tmp_path: Path):
    files = {
        **MEMINFO,
        "proc/self/cgroup": "0::/a/b\n",
        "sys/fs/cgroup/a/b/memory.max": "max\n",
        "sys/fs/cgroup/a/b/memory.current": "1\n",
        "sys/fs/cgroup/a/memory.max": f"{4 * GB}\n",
        "sys/fs/cgroup/a/memory.current": f"{3 * GB}\n",
        "sys/fs/cgroup/a/memory.stat": f"anon 5\ninactive_file {2 * GB}\n",
    }
    assert available("cpu", write(tmp_path, files)) == (3 * GB, "free under the cgroup's memory limit")
    assert memory_total(tmp_path) == 4 * GB


def test_a_cgroup_of_version_1_whose_path_is_not_visible_inside_a_container(tmp_path: Path):
    files = {
        **MEMINFO,
        "proc/self/cgroup": "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{6 * GB}",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{5 * GB}",
    }
    assert available("cpu", write(tmp_path, files))[0] == GB
    (tmp_path / "sys/fs/cgroup/memory/memory.limit_in_bytes").write_text(str(2**63 - 4096))  # how version 1 says: none
    assert available("cpu", tmp_path)[1] == "available in RAM"


def test_refusal_names_both_figures_and_the_parts(tmp_path: Path):
    write(tmp_path, MEMINFO)
    need = Need(weights=13 * GB, kv_cache=GB, activations=GB, margin=0)
    with pytest.raises(SennaPruneError) as refusal:
        check_fits(need, "cpu", "take a sample", tmp_path)
    assert str(refusal.value) == (
        "bench: this decoder needs 15.0 GB (13.0 GB weights, 1.0 GB KV cache, 1.0 GB activations, 0.0 GB margin), "
        "but only 10.0 GB is available in RAM; take a sample"
    )
    check_fits(Need(GB, GB, GB, 0), "cpu", "", tmp_path)


def test_where_nothing_can_be_told_nothing_is_refused(tmp_path: Path):
    assert available("cpu", tmp_path) == (None, "unknown") and memory_total(tmp_path) is None
    check_fits(Need(10**18, 0, 0), "cpu", "", tmp_path)


def test_the_machine_is_described_by_what_times_depend_on(tmp_path: Path):
    cpu = "processor : 0\nmodel name\t: Some CPU 9\nflags\t\t: sse avx2 avx512_bf16\n\nprocessor : 1\nmodel name : other\n"
    write(tmp_path, {**MEMINFO, "proc/cpuinfo": cpu})
    machine = bench_machine.describe("bfloat16", "cpu", tmp_path)
    assert (machine["processor"], machine["instructions"]) == ("Some CPU 9", ["avx2", "avx512_bf16"])
    line = bench_machine.one_line(machine)
    for part in ("Some CPU 9 (avx2, avx512_bf16)", "16.0 GB", f"{torch.get_num_threads()} threads", "bfloat16", torch.__version__):
        assert part in line
    assert bench_machine.one_line(bench_machine.describe("float32", "cpu", tmp_path / "nowhere"))
