"""Checks of the machine: processors, memory, disk, the port and the proxies."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from udr.cli.doctor.findings import Finding, note, ok, problem
from udr.errors import ConfigError, reason
from udr.models import cache_folder, num_threads

LEAST_MEMORY = 2e9
"""Bytes: the example models need about 1 GB to train and to answer, in float32."""

LEAST_DISK = 2e9
"""Bytes: a run or an index of the example models takes some hundred megabytes, several versions of it more."""


def check_processors() -> Iterator[Finding]:
    """Look at the cores that udr computes with."""
    chosen = os.environ.get("OMP_NUM_THREADS")
    why = f"OMP_NUM_THREADS={chosen}" if chosen else "the physical cores that this process may use"
    yield ok("processors", f"{num_threads()} threads ({why}) of {os.cpu_count()} logical processors")


def check_memory(root: Path = Path("/")) -> Iterator[Finding]:
    """Look at the memory that is left, within the limit of a container; ``root`` has ``/proc`` and ``/sys``."""
    meminfo = root / "proc/meminfo"
    lines = meminfo.read_text("ascii").splitlines() if meminfo.is_file() else []
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    if "MemAvailable" not in kilobytes:
        yield ok("memory", "not measured on this system")
        return
    left, total = kilobytes["MemAvailable"] * 1024, kilobytes["MemTotal"] * 1024
    limit, used = (root / "sys/fs/cgroup" / name for name in ("memory.max", "memory.current"))
    if limit.is_file() and used.is_file() and (most := limit.read_text("ascii").strip()).isdecimal():
        left, total = min(left, int(most) - int(used.read_text("ascii"))), min(total, int(most))
    found = f"{left / 1e9:.1f} of {total / 1e9:.1f} GB free"
    if left < LEAST_MEMORY:
        remedy = "end other programs, raise the container's limit, or use --dtype bfloat16 and a smaller --batch-size"
        yield note("memory", f"{found}; a language model needs more", remedy)
    else:
        yield ok("memory", found)


def check_disk(least: float = LEAST_DISK) -> Iterator[Finding]:
    """Look at the space in this folder, the cache and the folder of temporary files."""
    places = {"this folder": Path.cwd(), "the cache": cache_folder(), "temporary files": Path(tempfile.gettempdir())}
    for name, place in places.items():
        free = shutil.disk_usage(nearest_existing(place)).free
        found = f"{free / 1e9:.1f} GB free for {name} ({place})"
        if free < least:
            yield note("disk", found, "free some space, or set UDR_CACHE and TMPDIR to folders on another disk")
        else:
            yield ok("disk", found)


def nearest_existing(place: Path) -> Path:
    """Return a path, or the nearest one above it that exists and may be reached."""
    # Unlike Path.exists, this is False below a folder that may not be entered.
    return next(path for path in (place, *place.absolute().parents) if os.path.exists(path))


def check_port(port: int) -> Iterator[Finding]:
    """Look at whether the service could listen on a port of this machine."""
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
        except OSError as error:
            remedy = "choose another: udr serve DIR --port 0 picks a free one"
            yield note("port", f"127.0.0.1:{port} cannot be used: {reason(error)}", remedy)
            return
    yield ok("port", f"127.0.0.1:{port} is free for udr serve")


def check_proxies() -> Iterator[Finding]:
    """Look at the proxies and certificates that the environment names, and at the key of services."""
    from udr.client import Client, proxy_for

    try:
        Client("https://huggingface.co", api_key="").close()
    except ConfigError as error:
        yield problem("proxies", str(error), "without that, neither the hub nor a remote language model is reached")
        return
    through = proxy_for("https://huggingface.co")
    yield ok("proxies", f"{through or 'none'}; services on this machine are called directly")
    try:
        Client("https://huggingface.co").close()
    except ConfigError as error:
        yield problem("API key", f"UDR_API_KEY: {error}", "set the variable to the key alone, or unset it")
