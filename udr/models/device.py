"""What this machine computes with: the device, the cores that are ours, and whether the processor knows bfloat16."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from udr.errors import MissingExtraError

_LOG = logging.getLogger(__name__)

_BF16 = ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16")
"""Instructions as torch names them, of x86 and of ARM. Without them bfloat16 is emulated, and no faster."""


def best_device(wanted: str | None) -> str:
    """Return the device to encode on, as torch calls it.

    Args:
        wanted: ``cpu``, ``cuda``, ``cuda:1``, ...; None takes the best there is, and where there is no GPU the CPU
            stands in for one, with a notice.

    Raises:
        MissingExtraError: torch is not installed.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("torch", "index") from error
    if wanted is None:
        found = torch.accelerator.current_accelerator(check_available=True)
        return "cpu" if found is None else found.type
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        _LOG.warning("%s: torch finds no GPU; encoding on the CPU", wanted)
        return "cpu"
    return wanted


def cpu_has_bf16() -> bool:
    """Say whether the processor multiplies bfloat16 by instructions of its own."""
    import torch.cpu

    # torch's own question, whether oneDNN supports it, is answered yes wherever oneDNN can emulate it.
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in _BF16)


def num_threads(root: Path = Path("/")) -> int:
    """Return how many threads compute best in this process: one for each whole core that it may use.

    ``OMP_NUM_THREADS`` overrules it. Two threads on one core wait for the same arithmetic, and threads beyond a
    container's quota are stopped in the middle of their work, while the others wait for them.

    Args:
        root: where ``/proc`` and ``/sys`` lie.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    return max(1, min([_cores(root), *map(int, _quotas(root))]))


def _cores(root: Path) -> int:
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    siblings = set()
    for cpu in os.sched_getaffinity(0):
        listed = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        # Where the kernel does not tell, each is a core.
        siblings.add(listed.read_text("ascii") if listed.is_file() else str(cpu))
    return len(siblings)


def _quotas(root: Path) -> Iterator[float]:
    """Yield the most cores that each control group above this process may use, in either version of them."""
    listed = root / "proc/self/cgroup"
    for line in listed.read_text("utf-8").splitlines() if listed.is_file() else []:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / controllers
        group = mount / path.lstrip("/")
        # A container may see paths of the machine around it; its own group is then at the top.
        for folder in (group, *group.parents):
            if folder.is_relative_to(mount):
                yield from _quota(folder)


def _quota(group: Path) -> Iterator[float]:
    whole, parts = group / "cpu.max", (group / "cpu.cfs_quota_us", group / "cpu.cfs_period_us")
    if whole.is_file():
        quota, period = whole.read_text("ascii").split()
    elif all(part.is_file() for part in parts):
        quota, period = (part.read_text("ascii").strip() for part in parts)
    else:
        return
    if quota not in ("max", "-1"):
        yield int(quota) / int(period)
