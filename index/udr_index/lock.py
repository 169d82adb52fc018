"""The lock on an index directory, which the system releases when its holder dies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from udr.errors import ConfigError, system_error
from udr.files import locked, refuse_remote
from udr.store import CURRENT, VERSIONS, refuse_outside


@contextmanager
def lock_index(root: Path, wait_seconds: float = 0) -> Iterator[None]:
    """Create an index directory, and lock it against other builds, publishes, prunes and benches.

    Raises:
        ArtifactError: another command is running in it, and does not end in ``wait_seconds``.
        ConfigError: the directory cannot be created, or its file system has no locks.
        VerificationError: it is somebody else's, with a link to where it would write outside.
    """
    refuse_remote(root)
    try:
        (root / VERSIONS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"cannot create the index directory: {system_error(error)}") from error
    with locked(root, wait_seconds):
        for name in (CURRENT, VERSIONS):
            refuse_outside(root / name, root.resolve())
        yield
