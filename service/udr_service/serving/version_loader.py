"""Loading: the version that ``CURRENT`` names, opened and verified beside the one that answers."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from udr.errors import ArtifactError
from udr.models import engine_of, load_encoder, load_tokenizer
from udr.retrieval import Retriever, refuse_damage
from udr.store import IndexVersion, open_version, read_current
from udr_service.serving.active_version import ActiveVersion
from udr_service.serving.embedding_cache import CachingEncoder, Counts
from udr_service.settings import Settings


class Source(Protocol):
    """Where versions come from."""

    def current(self) -> str:
        """Return the name of the version that is published."""

    def load(self) -> ActiveVersion:
        """Return it, opened and verified; takes as long as it takes, on any thread."""


@dataclass(slots=True)
class IndexSource:
    """An index directory.

    Attributes:
        index: the directory.
        settings: the device, the engine, the tokenizer, the size of the cache.
        counts: how often the cache helped.
        encoder: the last one that was loaded; it serves every version that it made.
        engine: what computes its queries.
    """

    index: Path
    settings: Settings
    counts: Counts
    encoder: CachingEncoder | None = None
    engine: str | None = None

    def current(self) -> str:
        """Return the name of the version that is published.

        Raises:
            ArtifactError: there is no index, or ``CURRENT`` names no version.
        """
        return read_current(self.index)

    def load(self) -> ActiveVersion:
        """Return the version that is published, opened and verified.

        Raises:
            UdrError: as ``Retriever.open``.
        """
        version = open_version(self.index)
        # Before its encoder is loaded: what is damaged is told as such.
        refuse_damage(version)
        self.encoder = self._fitting(version)
        retriever = Retriever.of_version(version, device=self.settings.device, encoder=self.encoder, verify=False)
        tokenizer = load_tokenizer(self.settings.tokenizer or retriever.tokenizer)
        return ActiveVersion(retriever, tokenizer, engine=self.engine)

    def _fitting(self, version: IndexVersion) -> CachingEncoder:
        """Return the encoder that made the version; the one that is loaded, where it is that."""
        if self.encoder is not None:
            # By another encoder, it is loaded beside the one that still answers.
            with suppress(ArtifactError):
                version.manifest.encoder.check(self.encoder)
                return self.encoder
        loaded = load_encoder(version.model, self.settings.device, self.settings.engine)
        self.engine = engine_of(loaded)
        return CachingEncoder(loaded, self.settings.cache_size, self.counts)
