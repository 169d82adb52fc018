"""Where versions come from, and how they and their encoder are opened."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from udr.errors import ArtifactError, StoreError
from udr.models import Engine, engine_of, load_encoder, load_tokenizer
from udr.retrieval import Retriever
from udr.store import (
    ENCODER,
    MODEL,
    IndexVersion,
    RemoteIndex,
    encoder_name,
    exported_encoder,
    find_current,
    open_version,
    read_current,
    refuse_damage,
    verifying,
)
from udr.store.live import WriterLock
from udr_service.observability import Metrics
from udr_service.serving.versions.active_version import ActiveVersion
from udr_service.serving.versions.open_files import OpenFiles
from udr_service.serving.work import CachingEncoder
from udr_service.settings import Settings

if TYPE_CHECKING:
    from udr.models import OnnxEncoder


_LOG = logging.getLogger(__name__)


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
    _told: bool = False  # that the store does not answer

    def __post_init__(self) -> None:
        self.remote = RemoteIndex.at(self.index)
        if self.remote is not None:
            self.index = self.remote.root
        self.writer = WriterLock(self.index)
        self.take_lock = self.writer.take

    def current(self) -> str:
        """Return the name of the published version; raise an ``ArtifactError`` if there is none.

        Of an index on a remote store, the rows that are written to it follow, too, and how the version is searched. At
        the start, while the store does not answer, it is the version of the copy, if there is one.
        """
        if self.remote is None:
            return read_current(self.index)
        try:
            self.remote.fetch_writes()
            version = self.remote.current()
            self.remote.fetch_settings(version)
        except StoreError as error:
            return self._copied(error)
        return version

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
        if self.remote is not None:
            try:
                name = self.remote.fetch(name)
            except StoreError as error:
                name = self._copied(error)
        return open_version(self.index, name)

    def _copied(self, error: StoreError) -> str:
        """Return the version of the copy, to start with; raise the error if there is none, or this has started."""
        version = find_current(self.index)
        if version is None or self.encoder is not None:
            raise error
        if not self._told:
            # Once, also for the workers, which are forks.
            self._told = True
            _LOG.warning("starting with version %s, the last that was copied to this machine: %s", version, error)
        return version

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
