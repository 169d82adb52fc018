"""The search engine of each partition, by its kind and the device."""

import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from udr.errors import ConfigError
from udr.search import (
    SCANNED_ROWS,
    BM25Search,
    ExactLabelled,
    ExactProposals,
    LabelHead,
    LabelledSearch,
    Proposer,
    ProposerAmong,
    RankedProposals,
    Searcher,
)
from udr.store.manifest import FLAT
from udr.store.searching.search_settings import SearchSettings, read_settings
from udr.store.version import IndexVersion, bm25_path, index_path

if TYPE_CHECKING:
    from udr.search import FaissGpu

_LOG = logging.getLogger(__name__)

_GPU_OVERSAMPLE = 4
"""Proposals for each demonstration to return, if vectors on the device are rounded to float16."""


def open_searchers(version: IndexVersion, device: str | None = None, *, fp16: bool = False) -> dict[str, Searcher]:
    """Return a searcher for each partition of an index version, by task.

    Args:
        version: the version.
        device: ``cuda``, ``cuda:1``, ... search on that GPU; without a GPU, on the CPU, with a warning.
        fp16: store the vectors of flat partitions on the GPU in half the memory; their proposals are ranked exactly.

    Raises:
        ArtifactError: a file of the version cannot be read.
        MissingExtraError: faiss is not installed.
    """
    # faiss is an extra, and slow to import.
    from udr.search import find_gpu

    settings, gpu = read_settings(version.path, version.manifest), find_gpu(device)
    return {
        task: open_searcher(version, task, settings.get(task, SearchSettings()), gpu, fp16=fp16)
        for task in version.manifest.partitions
    }


def with_label_heads(version: IndexVersion, searchers: Mapping[str, Searcher]) -> dict[str, Searcher]:
    """Return searchers by task; of a task with a label head, one that does not know it can search by it, exactly.

    Raises:
        ArtifactError: a file of a head cannot be read.
    """
    result = dict(searchers)
    for task, searcher in searchers.items():
        if not isinstance(searcher, LabelledSearch) and (head := version.label_head(task)) is not None:
            result[task] = LabelledSearch(searcher, ExactLabelled(searcher.vectors, head, _longest(version)), head)
    return result


def open_lexical(version: IndexVersion) -> dict[str, BM25Search]:
    """Return the BM25 search of each partition that has one, by task.

    Raises:
        ArtifactError: a file of the version cannot be read.
    """
    return {
        name: BM25Search.load(version.path / bm25_path(name), part.count, part.lexical)
        for name, part in version.manifest.partitions.items()
        if part.lexical
    }


@dataclass(frozen=True, slots=True)
class _Engine:
    """An engine of proposals: exact, or with its proposals per demonstration; and the largest count it can propose.

    ``among`` is the engine for searches among some rows, if it differs; up to ``scanned`` rows are compared one by one.
    """

    propose: Proposer
    oversample: int | None = None
    limit: int = sys.maxsize
    among: ProposerAmong | None = None
    scanned: int = SCANNED_ROWS

    def searcher(self, vectors: NDArray[np.floating], longest: float | None, exact: Searcher) -> Searcher:
        """Return a searcher by this engine over vectors, which ``exact`` searches, too."""
        if self.oversample is None:
            return ExactProposals(self.propose, vectors, longest, self.limit, exact)
        return RankedProposals(
            self.propose, vectors, exact, self.oversample, self.limit, among=self.among, scanned=self.scanned
        )

    def plain(self, head: LabelHead) -> "_Engine":
        """Return the engine of plain similarity, if this one is over vectors with their labels appended."""
        among = None if self.among is None else head.plain(self.among)
        return replace(self, propose=head.plain(self.propose), among=among)


def open_searcher(
    version: IndexVersion, task: str, settings: SearchSettings, gpu: "FaissGpu | None" = None, *, fp16: bool = False
) -> Searcher:
    """Return a searcher for one partition, on a GPU or on the CPU; a ``LabelledSearch`` if it has a label head.

    See ``open_searchers``.
    """
    from udr.search import FaissSearch

    vectors, longest, head = version.vectors(task), _longest(version), version.label_head(task)
    rows, engine = vectors if head is None else head.rows(vectors), None
    if gpu is not None:
        try:
            engine = _on_gpu(version, task, rows, settings, gpu, fp16=fp16)
        except ConfigError as error:
            _LOG.warning("task %s: %s; searching on the CPU", task, error)
    engine = engine or _on_cpu(version, task, rows, settings)
    exact: Searcher = FaissSearch(vectors, longest)
    if head is None:
        return exact if engine is None else engine.searcher(vectors, longest, exact)
    labelled: Searcher = ExactLabelled(vectors, head, longest)
    if engine is None:
        return LabelledSearch(exact, labelled, head)
    # One engine serves both, since it is over the vectors with their labels appended.
    plain = engine.plain(head).searcher(vectors, longest, exact)
    return LabelledSearch(plain, engine.searcher(rows, head.longest(longest), labelled), head)


def _on_cpu(version: IndexVersion, task: str, rows: NDArray[np.floating], settings: SearchSettings) -> _Engine | None:
    """Return the engine of a partition over its rows; None if every vector is compared in place."""
    from udr.search import float16_proposer, open_index, proposer, proposer_among, set_parameters

    kind = version.manifest.partitions[task].kind
    if kind == FLAT:
        # In memory and not mapped as float32 is: to convert vectors at each search takes ten times as long.
        return _Engine(float16_proposer(rows)) if rows.dtype == np.float16 else None
    index = open_index(version.path / index_path(task), kind, rows.shape)
    set_parameters(index, settings.parameters)
    engine = _Engine(proposer(index), settings.oversample)
    if (found := proposer_among(index)) is None:
        return engine
    among, scanned = found
    return replace(engine, among=among, scanned=scanned)


def _on_gpu(
    version: IndexVersion,
    task: str,
    rows: NDArray[np.floating],
    settings: SearchSettings,
    gpu: "FaissGpu",
    *,
    fp16: bool,
) -> _Engine:
    from udr.search import MOST, open_index

    kind = version.manifest.partitions[task].kind
    if kind == FLAT:
        return _Engine(gpu.flat(rows, fp16=fp16), _GPU_OVERSAMPLE if fp16 else None, MOST)
    index = open_index(version.path / index_path(task), kind, rows.shape, mapped=False)
    propose, most = gpu.index(index, settings.parameters, fp16=fp16)
    return _Engine(propose, settings.oversample, most)


def _longest(version: IndexVersion) -> float | None:
    """Return the length of the longest vector, if it is known without measuring."""
    return 1.0 if version.manifest.encoder.metric == "cosine" else None
