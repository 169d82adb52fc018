"""One builder at a time: a lock on the index directory, which the system drops when its holder dies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from udr.errors import ArtifactError, ConfigError, MissingExtraError
from udr.store import VERSIONS


@contextmanager
def alone(out: Path, wait_seconds: float = 0) -> Iterator[None]:
    """Make the index directory, and keep other builds out of it, and what publishes, prunes or writes settings.

    Args:
        out: the index directory.
        wait_seconds: how long to wait for another one at work in it.

    Raises:
        ArtifactError: another one is at work in it.
        ConfigError: it cannot be made.
    """
    try:
        from filelock import FileLock, Timeout
    except ImportError as error:
        raise MissingExtraError("filelock", "index") from error
    try:
        (out / VERSIONS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be made the index directory ({error.strerror})") from error
    lock = FileLock(out / ".lock")
    try:
        with lock.acquire(timeout=wait_seconds):
            yield
    except Timeout as error:
        raise ArtifactError(
            f"{out}: another build is at work here, or a publish, prune or bench; wait for it"
        ) from error
