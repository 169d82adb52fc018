"""The device, the number of cores (from copies of Linux's files) and bfloat16."""

import logging
import os
import sys
from pathlib import Path

import pytest
import torch

from udr.models import best_device, cpu_multiplies, encodes_on_cpu, num_threads

GROUP, CPU_1 = "sys/fs/cgroup", "sys/fs/cgroup/cpu,cpuacct"


def version_1(group: str, quota: str) -> dict[str, str]:
    return {f"{CPU_1}{group}/cpu.cfs_quota_us": quota, f"{CPU_1}{group}/cpu.cfs_period_us": "100000"}


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process run on eight logical CPUs, without a requested number of threads."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(8)), raising=False)


def write(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"{text}\n", "ascii")


@pytest.mark.parametrize(
    ("siblings", "affinity", "cores"), [(1, range(8), 8), (2, range(8), 4), (2, (0, 4, 5), 2), (0, range(8), 8)]
)
def test_each_available_physical_core_has_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, siblings: int, affinity: range, cores: int
) -> None:
    # Without siblings, the kernel does not list them.
    for cpu in range(8) if siblings else ():
        cores_apart = 8 // siblings
        listed = ",".join(map(str, range(cpu % cores_apart, 8, cores_apart)))
        write(tmp_path, {f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": listed})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(affinity), raising=False)
    assert num_threads(tmp_path) == cores


@pytest.mark.parametrize(
    ("group", "files", "threads"),
    [
        ("0::/", {f"{GROUP}/cpu.max": "300000 100000"}, 3),
        ("0::/", {f"{GROUP}/cpu.max": "max 100000"}, 8),
        ("0::/", {f"{GROUP}/cpu.max": "50000 100000"}, 1),
        # The smallest quota of the group and its parents applies.
        ("0::/a/b", {f"{GROUP}/a/cpu.max": "250000 100000", f"{GROUP}/a/b/cpu.max": "max 100000"}, 2),
        # The path is the host's, and the container's own group is the root.
        ("0::/outside/x", {f"{GROUP}/cpu.max": "400000 100000"}, 4),
        ("4:memory:/x\n3:cpu,cpuacct:/x", version_1("/x", "200000") | version_1("", "-1"), 2),
    ],
)
def test_quotas_of_control_groups_limit_threads(
    tmp_path: Path, group: str, files: dict[str, str], threads: int
) -> None:
    write(tmp_path, {"proc/self/cgroup": group, **files})
    assert num_threads(tmp_path) == threads


@pytest.mark.parametrize(("value", "threads"), [("3", 3), ("0", 8), ("many", 8), ("", 8)])
def test_omp_num_threads_overrides_the_number_of_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, threads: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert num_threads(tmp_path) == threads


def test_the_cpu_replaces_a_missing_gpu_with_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level(logging.WARNING):
        assert best_device("cuda:1") == "cpu"
    assert caplog.messages == ["cuda:1: torch found no GPU; encoding on the CPU"]


def test_the_best_device_is_the_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerators: list[torch.device | None] = [None, torch.device("mps")]
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: accelerators.pop(0))
    assert [best_device(None), best_device(None), best_device("meta")] == ["cpu", "mps", "meta"]


@pytest.mark.parametrize(
    ("dtype", "capabilities", "expected"),
    [
        ("bfloat16", {"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ("bfloat16", {"avx512_f": True, "avx512_bf16": True}, True),
        ("bfloat16", {"amx_bf16": True}, True),
        ("bfloat16", {"neon": True, "bf16": True}, True),
        ("bfloat16", {"avx512_fp16": True}, False),
        ("bfloat16", {}, False),
        ("float16", {"avx512_bf16": True}, False),
        ("float16", {"avx512_fp16": True}, True),
        ("float16", {"neon": True, "fp16_arith": True}, True),
        ("float32", {}, True),
    ],
)
def test_products_of_16_bits_need_instructions_of_the_processor(
    monkeypatch: pytest.MonkeyPatch, dtype: str, capabilities: dict[str, bool], expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert cpu_multiplies(dtype) is expected


@pytest.mark.parametrize(("wanted", "on_cpu"), [("cpu", True), ("cuda", False), ("cuda:1", False), ("mps", False)])
def test_a_device_that_is_named_is_taken_at_its_word(wanted: str, on_cpu: bool) -> None:
    assert encodes_on_cpu(wanted) is on_cpu


@pytest.mark.parametrize("file", [None, "dev/nvidia0", "dev/kfd", "dev/dxg", "dev/dri/renderD128", "dev/accel0"])
@pytest.mark.parametrize("best", ["cpu", "cuda"])
def test_torch_is_asked_only_where_there_is_a_device_file_of_an_accelerator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str | None, best: str
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    asked = []

    def record(wanted: str | None) -> str:
        asked.append(wanted)
        return best

    monkeypatch.setattr("udr.models.device.best_device", record)
    write(tmp_path, {"dev/null": ""} | ({file: ""} if file else {}))
    assert encodes_on_cpu(None, tmp_path) is (file is None or best == "cpu")
    assert asked == ([None] if file else [])


def test_cuda_is_not_asked_where_the_driver_counts_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("torch.accelerator.current_accelerator", lambda **_: pytest.fail("forks cannot use the GPU"))
    write(tmp_path, {"dev/nvidia0": ""})
    assert not encodes_on_cpu(None, tmp_path)


def test_elsewhere_torch_is_asked_and_without_it_there_is_only_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("udr.models.device.best_device", lambda wanted: "mps")
    assert not encodes_on_cpu(None, tmp_path)
    monkeypatch.setattr("udr.models.device.find_spec", lambda name: None)
    assert encodes_on_cpu(None, tmp_path)
