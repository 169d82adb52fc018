"""What the machine has: cores that are ours, by trees as Linux shows them; the device; bfloat16."""

import logging
import os
from pathlib import Path

import pytest
import torch

from udr.models import best_device, cpu_has_bf16, num_threads


@pytest.fixture(autouse=True)
def eight_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may run on eight logical CPUs, and nobody asked for a number of threads."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: set(range(8)), raising=False)


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, "ascii")


def write_cores(root: Path, siblings: int) -> None:
    for cpu in range(8):
        listed = ",".join(str(one) for one in range(8) if one % (8 // siblings) == cpu % (8 // siblings))
        write(root, f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", f"{listed}\n")


@pytest.mark.parametrize(("siblings", "cores"), [(1, 8), (2, 4)])
def test_siblings_share_one_thread(tmp_path: Path, siblings: int, cores: int) -> None:
    write_cores(tmp_path, siblings)

    assert num_threads(tmp_path) == cores


def test_only_cores_that_the_process_may_use_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cores(tmp_path, 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _process: {0, 4, 5})

    assert num_threads(tmp_path) == 2


def test_where_the_kernel_does_not_tell_each_cpu_is_a_core(tmp_path: Path) -> None:
    assert num_threads(tmp_path) == 8


@pytest.mark.parametrize(
    ("files", "threads"),
    [
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 1),
        # The narrowest of the groups above the process counts.
        (
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/cpu.max": "250000 100000\n",
                "sys/fs/cgroup/a/b/cpu.max": "max 100000\n",
            },
            2,
        ),
        # A path of the machine around a container, whose own group is at the top.
        ({"proc/self/cgroup": "0::/outside/x\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
        (
            {
                "proc/self/cgroup": "4:memory:/x\n3:cpu,cpuacct:/x\n",
                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "200000\n",
                "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            2,
        ),
    ],
)
def test_the_control_groups_quota_counts(tmp_path: Path, files: dict[str, str], threads: int) -> None:
    for path, text in files.items():
        write(tmp_path, path, text)

    assert num_threads(tmp_path) == threads


@pytest.mark.parametrize(("asked", "threads"), [("3", 3), ("0", 8), ("many", 8), ("", 8)])
def test_who_asks_for_threads_gets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, threads: int
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)

    assert num_threads(tmp_path) == threads


def test_this_machine_has_a_core() -> None:
    assert num_threads() >= 1


def test_the_cpu_stands_in_for_a_gpu_with_a_notice(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    with caplog.at_level(logging.WARNING):
        assert best_device("cuda:1") == "cpu"
    assert caplog.messages == ["cuda:1: torch found no GPU; encoding on the CPU"]


def test_the_best_device_is_the_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[torch.device | None] = [None, torch.device("mps")]
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: found.pop(0))

    assert [best_device(None), best_device(None), best_device("meta")] == ["cpu", "mps", "meta"]


@pytest.mark.parametrize(
    ("capabilities", "has"),
    [
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, False),
        ({"avx512_f": True, "avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"neon": True, "bf16": True}, True),
        ({}, False),
    ],
)
def test_bfloat16_counts_where_the_processor_has_instructions_for_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], has: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)

    assert cpu_has_bf16() is has
