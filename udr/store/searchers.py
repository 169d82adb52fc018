"""The search engine of each partition, by its kind and the device."""

import logging
from typing import TYPE_CHECKING

import numpy as np

from udr.errors import ConfigError
from udr.search import BM25Search, ExactProposals, RankedProposals, Searcher
from udr.store.manifest import FLAT
from udr.store.search_settings import SearchSettings, read_settings
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


def open_searcher(
    version: IndexVersion, task: str, settings: SearchSettings, gpu: "FaissGpu | None" = None, *, fp16: bool = False
) -> Searcher:
    """Return a searcher for one partition, on a GPU or on the CPU; see ``open_searchers``."""
    from udr.search import FaissSearch, float16_proposer, open_index, proposer, set_parameters

    if gpu is not None:
        try:
            return _on_gpu(version, task, settings, gpu, fp16=fp16)
        except ConfigError as error:
            _LOG.warning("task %s: %s; searching on the CPU", task, error)
    kind, vectors, longest = version.manifest.partitions[task].kind, version.vectors(task), _longest(version)
    if kind == FLAT and vectors.dtype == np.float16:
        # In memory and not mapped as float32 is: to convert vectors at each search takes ten times as long.
        return ExactProposals(float16_proposer(vectors), vectors, longest)
    if kind == FLAT:
        return FaissSearch(vectors, longest)
    index = open_index(version.path / index_path(task), kind, vectors.shape)
    set_parameters(index, settings.parameters)
    return RankedProposals(proposer(index), vectors, FaissSearch(vectors, longest), settings.oversample)


def _on_gpu(version: IndexVersion, task: str, settings: SearchSettings, gpu: "FaissGpu", *, fp16: bool) -> Searcher:
    from udr.search import MOST, FaissSearch, open_index

    kind, vectors, longest = version.manifest.partitions[task].kind, version.vectors(task), _longest(version)
    exact = FaissSearch(vectors, longest)
    if kind == FLAT:
        propose = gpu.flat(vectors, fp16=fp16)
        if not fp16:
            return ExactProposals(propose, vectors, longest, MOST, exact)
        return RankedProposals(propose, vectors, exact, _GPU_OVERSAMPLE, MOST)
    index = open_index(version.path / index_path(task), kind, vectors.shape, mapped=False)
    propose, most = gpu.index(index, settings.parameters, fp16=fp16)
    return RankedProposals(propose, vectors, exact, settings.oversample, most)


def _longest(version: IndexVersion) -> float | None:
    """Return the length of the longest vector, if it is known without measuring."""
    return 1.0 if version.manifest.encoder.metric == "cosine" else None
