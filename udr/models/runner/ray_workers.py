"""Workers of a Ray cluster: actors that hold a model and get its work in shards."""

import logging
import os
import socket
import uuid
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from udr.errors import ConfigError, optional_import, reason
from udr.models.runner.options import Node, RunnerOptions, share
from udr.models.runner.scheduler import Answer, Hello, Lost
from udr.models.runner.shards import Load, Shard
from udr.models.runner.worker import ModelWorker

_LOG = logging.getLogger(__name__)

_CONNECT_SECONDS = 10.0
_STORE_BYTES = 256 << 20
"""Shared memory of a cluster of this machine alone: what is in flight is small, since queues are short."""


@contextmanager
def ray_cluster(address: str | None) -> Iterator[None]:
    """Connect this process to a cluster until the block ends.

    Args:
        address: HOST:PORT of its head; None is that of ``RAY_ADDRESS``, or a new one on this machine.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: there is no such cluster.
    """
    ours = _connect(address)
    try:
        yield
    finally:
        if ours:
            import ray

            ray.shutdown()


def cluster_nodes() -> list[Node]:
    """Return the machines of the cluster that this process is connected to."""
    import ray

    # Its types are too loose to check.
    cluster: Any = ray
    return [
        Node(node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
        for node in cluster.nodes()
        if node["Alive"]
    ]


def _connect(address: str | None) -> bool:
    """Connect this process to a cluster, unless it is; return whether that was done here."""
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    # Ray reads them when it is imported. It reports its use to its makers, unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if address == "local":
        # A cluster of one machine listens on 127.0.0.1 alone.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    with optional_import("ray", "ray"):
        import ray
    # Its types are too loose to check.
    cluster: Any = ray
    if ray.is_initialized():
        return False
    _LOG.info("%s...", "starting Ray on this machine" if address == "local" else f"connecting to Ray at {address}")
    _check(address)
    local: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
    try:
        cluster.init(address, log_to_driver=False, logging_level="ERROR", **(local if address == "local" else {}))
    except Exception as error:
        # Of many types, among them plain exceptions.
        raise ConfigError(f"Ray at {address} cannot be used: {reason(error)}") from error
    return True


def _check(address: str) -> None:
    """Raise a ``ConfigError`` if nobody listens at an address; Ray itself waits for minutes."""
    if address in ("local", "auto"):
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "://" in address:
        raise ConfigError(
            f"--ray-address must be HOST:PORT or auto, found {address!r}; run udr on a machine of the cluster and name "
            "its head, HOST:6379 by default"
        )
    try:
        socket.create_connection((host, int(port)), _CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"no Ray cluster answers at {address}: {reason(error)}; start one with: ray start --head, or omit "
            "--ray-address and RAY_ADDRESS"
        ) from error


class RayPool:
    """The actors of a cluster, as the scheduler's pool; a ticket is one of Ray's references."""

    def __init__(self, name: str, load: Load[Any, Any], options: RunnerOptions, gpus: float) -> None:
        import ray

        # Its types are too loose to check.
        self._ray: Any = ray
        self._name, self._load, self._gpus = f"udr-{name}-{uuid.uuid4().hex[:6]}", load, gpus
        self.size, self._cpus = share(cluster_nodes(), options.workers, gpus)
        self._actors: dict[int, Any] = {}
        self._started = 0

    def start(self, number: int) -> Hashable:
        """See ``Pool``."""
        self._started += 1
        name = f"{self._name}-{self._started}"
        actor = self._ray.remote(_Actor).options(
            name=name, num_cpus=self._cpus, num_gpus=self._gpus, scheduling_strategy="SPREAD", max_restarts=0
        )
        self._actors[number] = actor.remote(name)
        ticket: Hashable = self._actors[number].start.remote(self._load)
        return ticket

    def submit(self, number: int, shard: Shard[Any]) -> Hashable:
        """See ``Pool``."""
        ticket: Hashable = self._actors[number].count.remote(shard.work, len(shard.rows))
        return ticket

    def wait(self, tickets: Sequence[Hashable], seconds: float) -> list[tuple[Hashable, Hello | Answer | Lost]]:
        """See ``Pool``."""
        ready, _ = self._ray.wait(list(tickets), num_returns=1, timeout=seconds)
        # Those that have come meanwhile, too.
        more, _ = self._ray.wait(list(tickets), num_returns=len(tickets), timeout=0)
        return [(ticket, self._outcome(ticket)) for ticket in dict.fromkeys([*ready, *more])]

    def describe(self) -> str:
        """See ``Pool``."""
        free = self._ray.available_resources()
        return (
            f"starting {self.size} workers with {self._cpus:g} CPUs and {self._gpus:g} GPUs each; the Ray cluster has "
            f"{free.get('CPU', 0):g} CPUs and {free.get('GPU', 0):g} GPUs free"
        )

    def stop(self) -> None:
        """Stop the actors; what they were doing is dropped."""
        for actor in self._actors.values():
            self._ray.kill(actor)

    def _outcome(self, ticket: Hashable) -> Hello | Answer | Lost:
        try:
            outcome: Hello | Answer = self._ray.get(ticket)
        except self._ray.exceptions.RayError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            return Lost(lines[-1] if lines else reason(error))
        return outcome


class _Actor(ModelWorker):
    """A worker: runs in a process of its own, on some machine of the cluster."""

    def __init__(self, name: str) -> None:
        from ray.util import metrics

        super().__init__()
        # On Ray's dashboard and its Prometheus: the throughput of each worker.
        tags = {"tag_keys": ("worker",)}
        self._rows = metrics.Counter("udr_rows", "Rows that a worker has done.", **tags)
        self._seconds = metrics.Counter("udr_busy_seconds", "Seconds that a worker has computed.", **tags)
        for metric in (self._rows, self._seconds):
            metric.set_default_tags({"worker": name})

    def count(self, work: Any, rows: int) -> Answer:  # noqa: ANN401
        """Do a shard's work, and count its rows."""
        answer = self.work(work)
        if not answer.error:
            self._rows.inc(rows)
        self._seconds.inc(max(answer.seconds, 1e-9))
        return answer
