"""The retriever: an encoder and an index, from a query to its nearest demonstrations."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Self

from udr.models import Encoder, SentenceEncoder, check_engine, load_encoder
from udr.retrieval.retriever.rows import Rows
from udr.retrieval.retriever.searching import Searching
from udr.retrieval.source import DemonstrationSource
from udr.store import (
    IndexVersion,
    encoder_name,
    exported_encoder,
    local_index,
    open_searchers,
    open_version,
    read_manifest,
    refuse_damage,
    search_digest,
)
from udr.store.live import Durability

_LOG = logging.getLogger(__name__)

# Bytes that take seconds to check.
_LARGE = 500_000_000

_Reopening = tuple[Path, str | None, str | None, bool, bool]
"""The version's folder, and the device, engine, fp16 and allow_hub that it was opened with."""


class Retriever(Searching, Rows, DemonstrationSource):
    """Retrieves demonstrations from one version of an index; thread-safe.

    ``Retriever.open`` opens an index directory; the constructor takes the parts: a version, the encoder that built it,
    and by task a searcher over each partition's vectors. A copy is the same retriever; a pickle opens the same version
    again where it is loaded.

    Attributes:
        encoder: the encoder.
        path: the folder of the index version.
        root: the index directory; None if the version is in none.
        index_version: its name, 16 hex digits.
        model: the encoder's name as given when the index was built.
        tokenizer: the name that ``udr.load_tokenizer`` loads the encoder's tokenizer by.
        families: the task families, by name.
        weights: how much the encoder's ranking counts in mode ``hybrid``, by task, where the index keeps that.
        search_digest: a hash of ``weights`` and of the settings of approximate searches, which ``udr feedback weigh``
            and ``udr index bench`` change.
        encoder_passes: how many texts the encoder reads for a query of each task: 1, and 2 more if its label head reads
            two fields apart.
        lexical: the tasks that have BM25, which the modes bm25 and hybrid, and coverage, need.
        files: the size and checksum of each file of the version, by its path there.
        max_characters: the maximum length of a query's formatted input.

    Raises:
        ArtifactError: the index was built by another encoder.
    """

    _reopen: _Reopening | None = None

    @classmethod
    def open(
        cls,
        path: Path | str,
        *,
        device: str | None = None,
        engine: str | None = None,
        encoder: Encoder | None = None,
        fp16: bool = False,
        verify: bool = True,
        allow_hub: bool = False,
        durability: Durability = "disk",
    ) -> Self:
        """Open the current version of an index.

        Args:
            path: the index directory, or its URL on a remote store, whose current version is copied to this machine.
            device: where the encoder runs: ``cpu``, ``cuda``, ...; None chooses the best available. An explicit
                ``cuda`` searches on the GPU, too.
            engine: what encodes queries, one of ``udr.models.Engine``. None is ONNX Runtime in float32 if the encoder
                runs on the CPU and the index carries it, else torch in float32.
            encoder: a loaded encoder, whatever the engine; None loads the one that built the index.
            fp16: search flat partitions on a GPU in half the memory.
            verify: check every file's checksum first, about a second per gigabyte; False checks only sizes.
            allow_hub: load the encoder from the Hugging Face hub if the index names it there; see ``docs/trust.md``.
            durability: when a write returns: once it is on ``disk``, or once the operating ``system`` has it.

        Raises:
            ArtifactError: there is no index, or it has another format, wording or encoder.
            VerificationError: a file differs from the manifest.
            ModelError: the index's encoder cannot be loaded.
            ConfigError: there is no such engine, or not for this device or index.
            MissingExtraError: faiss, sentence-transformers or the engine is not installed.
        """
        return cls.of_version(
            open_version(local_index(path)),
            device=device,
            engine=engine,
            encoder=encoder,
            fp16=fp16,
            verify=verify,
            allow_hub=allow_hub,
            durability=durability,
        )

    @classmethod
    def of_version(
        cls,
        version: IndexVersion,
        *,
        device: str | None = None,
        engine: str | None = None,
        encoder: Encoder | None = None,
        fp16: bool = False,
        verify: bool = True,
        allow_hub: bool = False,
        take_lock: Callable[[], object] | None = None,
        durability: Durability = "disk",
    ) -> Self:
        """Open a version of an index, whether current or not; see ``open``.

        ``take_lock`` takes the lock of the writer, if several retrievers of this process share it.
        """
        check_engine(engine)
        if verify:
            if sum(stamp.size for stamp in version.manifest.files.values()) > _LARGE:
                _LOG.info("checking the files of %s...", version.path)
            refuse_damage(version.path)
        loaded = encoder or exported_encoder(version, device, engine)
        if loaded is None:
            name = encoder_name(version, allow_hub=allow_hub)
            loaded = SentenceEncoder.load(name, device) if engine is None else load_encoder(name, device, engine)
        digest, searchers = search_digest(version.path, version.manifest), open_searchers(version, device, fp16=fp16)
        retriever = cls(version, loaded, searchers, take_lock=take_lock, durability=durability)
        # Of the settings that the searchers have: others may have been written since.
        retriever.search_digest = digest
        retriever._reopen = (version.path.resolve(), device, engine, fp16, allow_hub) if encoder is None else None
        return retriever

    def __reduce__(self) -> tuple[Callable[..., "Retriever"], _Reopening]:
        if self._reopen is None:
            raise TypeError(
                "a Retriever whose encoder was given to it cannot be pickled; open the index where it is used"
            )
        return _reopened, self._reopen


def _reopened(path: Path, device: str | None, engine: str | None, fp16: bool, allow_hub: bool) -> Retriever:
    version = IndexVersion(path, read_manifest(path))
    return Retriever.of_version(version, device=device, engine=engine, fp16=fp16, verify=False, allow_hub=allow_hub)
