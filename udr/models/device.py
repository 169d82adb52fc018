"""This machine: its device, the cores that this process may use, and its support for 16-bit numbers."""

import logging
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from udr.errors import optional_import
from udr.types import Json

_LOG = logging.getLogger(__name__)

_INSTRUCTIONS = {
    "bfloat16": ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"),
    "float16": ("avx512_fp16", "amx_fp16", "fp16_arith"),
}
"""torch's names of the instructions on x86 and ARM, without which products of 16 bits are emulated and slow."""


_ACCELERATORS = ("dev/nvidia*", "dev/kfd", "dev/dxg", "dev/dri/renderD*", "dev/accel*")
"""Device files of accelerators that torch may know, on Linux."""


def best_device(wanted: str | None) -> str:
    """Return the torch device to encode on.

    Args:
        wanted: ``cpu``, ``cuda``, ``cuda:1``, ...; None selects the best one. Without a GPU, the CPU replaces it and
            a warning is logged.

    Raises:
        MissingExtraError: torch is not installed.
    """
    with optional_import("torch", "index"):
        import torch
    if wanted is None:
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return "cpu" if accelerator is None else accelerator.type
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        _LOG.warning("%s: torch found no GPU; encoding on the CPU", wanted)
        return "cpu"
    return wanted


def encodes_on_cpu(wanted: str | None, root: Path = Path("/")) -> bool:
    """Return whether ``best_device`` returns the CPU.

    torch, which takes seconds to import, is asked only where the machine has the device file of an accelerator.
    ``root`` has the folder ``/dev``.
    """
    if wanted is not None:
        return wanted == "cpu"
    if find_spec("torch") is None:
        return True
    if sys.platform == "linux" and not accelerators(root):
        return True
    # NVIDIA's driver is asked first: once CUDA has answered ``best_device``, no fork of this process can use a GPU.
    return not num_gpus() and best_device(None) == "cpu"


def torch_build() -> dict[str, Json]:
    """Return what torch was built for and finds: ``version``, ``cuda``, ``devices``, and whether bfloat16 is fast."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "devices": [torch.cuda.get_device_name(number) for number in range(count)],
        "bf16": cpu_multiplies("bfloat16"),
    }


def num_gpus() -> int:
    """Return the number of GPUs of CUDA that this process sees."""
    import torch

    return torch.cuda.device_count()


def accelerators(root: Path = Path("/")) -> list[Path]:
    """Return the device files of accelerators, on Linux; ``root`` has the folder ``/dev``."""
    return [file for pattern in _ACCELERATORS for file in sorted(root.glob(pattern))]


def cpu_multiplies(dtype: str) -> bool:
    """Return whether the processor has instructions to multiply numbers of a precision, such as ``bfloat16``."""
    import torch.cpu

    # torch's own check also accepts processors where oneDNN emulates bfloat16.
    capabilities = torch.cpu.get_capabilities()
    return dtype not in _INSTRUCTIONS or any(capabilities.get(name, False) for name in _INSTRUCTIONS[dtype])


def num_threads(root: Path = Path("/")) -> int:
    """Return the best number of threads: one per physical core that this process may use.

    ``OMP_NUM_THREADS`` overrides it. Two threads on one core share its arithmetic units, and threads beyond a
    container's quota are paused while the others wait for them. ``root`` has the folders ``/proc`` and ``/sys``.
    """
    requested = os.environ.get("OMP_NUM_THREADS", "")
    if requested.isdecimal() and int(requested) > 0:
        return int(requested)
    # Not joblib's count: it rounds quotas up, ignores those of nested control groups, and counts logical CPUs if there
    # is a quota or an affinity.
    return max(1, min([_cores(root), *map(int, _quotas(root))]))


def _cores(root: Path) -> int:
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cpus = root / "sys/devices/system/cpu"
    siblings = {cpu: cpus / f"cpu{cpu}/topology/thread_siblings_list" for cpu in os.sched_getaffinity(0)}
    # If the kernel does not list siblings, each CPU counts as a core.
    return len({path.read_text("ascii") if path.is_file() else str(cpu) for cpu, path in siblings.items()})


def _quotas(root: Path) -> Iterator[float]:
    """Yield the CPU quotas, in cores, of this process's control groups, version 1 or 2."""
    groups = root / "proc/self/cgroup"
    for line in groups.read_text("utf-8").splitlines() if groups.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us") if controllers else ("cpu.max",)
        mount = root / "sys/fs/cgroup" / controllers
        group = mount / path.lstrip("/")
        # In a container the path can be the host's; the container's own group is then at the mount point.
        for folder in (group, *group.parents):
            files = [folder / name for name in names]
            if folder.is_relative_to(mount) and all(file.is_file() for file in files):
                quota, period = " ".join(file.read_text("ascii") for file in files).split()
                if quota not in ("max", "-1"):
                    yield int(quota) / int(period)
