"""Keeping what was measured in an index, whose current version may be another one by then."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from udr.errors import ArtifactError
from udr.files import locked
from udr.store.manifest import Partition
from udr.store.version import IndexVersion, open_version


@contextmanager
def locked_current(
    measured: IndexVersion, tasks: Iterable[str], holds_for: Callable[[Partition], object], wait_seconds: float = 60
) -> Iterator[IndexVersion]:
    """Lock an index, and yield its current version, which has replaced the one that was measured if that took long.

    Args:
        measured: the version that was measured.
        tasks: those that were.
        holds_for: what of a task's partition the measurement depends on, besides the encoder.
        wait_seconds: how long to wait for another command that holds the lock.

    Raises:
        ArtifactError: another command holds the lock; or what was measured does not hold for the current version.
    """
    with locked(measured.root, wait_seconds):
        current = open_version(measured.root)
        before, now = measured.manifest, current.manifest
        stamps = [(stamp.fingerprint, stamp.dimension, stamp.metric) for stamp in (before.encoder, now.encoder)]
        other = "its encoder" if stamps[0] != stamps[1] else ""
        for task in tasks:
            part = now.partitions.get(task)
            if not other and (part is None or holds_for(part) != holds_for(before.partitions[task])):
                other = f"the index of the task {task!r}"
        if other:
            raise ArtifactError(
                f"{measured.root}: version {now.version} has become current meanwhile, and {other} is not that which "
                "was measured, so nothing was stored; run the command again"
            )
        yield current
