"""Where a retriever of an evaluation searches: the pool that all of them share, or a built index."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, Protocol

import numpy as np

from udr.data import ENCODER_WORDING, Pool, encoder_demonstration, rows_digest
from udr.errors import ConfigError, ModelError, listed
from udr.models import (
    Encoder,
    RunnerOptions,
    SentenceEncoder,
    encode_by_length,
    locate_encoder,
    scattered,
    trained_tasks,
)
from udr.retrieval import Retrieval, RetrievalRequest, Retriever
from udr.search import ExactSearch, FaissSearch, Metric, Searcher, Vectors
from udr.store import EncoderStamp, Manifest, open_version, pool_manifest, read_settings, read_weights, write_pool
from udr.types import Json, Row
from udr_training.candidates import warn_of_long
from udr_training.evaluation.retrievers.names import model_of
from udr_training.evaluation.retrievers.options import RetrieverName

_LOG = logging.getLogger(__name__)

FEW = 4096
"""Texts that are encoded before other processes have loaded the encoder."""


class Searched(Protocol):
    """What an evaluation asks of an open retriever, or of a service."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """The number of demonstrations of each task."""

    def retrieve_batch(self, requests: Sequence[RetrievalRequest]) -> list[Retrieval]:
        """Answer several requests."""

    def demonstration(self, task: str, id: str) -> Row:
        """Return one row."""


class Source(Protocol):
    """Where demonstrations are searched."""

    @property
    def identity(self) -> dict[str, Json]:
        """What it is, apart from the pool; its ``kind`` is ``bm25``, ``encoder``, ``index`` or ``service``."""

    @property
    def trained(self) -> bool:
        """Whether ``udr train`` has trained its encoder, as far as is known."""

    def opened(self, pool: Pool) -> AbstractContextManager[Searched]:
        """Open a retriever of the pool's task."""


class LocalSource(Source, Protocol):
    """A source on this machine."""

    def check(self, pool: Pool) -> Manifest:
        """Return the manifest of what is searched; ``ConfigError`` if it cannot be compared on the pool's task."""


class PoolSource:
    """The pool of the evaluation, searched by an encoder and by words.

    The encoder is loaded only if something needs vectors.

    Args:
        parsed: the name with its options.
        processes: how many encode a pool of more rows than ``few``.
        few: see ``FEW``.

    Raises:
        ConfigError: the run is not finished.
        ModelError: there is no encoder of that name.
    """

    def __init__(self, parsed: RetrieverName, processes: int = 1, few: int = FEW) -> None:
        options = parsed.options
        self._processes, self._few = RunnerOptions(workers=processes), few
        self._by_words = options.get("mode") == "bm25" and not options.keys() & {"distinct", "max_copy"}
        self._encoder: Encoder = _Words() if self._by_words else SentenceEncoder.load(model_of(parsed.source))

    @property
    def identity(self) -> dict[str, Json]:
        """See ``Source``."""
        if self._by_words:
            return {"kind": "bm25"}
        return {"kind": "encoder", "model": self._encoder.fingerprint, "wording": ENCODER_WORDING}

    @property
    def trained(self) -> bool:
        """See ``Source``."""
        return isinstance(self._encoder, SentenceEncoder) and bool(trained_tasks(self._encoder.path))

    def check(self, pool: Pool) -> Manifest:
        """See ``Source``."""
        return pool_manifest(pool, EncoderStamp.of(self._encoder))

    @contextmanager
    def opened(self, pool: Pool) -> Iterator[Retriever]:
        """See ``Source``."""
        encoder, task = self._encoder, pool.task
        texts = [encoder_demonstration(task, row) for row in sorted(pool.rows, key=lambda row: row.id)]
        warn_of_long(task.name, encoder, texts)
        vectors = self._vectors(task.name, texts)
        searcher: Searcher = ExactSearch(vectors) if self._by_words else FaissSearch(vectors)
        with TemporaryDirectory(prefix="udr-pool-") as folder:
            version = write_pool(Path(folder), pool, EncoderStamp.of(encoder))
            with Retriever(version, encoder, {task.name: searcher}) as retriever:
                yield retriever

    def _vectors(self, task: str, texts: Sequence[str]) -> Vectors:
        encoder = self._encoder
        if not isinstance(encoder, SentenceEncoder) or len(texts) <= self._few:
            return encode_by_length(encoder, texts, task)
        with scattered(encoder, self._processes, encoder.model.device.type) as many:
            return encode_by_length(many, texts, task)


class IndexSource:
    """A built index, with its own demonstrations, label heads and search settings.

    Raises:
        ArtifactError: the index or its encoder cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._version = path, open_version(path)
        with Retriever.of_version(self._version) as retriever:
            self._encoder, self._position = retriever.encoder, retriever.overlay_position

    @property
    def identity(self) -> dict[str, Json]:
        """See ``Source``."""
        manifest = self._version.manifest
        settings = {name: asdict(value) for name, value in read_settings(self._version.path, manifest).items()}
        weights = read_weights(self._version.path, manifest)
        return {
            "kind": "index",
            "version": manifest.version,
            "search": settings,
            "weights": weights,
            "position": self._position,
        }

    @property
    def trained(self) -> bool:
        """See ``Source``; an index need not have its encoder's folder beside it."""
        with suppress(ModelError):
            return bool(trained_tasks(locate_encoder(self._version.manifest.encoder.name)))
        return False

    def check(self, pool: Pool) -> Manifest:
        """See ``Source``; warns if the index has other demonstrations than the pool."""
        manifest, task = self._version.manifest, pool.task
        if task.name not in manifest.partitions:
            names = listed(sorted(manifest.partitions), len(manifest.partitions))
            raise ConfigError(f"{self._path}: has no task {task.name!r}; it has {names}")
        if manifest.partitions[task.name].task != task:
            raise ConfigError(f"{self._path}: formats task {task.name!r} by another task.toml; run: udr index build")
        with self.opened(pool) as retriever:
            count, pages = retriever.sizes[task.name], retriever.partitions().view.pages(task.name)
            own = rows_digest(chain.from_iterable(pages))
        if own != rows_digest(sorted(pool.rows, key=lambda row: row.id)):
            message = "task %s: %s has %d demonstrations that are not those of the pool, which has %d"
            _LOG.warning(message, task.name, self._path, count, len(pool))
        return manifest

    def opened(self, pool: Pool) -> AbstractContextManager[Retriever]:
        """See ``Source``."""
        return Retriever.of_version(self._version, encoder=self._encoder, verify=False)


class _Words:
    """In place of an encoder where only words are compared: its vectors have no dimension."""

    name, fingerprint, dimension = "none", "", 0
    metric: ClassVar[Metric] = "cosine"

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return np.zeros((len(texts), 0), np.float32)

    encode_demonstrations = encode_queries
