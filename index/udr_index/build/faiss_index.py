"""Faiss indexes of partitions: which kind a short name means, how it is trained, and how it is searched at first."""

import logging
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udr.errors import ConfigError, reason
from udr.files import write_atomically
from udr.search import FaissGpu, empty_index, make_index, write_index
from udr.store import FLAT, SearchSettings
from udr_index.build.config import AUTO

_LOG = logging.getLogger(__name__)

GRAPH = "cagra"
"""The kind of a graph that is built on a GPU; a CPU searches it like HNSW."""

_GRAPH_ON_CPU = "HNSW32"

FLAT_BELOW = 100_000
"""The size from which comparing with every vector takes longer than encoding a query, on a CPU."""

# Numbers of sub-vectors that faiss supports on GPUs as well as on CPUs. The table of 48, 256 float32 each, fills the
# 48 KiB of shared memory that a GPU has for a query; 56 and more need tables of float16 or cuVS.
_SUBVECTORS = (48, 40, 32, 28, 24, 20, 16, 12, 8, 4, 3, 2, 1)
_SUBVECTOR_WIDTH = 8
_ROWS_PER_LIST = 39
"""The number of vectors per list that faiss asks for in training."""


def resolve(kind: str, count: int, dimension: int, flat_below: int | None = None) -> str:
    """Return ``flat``, ``cagra``, or the faiss factory string that ``kind`` means.

    Args:
        kind: ``auto`` (flat, or ivf above a size), ``flat``, ``hnsw``, ``ivf``, ``ivfpq``, ``cagra``, or a factory
            string.
        count: the partition's demonstrations.
        dimension: the dimension of their vectors.
        flat_below: smaller partitions are flat; None is 100,000 for ``auto``, and 0 for other kinds.
    """
    if flat_below is None:
        flat_below = FLAT_BELOW if kind == AUTO else 0
    if kind == FLAT or count < flat_below:
        return FLAT
    if kind == "hnsw":
        return "HNSW32_SQ8"
    if kind in (AUTO, "ivf"):
        return f"IVF{_num_lists(count)},SQ8"
    if kind == "ivfpq":
        width = min(_SUBVECTOR_WIDTH, dimension)
        number = next(number for number in _SUBVECTORS if dimension % number == 0 and dimension >= width * number)
        return f"IVF{_num_lists(count)},PQ{number}x8"
    return kind


def _num_lists(count: int) -> int:
    wanted: int = 2 ** round(math.log2(4 * math.sqrt(count)))
    return max(1, min(wanted, count // _ROWS_PER_LIST))


def lists_of(kind: str) -> int | None:
    """Return the number of inverted lists in a factory string, or None."""
    match = re.search(r"IVF(\d+)", kind)
    return int(match[1]) if match else None


def label_width(kind: str, dimension: int, labels: int) -> int:
    """Return how many dimensions to append for labels, so that the kind's product quantizers divide the sum."""
    whole = math.lcm(*(int(number) for number in re.findall(r"PQ(\d+)", kind)))
    return labels + -(dimension + labels) % whole


def rows_to_train(kind: str) -> int:
    """Return how many vectors faiss needs to train a kind: one per list, and one per code."""
    codes = [1 << int(bits or 8) for bits in re.findall(r"PQ\d+(?:x(\d+))?", kind)]
    return max(lists_of(kind) or 1, *codes, 1)


def sample_size(kind: str) -> int:
    """Return the maximum number of vectors that a kind is trained on."""
    return max(65_536, 64 * (lists_of(kind) or 1))


def first_settings(kind: str) -> SearchSettings:
    """Return the search settings of a partition until ``udr index bench`` measures better ones."""
    oversample, lists = 16 if "PQ" in kind else 4, lists_of(kind)
    if lists is not None:
        return SearchSettings(parameters=f"nprobe={max(1, lists // 32)}", oversample=oversample)
    if "HNSW" in kind or kind == GRAPH:
        return SearchSettings(parameters="efSearch=64", oversample=oversample)
    return SearchSettings(oversample=oversample)


def check_kind(kind: str, dimension: int) -> None:
    """Raise ConfigError unless faiss knows a kind, for vectors of this dimension."""
    factory = resolve(kind, 1, dimension, flat_below=0)
    if factory not in (FLAT, GRAPH):
        empty_index(factory, dimension)


def build_partition(
    path: Path, kind: str, vectors: NDArray[np.floating], threads: int, gpu: FaissGpu | None = None
) -> None:
    """Write the faiss index of a partition atomically.

    Args:
        path: the file.
        kind: a factory string, or ``cagra``, which becomes an HNSW graph on a CPU.
        vectors: float32 or float16 [count, dimension], mapped from their file.
        threads: the threads that add vectors to a graph.
        gpu: where to build it; a kind that it does not support is built on the CPU, with a warning.
    """
    index = _build_on_gpu(kind, vectors, threads, gpu) if gpu is not None else None
    if index is None:
        if kind == GRAPH:
            _LOG.warning("kind %r is built on a GPU; building %s on the CPU instead", kind, _GRAPH_ON_CPU)
        factory = _GRAPH_ON_CPU if kind == GRAPH else kind
        index = make_index(factory, vectors, sample=sample_size(factory), threads=threads)
    write_atomically(path, lambda stream: write_index(stream, index))


def _build_on_gpu(kind: str, vectors: NDArray[np.floating], threads: int, gpu: FaissGpu) -> Any | None:  # noqa: ANN401
    try:
        if kind == GRAPH:
            return gpu.graph(vectors)
        index = make_index(kind, vectors, sample=sample_size(kind), threads=threads, to_device=gpu.to_device)
        return gpu.from_device(index)
    except (ConfigError, RuntimeError, MemoryError) as error:
        _LOG.warning("kind %r: %s; building it on the CPU", kind, reason(error))
        return None
