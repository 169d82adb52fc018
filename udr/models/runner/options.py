"""Which runner a command uses, and how the workers share a cluster."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import typer

from udr.errors import ConfigError

RUNNERS = ("local", "ray")


@dataclass(frozen=True, kw_only=True)
class RunnerOptions:
    """Where a command's model runs; the options of every command that has ``--runner``.

    Attributes:
        runner: ``local``, on this machine; or ``ray``, on a cluster.
        workers: how many processes that each load the model; None is, of ``local``, this process; of ``ray``, one per
            GPU if they use GPUs, else one per node.
        gpus_per_worker: GPUs of each; less than 1 shares one. None is 1 if the device is a GPU, else 0.
        ray_address: a cluster; None is that of ``RAY_ADDRESS``, or a new one on this machine.
    """

    runner: Annotated[
        str, typer.Option(help="Where the model runs: local, on this machine; or ray, on workers of a Ray cluster.")
    ] = "local"
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that each hold the model, with a GPU or a share of the cores.",
            min=1,
            show_default="1; with ray, one per GPU, or one per node",
        ),
    ] = None
    gpus_per_worker: Annotated[
        float | None,
        typer.Option(help="GPUs per worker, such as 0.5.", min=0, show_default="1 with --device cuda, else 0"),
    ] = None
    ray_address: Annotated[
        str | None,
        typer.Option(
            help="The cluster, HOST:PORT or auto.", show_default="RAY_ADDRESS, or a cluster on this machine alone"
        ),
    ] = None

    @property
    def is_local(self) -> bool:
        """Whether the model runs in this process."""
        return self.runner == "local" and self.processes == 1

    @property
    def processes(self) -> int:
        """The processes of this machine that hold a model; 1 is this one, as with a cluster."""
        return self.workers or 1 if self.runner == "local" else 1

    @property
    def named(self) -> str:
        """The options that have workers load the model."""
        return f"--runner {self.runner}" if self.runner != "local" else f"--workers {self.workers}"

    def gpus(self, device: str) -> float:
        """Return the GPUs of a worker that computes on a device."""
        return float(device.startswith("cuda")) if self.gpus_per_worker is None else self.gpus_per_worker

    def check(self, device: str) -> None:
        """Raise a ``ConfigError`` if the options contradict one another or the device, ``cpu``, ``cuda``, ..."""
        if self.runner not in RUNNERS:
            raise ConfigError(f"--runner must be one of {', '.join(RUNNERS)}, found {self.runner!r}")
        given = {"--gpus-per-worker": self.gpus_per_worker, "--ray-address": self.ray_address}
        names = [name for name, value in given.items() if value is not None]
        if self.runner == "local" and names:
            raise ConfigError(f"{', '.join(names)} needs --runner ray; --runner local uses this machine alone")
        gpus = self.gpus(device)
        if gpus > 1 and gpus != int(gpus):
            raise ConfigError(f"--gpus-per-worker above 1 must be a whole number, found {gpus:g}")
        if not self.is_local and device.startswith("cuda") and not gpus:
            raise ConfigError("--device cuda needs --gpus-per-worker above 0: Ray hides GPUs that no worker asked for")
        if not self.is_local and not device.startswith("cuda") and gpus:
            raise ConfigError(f"--gpus-per-worker {gpus:g} needs --device cuda, found --device {device}")
        if not self.is_local and device.startswith("cuda:"):
            raise ConfigError(f"--device {device} names a GPU; each worker gets one: use --device cuda")


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of a cluster: its CPUs and GPUs."""

    cpus: float
    gpus: float


def share(nodes: Sequence[Node], workers: int | None, gpus: float, option: str = "--workers") -> tuple[int, float]:
    """Return how many workers a cluster gets, and the CPUs of each: as many as fit, since a model uses all of them.

    Args:
        nodes: the cluster's machines.
        workers: the number requested; None is one per GPU, or one per node.
        gpus: the GPUs of a worker.
        option: what sets their number; an error names it.

    Raises:
        ConfigError: the cluster has too few GPUs, or no CPUs.
    """
    places = [math.floor(node.gpus / gpus + 1e-9) for node in nodes] if gpus else []
    count = workers or (sum(places) if gpus else sum(node.cpus > 0 for node in nodes))
    has = f"the Ray cluster has {sum(node.cpus for node in nodes):g} CPUs and {sum(node.gpus for node in nodes):g} GPUs"
    if gpus and count > sum(places):
        raise ConfigError(f"{has}, too few for {count} workers with {gpus:g} GPUs each; use fewer: {option}")
    if not count or not any(node.cpus for node in nodes):
        raise ConfigError(f"{has}, too few for a worker with {gpus:g} GPUs")
    if gpus:
        # A node with GPUs has a worker for each, or for each part; the CPUs only feed them.
        return count, 1.0 if all(node.cpus >= place for node, place in zip(nodes, places, strict=True)) else 0.0
    most = max(1, math.floor(max(node.cpus for node in nodes)))
    # Whole CPUs while they suffice, then a half, a third, ... of one.
    sizes = [*map(float, range(most, 0, -1)), *(1 / parts for parts in range(2, count + 1))]
    fits = (size for size in sizes if sum(math.floor(node.cpus / size + 1e-9) for node in nodes) >= count)
    # A part of a CPU, where a cluster has no more, goes without.
    return count, next(fits, 0.0)
