"""Which engine searches a partition: by its kind, and by the device."""

import logging
from typing import TYPE_CHECKING

import numpy as np

from udr.errors import ArtifactError, ConfigError
from udr.manifest import FLAT
from udr.search import ExactProposals, RankedProposals, Searcher
from udr.search_settings import SearchSettings, read_settings
from udr.store import IndexVersion, bm25_path, index_path

if TYPE_CHECKING:
    from udr.bm25 import BM25Search
    from udr.faiss_gpu import FaissGpu

_LOG = logging.getLogger(__name__)

_GPU_OVERSAMPLE = 4
"""Proposals for each demonstration wanted where vectors on the device are rounded to float16."""


def open_searchers(version: IndexVersion, device: str | None = None, *, fp16: bool = False) -> dict[str, Searcher]:
    """Return a searcher for each partition of an index version, by task.

    Args:
        version: the version.
        device: ``cuda``, ``cuda:1``, ... search on that GPU, or where there is none on the CPU, with a notice.
        fp16: keep the vectors of flat partitions on the GPU in half the memory; what they propose is compared exactly.

    Raises:
        ArtifactError: a file of the version cannot be read.
        MissingExtraError: faiss is not installed.
    """
    # Imported here because faiss is an extra, and slow to import.
    from udr.faiss_gpu import find_gpu

    settings, gpu = read_settings(version.path, version.manifest), find_gpu(device)
    return {
        task: open_searcher(version, task, settings.get(task, SearchSettings()), gpu, fp16=fp16)
        for task in version.manifest.partitions
    }


def open_lexical(version: IndexVersion) -> dict[str, "BM25Search"]:
    """Return the BM25 search of each partition of an index version that has one, by task.

    Raises:
        ArtifactError: a file of the version cannot be read.
        MissingExtraError: bm25s is not installed.
    """
    parts = {name: part for name, part in version.manifest.partitions.items() if part.lexical}
    if not parts:
        return {}
    # Imported here because bm25s is an extra.
    from udr.bm25 import BM25Search

    return {name: BM25Search.load(version.path / bm25_path(name), part.count) for name, part in parts.items()}


def open_searcher(
    version: IndexVersion, task: str, settings: SearchSettings, gpu: "FaissGpu | None" = None, *, fp16: bool = False
) -> Searcher:
    """Return a searcher for one partition, on a GPU or on the CPU; see ``open_searchers``."""
    from udr.faiss_gpu import MOST
    from udr.faiss_search import FaissSearch, open_index, proposer, set_parameters

    kind, vectors = version.manifest.partitions[task].kind, version.vectors(task)
    if kind == FLAT and gpu is None:
        return FaissSearch(np.ascontiguousarray(vectors, dtype=np.float32))
    exact = FaissSearch(vectors)
    if kind == FLAT and gpu is not None:
        propose = gpu.flat(vectors, fp16=fp16)
        if not fp16:
            return ExactProposals(propose, vectors, MOST)
        return RankedProposals(propose, vectors, exact, _GPU_OVERSAMPLE, MOST)
    path = version.path / index_path(task)
    if gpu is not None:
        try:
            propose = gpu.index(open_index(path, kind, mapped=False), settings.parameters, fp16=fp16)
        except ConfigError as error:
            _LOG.warning("task %s: %s; searching it on the CPU", task, error)
        else:
            return RankedProposals(propose, vectors, exact, settings.oversample, MOST)
    index = open_index(path, kind)
    if (index.ntotal, index.d) != vectors.shape:
        raise ArtifactError(
            f"{path}: holds {index.ntotal} vectors of {index.d} numbers, its partition {len(vectors)} of "
            f"{vectors.shape[1]}; run: udr index verify"
        )
    set_parameters(index, settings.parameters)
    return RankedProposals(proposer(index), vectors, exact, settings.oversample)
