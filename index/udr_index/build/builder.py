"""Building an index: a collection to a version that is whole, verified and published.

A version is built in ``DIR/.building-<vectors>/`` and renamed when its manifest is written. A build that is killed
leaves what was published before as it was; the next build of the same vectors keeps the shards it finished, and the
indexes, where their kinds are the same.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from udr.data import Collection, input_words, open_collection
from udr.errors import ModelError
from udr.files import sha256, sync, sync_tree, write_atomically
from udr.models import Encoder, LoadedTokenizer, SentenceEncoder, hub, load_tokenizer
from udr.search import BM25Search, find_gpu
from udr.store import (
    DEMONSTRATIONS,
    FLAT,
    MANIFEST,
    MODEL,
    SEARCH,
    DemonstrationTable,
    EncoderStamp,
    FileStamp,
    IndexVersion,
    Partition,
    TokenizerStamp,
    approximate,
    bm25_path,
    index_path,
    publish,
    refuse_damage,
    vectors_path,
    version_path,
    write_settings,
)
from udr_index.build.config import BuildConfig
from udr_index.build.encoding import PoolEncoding
from udr_index.build.faiss_index import build_partition, refuse_unknown_kind
from udr_index.build.identity import BuildIdentity
from udr_index.build.index_types import first_settings, resolve, rows_to_train
from udr_index.build.ingest import ingest
from udr_index.build.progress import OnProgress, Stage
from udr_index.build.reuse import PreviousVersion, open_previous
from udr_index.build.token_counts import count_rows
from udr_index.lock import alone

_LOG = logging.getLogger(__name__)

_MADE_FOR = "made-for"
"""In a staging folder, the file that names the version whose indexes are there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """What a build made.

    Attributes:
        version: the version that is published now.
        path: its folder.
        sizes: how many demonstrations each task has.
        encoded: how many texts this build encoded; other vectors were there already.
    """

    version: str
    path: Path
    sizes: dict[str, int]
    encoded: int


def build(config: BuildConfig, encoder: Encoder | None = None, on_progress: OnProgress = lambda _: None) -> Built:
    """Build the index that ``config`` describes, or go on with it, and publish it.

    Args:
        config: what to build, and where.
        encoder: an encoder that is loaded already, in place of ``config.model``.
        on_progress: called as the work goes on.

    Raises:
        DataError: a task or a row is wrong.
        UnknownTaskError: a task that was named is not in the collection.
        ConfigError: faiss knows no such kind of partition; said before anything is read or encoded.
        ModelError: the encoder or the tokenizer cannot be loaded, or the encoder gives no usable vectors.
        ArtifactError: another build is at work in the same folder.
        VerificationError: the version is there already, or the one to reuse is, but damaged.
    """
    collection = open_collection(config.tasks, config.names)
    if encoder is None:
        encoder = SentenceEncoder.load(config.model, device=config.device)
    tokenizer = _tokenizer(config, encoder)
    refuse_unknown_kind(config.kind, encoder.dimension)
    with alone(config.out), _rows(config, collection, on_progress) as (rows, sizes):
        contents = _contents(config, collection, encoder, tokenizer, rows, sizes)
        folder = version_path(config.out, contents.version)
        encoded = 0
        if folder.exists():
            refuse_damage(folder, "was built before, but is damaged", "remove that folder and build again")
        else:
            previous = open_previous(config.reuse, contents) if config.reuse is not None else None
            with closing(previous) if previous is not None else nullcontext():
                encoded = _Building(config, contents, encoder, tokenizer, previous, on_progress).run(rows, folder)
        publish(config.out, contents.version)
    return Built(version=contents.version, path=folder, sizes=sizes, encoded=encoded)


def _tokenizer(config: BuildConfig, encoder: Encoder) -> LoadedTokenizer | None:
    """Return the tokenizer whose tokens are counted: the one that is named, else the encoder's, where it has one."""
    if config.tokenizer is not None:
        return load_tokenizer(config.tokenizer)
    if isinstance(encoder, SentenceEncoder) and (encoder.path / "tokenizer.json").is_file():
        return load_tokenizer(str(encoder.path))
    return None


@contextmanager
def _rows(
    config: BuildConfig, collection: Collection, on_progress: OnProgress
) -> Iterator[tuple[Path, dict[str, int]]]:
    """Read the rows into a file beside the versions, which a build moves into its own; tell how many each task has."""
    path = config.out / ".rows.sqlite.tmp"
    try:
        read = Stage("read", None, on_progress).advance
        yield path, ingest(path, collection.tasks.values(), config.pool, config.seed, read)
    finally:
        path.unlink(missing_ok=True)


def _contents(
    config: BuildConfig,
    collection: Collection,
    encoder: Encoder,
    tokenizer: LoadedTokenizer | None,
    rows: Path,
    sizes: Mapping[str, int],
) -> BuildIdentity:
    kinds = {name: resolve(config.kind, count, encoder.dimension, config.flat_below) for name, count in sizes.items()}
    if few := [name for name, kind in kinds.items() if sizes[name] < rows_to_train(kind)]:
        _LOG.warning("flat, with too few demonstrations to train %r on: %s", config.kind, ", ".join(few))
        kinds |= dict.fromkeys(few, FLAT)
    partitions = {
        name: Partition(task=collection.tasks[name].task, count=count, kind=kinds[name], lexical=config.bm25)
        for name, count in sizes.items()
    }
    # Where the encoder's own is taken, its name is the encoder's: folders of packages differ between machines.
    named = config.tokenizer or encoder.name
    counted = TokenizerStamp(name=named, fingerprint=tokenizer.fingerprint) if tokenizer is not None else None
    with closing(DemonstrationTable(rows)) as table:
        return BuildIdentity.of(
            table,
            EncoderStamp.of(encoder),
            counted,
            config.dtype,
            collection.families,
            partitions,
            carries_model=hub.is_local(encoder.name),
        )


class _Building:
    """One version in the making, in its staging folder."""

    def __init__(
        self,
        config: BuildConfig,
        contents: BuildIdentity,
        encoder: Encoder,
        tokenizer: LoadedTokenizer | None,
        previous: PreviousVersion | None,
        on_progress: OnProgress,
    ) -> None:
        self.config, self.contents, self.encoder, self.tokenizer = config, contents, encoder, tokenizer
        self.previous, self.on_progress = previous, on_progress
        # Vectors that are taken over may differ in the last bits from those that are encoded again.
        ending = f"-reuse-{previous.digest}" if previous is not None else ""
        self.staging = config.out / f".building-{contents.vectors}{ending}"

    def run(self, rows: Path, folder: Path) -> int:
        """Make what is missing, and rename the staging folder to ``folder``; return how many texts were encoded."""
        self.staging.mkdir(exist_ok=True)
        rows.replace(self.staging / DEMONSTRATIONS)
        self.count_tokens()
        self.drop_other_indexes()
        encoded = self.encode()
        self.index()
        self.index_words()
        if self.contents.carries_model:
            self.copy_model()
        manifest = self.contents.manifest(self.stamps())
        settings = {name: first_settings(manifest.partitions[name].kind) for name in approximate(manifest)}
        if settings:
            write_settings(self.staging, manifest, settings)
        sync_tree(self.staging)
        (self.staging / _MADE_FOR).unlink()
        write_atomically(self.staging / MANIFEST, manifest.to_bytes())
        self.staging.rename(folder)
        sync(folder.parent)
        _LOG.info("built %s: %d tasks, %d texts encoded", folder, len(self.contents.partitions), encoded)
        return encoded

    def drop_other_indexes(self) -> None:
        """Delete the indexes and settings that a build of other kinds left; its vectors are these."""
        mark, version = self.staging / _MADE_FOR, self.contents.version.encode()
        if mark.is_file() and mark.read_bytes() == version:
            return
        # With the stars, what a kill in the middle of a write left goes, too.
        for pattern in ("partitions/*/*index.faiss*", f"*{SEARCH}*"):
            for path in self.staging.glob(pattern):
                path.unlink()
        write_atomically(mark, version)

    def count_tokens(self) -> None:
        """Count the tokens of every task's rows; this begins anew with each build, and takes a small part of it."""
        if self.tokenizer is not None:
            parts = self.contents.partitions
            stage = Stage("counted", sum(part.count for part in parts.values()), self.on_progress)
            for part in parts.values():
                count_rows(self.staging / DEMONSTRATIONS, part, self.tokenizer, self.previous, stage.advance)

    def encode(self) -> int:
        """Encode every task's rows, as far as an earlier build did not; return how many texts were."""
        stage = Stage("encoded", sum(part.count for part in self.contents.partitions.values()), self.on_progress)
        encoded = 0

        def advance(rows: int, texts: int) -> None:
            nonlocal encoded
            encoded += texts
            stage.advance(rows, rows if texts else 0)

        with closing(DemonstrationTable(self.staging / DEMONSTRATIONS)) as table:
            for part in self.contents.partitions.values():
                PoolEncoding(
                    staging=self.staging,
                    table=table,
                    task=part.task,
                    count=part.count,
                    encoder=self.encoder,
                    dtype=self.config.dtype,
                    batch_size=self.config.batch_size,
                    shard_rows=self.config.shard_rows,
                    previous=self.previous,
                ).finish(advance)
        return encoded

    def index(self) -> None:
        """Make the faiss index of each partition that has one, unless an earlier build did."""
        parts = {name: part for name, part in self.contents.partitions.items() if part.kind != FLAT}
        stage = Stage("indexed", sum(part.count for part in parts.values()), self.on_progress)
        gpu = find_gpu(self.config.device) if parts else None
        version = IndexVersion(self.staging, self.contents.manifest({}))
        for name, part in parts.items():
            path = self.staging / index_path(name)
            if not path.is_file():
                build_partition(path, part.kind, version.vectors(name), self.config.threads, gpu)
            stage.advance(part.count)

    def index_words(self) -> None:
        """Make the BM25 index of each partition that has one; in memory, and so fast that it begins anew."""
        with closing(DemonstrationTable(self.staging / DEMONSTRATIONS)) as table:
            for name, part in self.contents.partitions.items():
                folder = self.staging / bm25_path(name)
                shutil.rmtree(folder, ignore_errors=True)
                if part.lexical:
                    rows = table.every(name)
                    BM25Search(input_words(part.task, row.input, row.choices) for row in rows).save(folder)

    def copy_model(self) -> None:
        """Copy the encoder into the version, so that the index can be moved to where its path means nothing."""
        copy = self.staging / MODEL
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(hub.locate(self.encoder.name), copy)
        if hub.fingerprint(copy) != self.encoder.fingerprint:
            raise ModelError(f"model {self.encoder.name!r} changed while the index was built; run the build again")

    def stamps(self) -> dict[str, FileStamp]:
        """Return size and sha256 of every file but the manifest and the search settings."""
        parts = self.contents.partitions
        paths = [self.staging / vectors_path(name) for name in parts]
        paths += [self.staging / index_path(name) for name, part in parts.items() if part.kind != FLAT]
        paths += [path for name in parts for path in (self.staging / bm25_path(name)).rglob("*")]
        paths += [self.staging / DEMONSTRATIONS, *(self.staging / MODEL).rglob("*")]
        return {
            path.relative_to(self.staging).as_posix(): FileStamp(size=path.stat().st_size, sha256=sha256(path))
            for path in paths
            if path.is_file()
        }
