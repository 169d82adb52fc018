"""The active index version: how it is loaded, and how long it stays open after a switch."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from udr.errors import ArtifactError, InvalidInputError, brief
from udr.models import Engine, TokenCounter, engine_of, load_encoder, load_tokenizer
from udr.retrieval import Retriever
from udr.store import (
    ENCODER,
    MODEL,
    IndexVersion,
    RemoteIndex,
    encoder_name,
    exported_encoder,
    open_version,
    read_current,
    refuse_damage,
    verifying,
)
from udr.store.live import WriterLock
from udr_service.auth import Pools
from udr_service.errors import IndexDamagedError, NotReadyError
from udr_service.observability import Metrics
from udr_service.serving.open_files import OpenFiles
from udr_service.serving.work import CachingEncoder
from udr_service.settings import Settings

if TYPE_CHECKING:
    from udr.models import OnnxEncoder

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class ActiveVersion:
    """One version of an index, open; its tokenizer counts the tokens of prompts, unless a request names another."""

    retriever: Retriever
    tokenizer: TokenCounter
    lent: bool = False  # the caller closes the retriever
    engine: str | None = None  # what encodes queries, see udr.models; None if the caller brought the encoder
    opened: float = field(default_factory=time.time)  # seconds since 1970
    # Answers that depend on nothing but the version and the key's pools, by name and pools; some are being made.
    answers: "dict[tuple[str, Pools], asyncio.Future[bytes]]" = field(default_factory=dict)
    named: Mapping[str, TokenCounter] = field(default_factory=dict)  # the tokenizers of the settings, by name
    files: OpenFiles = field(init=False)  # as they were when it was opened

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", OpenFiles(self.retriever.path, self.retriever.files))

    @property
    def version(self) -> str:
        """The version's name."""
        return self.retriever.index_version

    @property
    def summary(self) -> str:
        """What it holds, in words."""
        sizes = self.retriever.sizes
        return f"{len(sizes)} {'task' if len(sizes) == 1 else 'tasks'}, {sum(sizes.values())} demonstrations"

    @property
    def tokenizers(self) -> dict[str, TokenCounter]:
        """The tokenizers that a request can name; the first is the one of requests that name none."""
        if self.tokenizer in self.named.values():
            return dict(self.named)
        retriever = self.retriever
        # The manifest's name of the encoder: its own may be a path on this machine.
        own = retriever.model if retriever.tokenizer == retriever.encoder.name else retriever.tokenizer
        return {own: self.tokenizer, **self.named}

    def counter(self, name: str | None) -> TokenCounter:
        """Return the tokenizer of a name, or the one of requests that name none.

        Raises:
            InvalidInputError: the service has no tokenizer of that name.
        """
        if name is None:
            return self.tokenizer
        if name not in self.tokenizers:
            names = ", ".join(self.tokenizers)
            raise InvalidInputError(f"this service has no tokenizer {brief(name)}; it was started with {names}")
        return self.tokenizers[name]

    def name_of(self, counter: TokenCounter) -> str:
        """Return the name of one of the tokenizers."""
        return next(name for name, own in self.tokenizers.items() if own is counter)


class Source(Protocol):
    """Where versions come from.

    Attributes:
        index: the index directory.
    """

    index: Path

    def current(self) -> str:
        """Return the name of the published version."""

    def load(self, metrics: Metrics, name: str | None = None) -> ActiveVersion:
        """Open and verify a version, by default the published one; slow, on any thread."""


@dataclass(slots=True)
class IndexSource:
    """The versions of an index directory, or of an index on a remote store, of which ``index`` is then the copy.

    All versions made by the last encoder share it.
    """

    index: Path
    settings: Settings
    encoder: CachingEncoder | None = None
    engine: str | None = None
    writer: WriterLock = field(init=False)
    take_lock: Callable[[], object] = field(init=False)
    remote: RemoteIndex | None = field(init=False)
    _encoder_files: OpenFiles | None = None  # of the encoder, if it came from an index
    _preloaded: "OnnxEncoder | None" = None  # before a fork

    def __post_init__(self) -> None:
        self.remote = RemoteIndex.at(self.index)
        if self.remote is not None:
            self.index = self.remote.root
        self.writer = WriterLock(self.index)
        self.take_lock = self.writer.take

    def current(self) -> str:
        """Return the name of the published version; raise an ``ArtifactError`` if there is none.

        Of an index on a remote store, the rows that are written to it follow, too.
        """
        if self.remote is None:
            return read_current(self.index)
        self.remote.fetch_writes()
        return self.remote.current()

    def preload(self) -> None:
        """Open the encoder of the published version, if it carries one for ONNX Runtime, before this process forks.

        Forks that load a version by this encoder share its weights. It starts no thread, unlike other engines.

        Raises:
            UdrError: as ``load``.
        """
        if self.settings.engine in (None, Engine.ONNX, Engine.ONNX_INT8):
            version = self._open(None)
            refuse_damage(version.path)
            self._preloaded = exported_encoder(version, self.settings.device, self.settings.engine)
            self._encoder_files = _encoder_files(version)

    def load(self, metrics: Metrics, name: str | None = None) -> ActiveVersion:
        """Open and verify a version, by default the published one; ``metrics`` count lookups in the encoder's cache.

        Raises:
            UdrError: as ``Retriever.open``.
        """
        version = self._open(name)
        with verifying(version.path):
            self.encoder = self._encoder_of(version, metrics)
        retriever = Retriever.of_version(
            version,
            device=self.settings.device,
            encoder=self.encoder,
            verify=False,
            take_lock=self.take_lock,
            durability=self.settings.durability,
        )
        named = {name: load_tokenizer(name) for name in self.settings.tokenizer}
        tokenizer = next(iter(named.values()), None) or load_tokenizer(retriever.tokenizer)
        return ActiveVersion(retriever, tokenizer, engine=self.engine, named=named)

    def _open(self, name: str | None) -> IndexVersion:
        """Open a version, copied before if the index is on a remote store."""
        return open_version(self.index, name if self.remote is None else self.remote.fetch(name))

    def _encoder_of(self, version: IndexVersion, metrics: Metrics) -> CachingEncoder:
        """Return the encoder that made the version, reusing the loaded one if it did."""
        # The weights are mapped into memory, too.
        settings = self.settings
        if self._encoder_files is None or self._encoder_files.untouched():
            with suppress(ArtifactError):
                if self.encoder is not None:
                    version.manifest.encoder.check(self.encoder)
                    return self.encoder
                if self._preloaded is not None:
                    version.manifest.encoder.check(self._preloaded)
                    self.engine = engine_of(self._preloaded)
                    return CachingEncoder(self._preloaded, settings.cache_size, metrics)
        loaded = exported_encoder(version, settings.device, settings.engine) or load_encoder(
            encoder_name(version, allow_hub=settings.allow_hub), settings.device, settings.engine
        )
        self.engine, self._encoder_files, self._preloaded = engine_of(loaded), _encoder_files(version), None
        return CachingEncoder(loaded, settings.cache_size, metrics)


def _encoder_files(version: IndexVersion) -> OpenFiles:
    folders = (f"{MODEL}/", f"{ENCODER}/")
    stamps = {name: stamp for name, stamp in version.manifest.files.items() if name.startswith(folders)}
    return OpenFiles(version.path, stamps)


class Current:
    """The version that answers. Each request leases one version from beginning to end.

    Used on the event loop only, so nothing is locked.

    Attributes:
        draining: the service is about to stop; it still answers, but is not ready.
        damage: what is wrong with the files of the version that answers; None if nothing is known.
    """

    def __init__(self) -> None:
        self._active: ActiveVersion | None = None
        self._leases: Counter[ActiveVersion] = Counter()
        self.draining = False
        self.damage: str | None = None
        self._logged: ActiveVersion | None = None

    @property
    def version(self) -> str | None:
        """The name of the version that answers; None before the first."""
        return None if self._active is None else self._active.version

    @property
    def fields_read(self) -> Mapping[str, frozenset[str]]:
        """Which fields of each task the version that answers has read for filters; see ``Retriever.fields_read``."""
        return {} if self._active is None else self._active.retriever.fields_read

    @property
    def alone(self) -> bool:
        """Whether no earlier version is still in use."""
        return all(leased is self._active for leased in self._leases)

    @contextmanager
    def lease(self) -> Iterator[ActiveVersion]:
        """Keep the version that answers now open until the block ends, whatever ``switch`` does meanwhile.

        Raises:
            NotReadyError: no version is open yet.
        """
        if (active := self._active) is None:
            raise NotReadyError("the service is loading its index; try again later")
        self._leases[active] += 1
        try:
            yield active
        finally:
            self._leases[active] -= 1
            self._close_unused(active)

    @contextmanager
    def answering(self) -> Iterator[ActiveVersion]:
        """Lease the version that answers now, for a request.

        Raises:
            NotReadyError: no version is open yet.
            IndexDamagedError: a file is damaged, or was found to be so by the request.
        """
        with self.lease() as active:
            if self.damage is not None:
                raise IndexDamagedError(f"the index is damaged: {self.damage}")
            try:
                yield active
            except ArtifactError as error:
                if self._logged is not active:
                    self._logged = active
                    _LOG.error("version %s cannot be read: %s", active.version, error)
                raise IndexDamagedError("a file of the index cannot be read; the service's log says which") from error

    def is_active(self, version: ActiveVersion) -> bool:
        """Return whether this version answers now."""
        return version is self._active

    def switch(self, active: ActiveVersion | None) -> None:
        """Answer from another version, or from none; the previous one closes after its last request."""
        previous, self._active = self._active, active
        self.damage = None
        if previous is not None:
            self._close_unused(previous)

    def _close_unused(self, version: ActiveVersion) -> None:
        if self._leases[version] == 0:
            del self._leases[version]
            if version is not self._active and not version.lent:
                version.retriever.close()
