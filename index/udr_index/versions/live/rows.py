"""The rows of an index with what was written on top of its version, opened without an encoder."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np

from udr.errors import ConfigError, OutdatedError, VerificationError
from udr.search import ExactSearch, Vectors
from udr.store import LIVE, Finding, IndexVersion, open_version
from udr.store.live import LOG, Base, LivePool, WriteLog, WriterLock, read_writes


@contextmanager
def open_rows(root: Path, version: IndexVersion | None = None, *, with_vectors: bool = False) -> Iterator[LivePool]:
    """Open the rows of an index, by default of its current version; they can be read, listed and deleted.

    Without ``with_vectors``, those of rows that were written with another encoder or wording of the task are zero.

    Raises:
        ArtifactError: there is no index, or a file of it cannot be read.
        ConfigError: a vector is of another encoder, or of another wording of the task.
        VerificationError: what was written is damaged.
    """
    version = version or open_version(root)
    manifest, lock = version.manifest, WriterLock(root)
    base = Base(
        manifest,
        {name: part.task for name, part in manifest.partitions.items()},
        {name: ExactSearch(version.vectors(name)) for name in manifest.partitions},
        {},
        version.demonstrations(),
    )

    def nothing(texts: Sequence[str]) -> Vectors:
        if with_vectors:
            raise ConfigError(
                f"{root}: {len(texts)} texts of rows have no vector, since the rows were written with another encoder, "
                "another wording of their task or an older udr; compact the index first"
            )
        # Nobody searches here.
        return np.zeros((len(texts), manifest.encoder.dimension), np.float32)

    pool = LivePool(root, base, nothing, lock.take)
    try:
        yield pool
    finally:
        pool.close()
        lock.close()


def verify_log(root: Path, version: IndexVersion | None = None) -> list[Finding]:
    """Read what was written on top of the versions of an index, and return what is damaged.

    With a version, vectors that its encoder is said to have made are checked, too.
    """
    try:
        with closing(WriteLog(root / LIVE)) as log:
            read_writes(log)
        if version is not None:
            # A version of before the log was emptied lacks writes, but is whole.
            with suppress(OutdatedError), open_rows(root, version):
                pass
    except (VerificationError, OSError) as error:
        return [Finding(f"{LIVE}/{LOG}", str(error).removeprefix(f"{root / LIVE / LOG}: "))]
    return []
