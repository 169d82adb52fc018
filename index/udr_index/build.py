"""Building an index: a collection to a version that is whole, verified and published.

A version is built in ``DIR/.building-<version>/`` and renamed when its manifest is written. A build that is killed
leaves what was published before as it was; the next build of the same contents keeps the partitions it finished.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from udr import models
from udr.demonstrations import write_demonstrations
from udr.encoder import Encoder, SentenceEncoder
from udr.errors import ArtifactError, ConfigError, MissingExtraError, ModelError, VerificationError
from udr.files import sha256, sync, sync_tree, write_atomically
from udr.manifest import EncoderStamp, FileStamp
from udr.pool import open_collection
from udr.store import DEMONSTRATIONS, MANIFEST, MODEL, VERSIONS, publish, vectors_path, version_path
from udr.verification import verify_version
from udr_index.config import BuildConfig
from udr_index.contents import Contents
from udr_index.encoding import encode_pool, save_vectors

_log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Is told how many demonstrations are encoded, and how many there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """What a build made.

    Attributes:
        version: the version that is published now.
        path: its folder.
        sizes: how many demonstrations each task has.
        encoded: how many of them this build encoded; the others were there already.
    """

    version: str
    path: Path
    sizes: dict[str, int]
    encoded: int


def build(config: BuildConfig, encoder: Encoder | None = None, progress: Progress | None = None) -> Built:
    """Build the index that ``config`` describes, or go on with it, and publish it.

    Args:
        config: what to build, and where.
        encoder: an encoder that is loaded already, in place of ``config.model``.
        progress: is told as the work goes on.

    Raises:
        DataError: a task or a row is wrong.
        UnknownTaskError: a task that was named is not in the collection.
        ModelError: the encoder cannot be loaded, or gives no usable vectors.
        ArtifactError: another build is at work in the same folder.
        VerificationError: the version is there already, but damaged.
    """
    collection = open_collection(config.tasks, config.names)
    # In the order of their names, so that the order in which they were asked for leaves no trace.
    pools = {name: folder.pool(config.pool, config.seed) for name, folder in sorted(collection.tasks.items())}
    if encoder is None:
        encoder = SentenceEncoder.load(config.model, device=config.device)
    contents = Contents(
        encoder=EncoderStamp.of(encoder),
        carries_model=models.is_local(encoder.name),
        families=collection.families,
        pools=pools,
    )
    folder = version_path(config.out, contents.version)
    with _alone(config.out):
        if folder.exists():
            _refuse_damage(folder)
            encoded = 0
        else:
            encoded = _Building(config, contents, encoder, progress or _silent).run(folder)
        publish(config.out, contents.version)
    sizes = {name: len(pool) for name, pool in pools.items()}
    return Built(version=contents.version, path=folder, sizes=sizes, encoded=encoded)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Make the index directory, and keep other builds out of it."""
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
        with lock.acquire(timeout=0):
            yield
    except Timeout as error:
        raise ArtifactError(
            f"{out}: another build is at work here; wait for it, or build into another folder"
        ) from error


def _refuse_damage(folder: Path) -> None:
    findings = verify_version(folder)
    if findings:
        raise VerificationError(
            f"{folder}: was built before, but is damaged: {findings[0]}; remove that folder and build again"
        )


class _Building:
    """One version in the making, in its staging folder."""

    def __init__(self, config: BuildConfig, contents: Contents, encoder: Encoder, progress: Progress) -> None:
        self.config, self.contents, self.encoder, self.progress = config, contents, encoder, progress
        self.staging = config.out / f".building-{contents.version}"
        self.total = sum(len(pool) for pool in contents.pools.values())
        self.done = self.encoded = 0

    def run(self, folder: Path) -> int:
        """Make what is missing, and rename the staging folder to ``folder``; return how many were encoded."""
        started = time.monotonic()
        self.staging.mkdir(exist_ok=True)
        for name in self.contents.pools:
            self.partition(name)
        write_demonstrations(self.staging / DEMONSTRATIONS, self.contents.pools.values())
        if self.contents.carries_model:
            self.copy_model()
        stamps = self.stamps()
        sync_tree(self.staging)
        write_atomically(self.staging / MANIFEST, self.contents.manifest(stamps).to_bytes())
        self.staging.rename(folder)
        sync(folder.parent)
        _log.info("built %s: %d demonstrations, %.1f s", folder, self.total, time.monotonic() - started)
        return self.encoded

    def partition(self, name: str) -> None:
        """Encode a task's pool, unless an earlier build finished it."""
        pool, path = self.contents.pools[name], self.staging / vectors_path(name)
        if path.is_file():
            self.advance(len(pool))
            return
        started = time.monotonic()
        save_vectors(path, encode_pool(self.encoder, pool, self.config.batch_size, self.advance))
        self.encoded += len(pool)
        _log.info("encoded %s: %d demonstrations, %.1f s", name, len(pool), time.monotonic() - started)

    def advance(self, count: int) -> None:
        self.done += count
        self.progress(self.done, self.total)

    def copy_model(self) -> None:
        """Copy the encoder into the version, so that the index can be moved to where its path means nothing."""
        copy = self.staging / MODEL
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(models.locate(self.encoder.name), copy)
        if models.fingerprint(copy) != self.encoder.fingerprint:
            raise ModelError(f"model {self.encoder.name!r} changed while the index was built; run the build again")

    def stamps(self) -> dict[str, FileStamp]:
        """Return size and sha256 of every file but the manifest."""
        paths = [self.staging / vectors_path(name) for name in self.contents.pools]
        paths += [self.staging / DEMONSTRATIONS, *(self.staging / MODEL).rglob("*")]
        return {
            path.relative_to(self.staging).as_posix(): FileStamp(size=path.stat().st_size, sha256=sha256(path))
            for path in paths
            if path.is_file()
        }


def _silent(done: int, total: int) -> None:
    """Show nothing."""
