"""An open version of an index: its encoder, its searchers, and its pool with what was written on top."""

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from types import MappingProxyType
from typing import Self

import numpy as np

from udr.data import Task, TaskFamily
from udr.errors import ConfigError, ModelError
from udr.models import Encoder
from udr.retrieval.partitions import Partitions
from udr.retrieval.planning import MAX_CHARACTERS, unknown
from udr.retrieval.writing import Drafting
from udr.search import PASSES, Searcher, Vectors
from udr.store import VERSIONS, FileStamp, IndexVersion, open_lexical, read_weights, search_digest, with_label_heads
from udr.store.live import Base, Durability, LivePool, View, WriterLock
from udr.types import Role


class OpenVersion:
    """What a ``Retriever`` holds, encodes and closes; its attributes are documented there."""

    _closed = False

    def __init__(
        self,
        version: IndexVersion,
        encoder: Encoder,
        searchers: Mapping[str, Searcher],
        *,
        take_lock: Callable[[], object] | None = None,
        durability: Durability = "disk",
    ) -> None:
        manifest = version.manifest
        manifest.encoder.check(encoder)
        self.encoder = encoder
        self.path = version.path
        self.index_version = manifest.version
        self.model = manifest.encoder.name
        # The encoder's own name is the caller's, unlike the manifest's.
        self.tokenizer = version.tokenizer or encoder.name
        self._tasks: Mapping[str, Task] = MappingProxyType({n: part.task for n, part in manifest.partitions.items()})
        self.families: Mapping[str, TaskFamily] = MappingProxyType(dict(manifest.families))
        # First: what is written from here on is news.
        self.search_digest = search_digest(version.path, manifest)
        self.weights: Mapping[str, float] = MappingProxyType(read_weights(version.path, manifest))
        self.encoder_passes: Mapping[str, int] = MappingProxyType(
            {
                name: 1 + (PASSES if part.label_head and part.label_head.fields else 0)
                for name, part in manifest.partitions.items()
            }
        )
        self.lexical = frozenset(name for name, part in manifest.partitions.items() if part.lexical)
        self.files: Mapping[str, FileStamp] = MappingProxyType(dict(manifest.files))
        self.max_characters = MAX_CHARACTERS
        self._manifest = manifest
        searchers = with_label_heads(version, searchers)
        # Tokenizers are not thread-safe.
        self._encoding = threading.Lock()
        self._process = os.getpid()
        base = Base(manifest, self._tasks, searchers, open_lexical(version), version.demonstrations())
        self.root = version.root if version.path.parent.name == VERSIONS else None
        self._lock = WriterLock(self.root or version.path)
        encode = partial(self.encode, role="demonstration")
        self._pool = LivePool(self.root, base, encode, take_lock or self._lock.take, durability)
        self._partitions, self._drafting = Partitions(self._pool.view()), Drafting(version)

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks, by name."""
        return self._tasks

    def partitions(self) -> Partitions:
        """Return what a request that starts now sees: the published rows, with every write that is acknowledged."""
        return self._of(self._view())

    def at_hand(self) -> Partitions | None:
        """Return what ``partitions`` returns, or None if writes must be read first; takes one call of the system."""
        self._refuse_closed()
        view = self._pool.at_hand()
        return None if view is None else self._of(view)

    def encode(self, texts: Sequence[str], role: Role = "query") -> Vectors:
        """Return the vectors of texts, float32 [len(texts), dimension]; the second step, for the texts of plans.

        Args:
            texts: what the encoder reads.
            role: whether they are queries or demonstrations.

        Raises:
            ModelError: the encoder returned NaN or infinity.
        """
        if not texts:
            return np.zeros((0, self.encoder.dimension), dtype=np.float32)
        encode = self.encoder.encode_queries if role == "query" else self.encoder.encode_demonstrations
        with self._encoding:
            vectors = encode(texts)
        if not np.isfinite(vectors).all():
            # Search engines would silently return nonsense.
            raise ModelError(f"encoder {self.model!r} returned numbers that are not finite")
        return vectors

    def encode_each(self, texts: Mapping[int, Sequence[str]], role: Role = "query") -> dict[int, Vectors]:
        """Return the vectors of several texts by each key, float32 [num_texts, dimension], all encoded at once.

        See ``encode``.
        """
        ends = list(accumulate(map(len, texts.values())))
        vectors = self.encode([text for own in texts.values() for text in own], role)
        return dict(zip(texts, np.split(vectors, ends[:-1]), strict=True)) if texts else {}

    @property
    def sizes(self) -> Mapping[str, int]:
        """How many demonstrations each task has, with what was written since the version was built."""
        return MappingProxyType(self._view().sizes)

    @property
    def overlay_position(self) -> int:
        """The number of the last write that the next request sees; 0 before the first."""
        return self._view().position

    @property
    def overlay_rows(self) -> int:
        """How many rows were put or deleted since the version was built, each counted once."""
        return self._view().num_changes

    @property
    def overlay_bytes(self) -> int:
        """How many bytes the log of what was written has."""
        self._view()
        return self._pool.log_bytes

    def stored_digest(self) -> str:
        """Return the ``search_digest`` of a version opened now: another if what it hashes was measured again since.

        Raises:
            VerificationError: the file that they write is missing or altered.
        """
        return search_digest(self.path, self._manifest)

    def close(self) -> None:
        """Close the files; the retriever cannot be used afterwards."""
        self._closed = True
        self._pool.close()
        self._lock.close()

    def _view(self) -> View:
        self._refuse_closed()
        return self._pool.view()

    def _of(self, view: View) -> Partitions:
        partitions = self._partitions
        if partitions.view is not view:
            self._partitions = partitions = Partitions(view)
        return partitions

    def _view_of(self, task: str) -> View:
        self._refuse_fork()
        if task not in self.tasks:
            raise unknown("task", task, self.tasks)
        return self.partitions().view

    def _refuse_closed(self) -> None:
        if self._closed:
            raise ConfigError("this Retriever is closed; open the index again")

    def _refuse_fork(self) -> None:
        # The threads of torch and faiss do not exist in a fork, which would wait for them for ever.
        if self._process != os.getpid():
            raise ConfigError(
                f"this Retriever was opened in process {self._process}, of which process {os.getpid()} is a fork; "
                "open the index in each process, or start processes with the method 'spawn'"
            )

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __copy__(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
