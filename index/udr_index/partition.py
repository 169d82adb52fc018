"""The faiss index of a partition: trained, filled, and written beside its vectors."""

import logging
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from udr.faiss_gpu import FaissGpu
from udr.faiss_search import make_index, write_index
from udr.files import write_atomically
from udr_index.kinds import GRAPH, sample_size

_LOG = logging.getLogger(__name__)


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
    if kind == GRAPH and gpu is not None:
        index = gpu.graph(vectors)
    else:
        if kind == GRAPH:
            _LOG.warning("kind %r is built on a GPU; building HNSW32 on the CPU instead", kind)
        factory = "HNSW32" if kind == GRAPH else kind
        if gpu is not None and "HNSW" in factory:
            _LOG.warning("faiss builds %s on the CPU only", factory)
            gpu = None
        sample = sample_size(factory)
        if gpu is None:
            index = make_index(factory, vectors, sample=sample, threads=threads)
        else:
            made = make_index(factory, vectors, sample=sample, threads=threads, to_device=gpu.to_device)
            index = gpu.from_device(made)
    write_atomically(path, lambda stream: write_index(stream, index))
