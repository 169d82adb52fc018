"""The lock on an index directory, which the system releases when its holder dies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from udr.errors import ArtifactError, ConfigError, MissingExtraError
from udr.store import VERSIONS


@contextmanager
def lock_index(root: Path, wait_seconds: float = 0) -> Iterator[None]:
    """Create an index directory, and keep other builds, and what publishes, prunes or writes settings, out of it.

    Raises:
        ArtifactError: another command is running in it, and does not end in ``wait_seconds``.
        ConfigError: the directory cannot be created.
    """
    try:
        from filelock import FileLock, Timeout
    except ImportError as error:
        raise MissingExtraError("filelock", "index") from error
    try:
        (root / VERSIONS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{root}: cannot create the index directory ({error.strerror})") from error
    try:
        with FileLock(root / ".lock").acquire(timeout=wait_seconds):
            yield
    except Timeout as error:
        raise ArtifactError(
            f"{root}: another build, publish, prune or bench is running here; wait until it ends"
        ) from error
