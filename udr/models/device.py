"""This machine: its device, the cores that this process may use, and its support for bfloat16."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from udr.errors import MissingExtraError

_LOG = logging.getLogger(__name__)

_BF16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""torch's names of bfloat16 instructions on x86 and ARM; without them bfloat16 is emulated and slow."""


def best_device(wanted: str | None) -> str:
    """Return the torch device to encode on.

    Args:
        wanted: ``cpu``, ``cuda``, ``cuda:1``, ...; None selects the best one. If there is no GPU, the CPU is used
            instead, with a notice.

    Raises:
        MissingExtraError: torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "index") from error
    if wanted is None:
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return "cpu" if accelerator is None else accelerator.type
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        _LOG.warning("%s: torch found no GPU; encoding on the CPU", wanted)
        return "cpu"
    return wanted


def cpu_has_bf16() -> bool:
    """Return whether the processor has bfloat16 instructions."""
    import torch.cpu

    # torch's own check also accepts processors where oneDNN emulates bfloat16.
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in _BF16)


def num_threads(root: Path = Path("/")) -> int:
    """Return the best number of threads: one per physical core that this process may use.

    ``OMP_NUM_THREADS`` overrides it. Two threads on one core share its arithmetic units, and threads beyond a
    container's quota are paused while the others wait for them. joblib's count rounds quotas up, and
    counts logical CPUs if there is a quota or an affinity, so this is our own.

    Args:
        root: the folder of ``/proc`` and ``/sys``.
    """
    requested = os.environ.get("OMP_NUM_THREADS", "")
    if requested.isdecimal() and int(requested) > 0:
        return int(requested)
    return max(1, min([_cores(root), *map(int, _quotas(root))]))


def _cores(root: Path) -> int:
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    siblings = set()
    for cpu in os.sched_getaffinity(0):
        path = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        # If the kernel does not list siblings, each CPU counts as a core.
        siblings.add(path.read_text("ascii") if path.is_file() else str(cpu))
    return len(siblings)


def _quotas(root: Path) -> Iterator[float]:
    """Yield the CPU quotas, in cores, of this process's control groups, version 1 or 2."""
    groups = root / "proc/self/cgroup"
    for line in groups.read_text("utf-8").splitlines() if groups.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / controllers
        group = mount / path.lstrip("/")
        # In a container the path can be the host's; the container's own group is then at the mount point.
        for folder in (group, *group.parents):
            if folder.is_relative_to(mount):
                yield from _quota(folder)


def _quota(group: Path) -> Iterator[float]:
    version_2, version_1 = group / "cpu.max", (group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us")
    if version_2.is_file():
        quota, period = version_2.read_text("ascii").split()
    elif all(path.is_file() for path in version_1):
        quota, period = (path.read_text("ascii").strip() for path in version_1)
    else:
        return
    if quota not in ("max", "-1"):
        yield int(quota) / int(period)
