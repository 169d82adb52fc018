"""Opening the workers that a command's options ask for."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

from udr.models.runner.options import RunnerOptions
from udr.models.runner.process_pool import ProcessPool
from udr.models.runner.ray_workers import RayPool, ray_cluster
from udr.models.runner.scheduler import Scheduler
from udr.models.runner.shards import Load, Result, Work


@contextmanager
def open_workers(
    name: str, load: Load[Work, Result], identity: str, options: RunnerOptions, device: str
) -> Iterator[Scheduler[Work, Result]]:
    """Open workers that each load a model when there is work, and stop them at the end.

    Args:
        name: what they do, as Ray's dashboard shows it.
        load: loads the model; runs on the workers.
        identity: what ``load`` has to return as the model's identity.
        options: how many workers, and where.
        device: what they compute on: ``cpu`` or ``cuda``.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: there is no such cluster, or it or this machine is too small.
    """
    # A cluster, or a machine that is too small, is found before there is work: an error should not come after minutes.
    with ray_cluster(options.ray_address) if options.runner == "ray" else nullcontext():
        pool: ProcessPool | RayPool
        if options.runner == "local":
            pool = ProcessPool(load, options.processes, device)
        else:
            pool = RayPool(name, load, options, options.gpus(device))
        try:
            yield Scheduler(lambda: pool, identity)
        finally:
            pool.stop()
