"""The faiss index of a partition: trained, filled, and written beside its vectors."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udr.errors import ConfigError, reason
from udr.files import write_atomically
from udr.search import FaissGpu, empty_index, make_index, write_index
from udr.store import FLAT
from udr_index.build.index_types import GRAPH, resolve, sample_size

_LOG = logging.getLogger(__name__)

_GRAPH_ON_CPU = "HNSW32"
"""What is made on a CPU in place of ``cagra``: a graph of the same form."""


def refuse_unknown_kind(kind: str, dimension: int) -> None:
    """Find out before anything is read or encoded whether there is such a kind; see ``udr_index.kinds.resolve``.

    Raises:
        ConfigError: faiss does not know it, or not for vectors of so many numbers.
    """
    factory = resolve(kind, 1, dimension, flat_below=0)
    if factory not in (FLAT, GRAPH):
        empty_index(factory, dimension)


def build_partition(
    path: Path, kind: str, vectors: NDArray[np.floating], threads: int, gpu: FaissGpu | None = None
) -> None:
    """Write the faiss index of a partition, whole or not at all.

    Args:
        path: the file.
        kind: a factory string, or ``cagra``; on a CPU, that is a graph of the same form made as HNSW is.
        vectors: float32 or float16 [count, dimension], mapped from their file.
        threads: that add vectors.
        gpu: where to make it; what faiss cannot make there is made on the CPU, with a notice.

    Raises:
        ConfigError: faiss knows no such kind, or needs more vectors to train it.
    """
    index = _made_on_gpu(kind, vectors, threads, gpu) if gpu is not None else None
    if index is None:
        if kind == GRAPH:
            _LOG.warning("kind %r is built on a GPU; building %s on the CPU instead", kind, _GRAPH_ON_CPU)
        factory = _GRAPH_ON_CPU if kind == GRAPH else kind
        index = make_index(factory, vectors, sample=sample_size(factory), threads=threads)
    write_atomically(path, lambda stream: write_index(stream, index))


def _made_on_gpu(kind: str, vectors: NDArray[np.floating], threads: int, gpu: FaissGpu) -> Any | None:  # noqa: ANN401
    try:
        if kind == GRAPH:
            return gpu.graph(vectors)
        made = make_index(kind, vectors, sample=sample_size(kind), threads=threads, to_device=gpu.to_device)
        return gpu.from_device(made)
    except (ConfigError, RuntimeError) as error:
        _LOG.warning("kind %r: %s; making it on the CPU", kind, reason(error))
        return None
