"""Faiss on CPUs: the only file that knows faiss' memory layout, metric, results and index files."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from udr.errors import ArtifactError, ConfigError, MissingExtraError, reason
from udr.search.base import Positions, Proposer, Vectors
from udr.search.exact import ExactProposals

try:
    import faiss
except ImportError as error:
    raise MissingExtraError("faiss", "cpu") from error

BLOCK = 65_536
"""Vectors converted, or added to an index, at once."""


class FaissSearch(ExactProposals):
    """Compares every query with every vector; equal to ``ExactSearch`` in ids, values and order.

    Args:
        vectors: float32 or float16 [num_vectors, dimension]. float32 is searched in place, in memory or
            memory-mapped, without a copy; float16 is converted block by block at each search.
        longest: the length of the longest vector; None measures it at the first search.
    """

    def __init__(self, vectors: NDArray[np.floating], longest: float | None = None) -> None:
        # A partial instead of a bound method: a reference cycle would keep the vectors alive.
        super().__init__(partial(_propose, np.ascontiguousarray(vectors)), vectors, longest)


def _propose(vectors: NDArray[np.floating], queries: Vectors, count: int) -> tuple[NDArray[np.floating], Positions]:
    if vectors.dtype == np.float32:
        return _nearest(queries, vectors, count)
    similarities, positions = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK].astype(np.float32)
        block_similarities, block_positions = _nearest(queries, block, min(count, len(block)))
        similarities = np.concatenate([similarities, block_similarities], axis=1)
        positions = np.concatenate([positions, block_positions + start], axis=1)
        best = np.argsort(-similarities, axis=1, kind="stable")[:, :count]
        similarities = np.take_along_axis(similarities, best, axis=1)
        positions = np.take_along_axis(positions, best, axis=1)
    return similarities, positions


def _nearest(queries: Vectors, vectors: NDArray[np.floating], count: int) -> tuple[NDArray[np.floating], Positions]:
    similarities, positions = faiss.knn(queries, vectors, count, faiss.METRIC_INNER_PRODUCT)
    return similarities, positions


def in_halves(vectors: NDArray[np.floating]) -> Proposer:
    """Return a proposer of exact float16 search.

    It keeps a float16 copy in memory, which faiss compares as fast as float32.
    """
    index = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    _add(index, vectors)
    return proposer(index)


def proposer(index: Any, **options: Any) -> Proposer:  # noqa: ANN401
    """Return a proposer of a faiss index; ``options`` are passed to each search."""

    def propose(queries: Vectors, count: int) -> tuple[NDArray[np.floating], Positions]:
        similarities, positions = index.search(np.ascontiguousarray(queries, dtype=np.float32), count, **options)
        return similarities, positions

    return propose


def set_parameters(index: Any, parameters: str) -> None:  # noqa: ANN401
    """Set an index's search parameters, such as ``nprobe=16`` or ``efSearch=64``.

    Raises:
        ConfigError: the index has no such parameter.
    """
    try:
        # faiss' type stubs know only one of the two overloads.
        faiss.ParameterSpace().set_index_parameters(index, parameters)  # type: ignore[arg-type]
    except RuntimeError as error:
        raise ConfigError(f"faiss does not take the search parameters {parameters!r}: {reason(error)}") from error


def open_index(path: Path, kind: str, *, mapped: bool = True) -> Any:  # noqa: ANN401
    """Open a faiss index file.

    Args:
        path: the file.
        kind: its factory string.
        mapped: memory-map as much as faiss can, instead of reading it.

    Raises:
        ArtifactError: the file is not a readable faiss index.
    """
    mapping = faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY if "IVF" in kind else faiss.IO_FLAG_MMAP_IFC
    try:
        return faiss.read_index(str(path), mapping if mapped else 0)
    except RuntimeError as error:
        raise ArtifactError(f"{path}: cannot be read ({reason(error)}); run: udr index verify") from error


def empty_index(kind: str, dimension: int) -> Any:  # noqa: ANN401
    """Return an empty, possibly untrained faiss index.

    Raises:
        ConfigError: faiss does not know the kind, or not for this dimension.
    """
    try:
        return faiss.index_factory(dimension, kind, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ConfigError(f"kind {kind!r} for vectors of dimension {dimension}: {reason(error)}") from error


def make_index(
    kind: str,
    vectors: NDArray[np.floating],
    *,
    sample: int,
    threads: int,
    to_device: Callable[[Any], Any] = lambda index: index,
) -> Any:  # noqa: ANN401
    """Train a faiss index on a sample, add all vectors, and return it on the device where it was built.

    Args:
        kind: a factory string of faiss.
        vectors: float32 or float16 [num_vectors, dimension], memory-mapped; read block by block.
        sample: the largest number of training vectors, spread evenly.
        threads: threads that add vectors; with more than one, graphs (HNSW) are not reproducible.
        to_device: moves the empty index to the device that builds it.

    Raises:
        ConfigError: faiss does not know the kind, or needs more vectors to train it.
    """
    size = min(sample, len(vectors))
    try:
        index = to_device(empty_index(kind, vectors.shape[1]))
        if not index.is_trained:
            index.train(np.ascontiguousarray(vectors[np.arange(size) * len(vectors) // size], dtype=np.float32))
        with _threads(threads):
            _add(index, vectors)
    except RuntimeError as error:
        raise ConfigError(
            f"kind {kind!r} for {len(vectors)} vectors of dimension {vectors.shape[1]}: {reason(error)}"
        ) from error
    return index


def _add(index: Any, vectors: NDArray[np.floating]) -> None:  # noqa: ANN401
    for start in range(0, len(vectors), BLOCK):
        index.add(np.ascontiguousarray(vectors[start : start + BLOCK], dtype=np.float32))


def write_index(stream: BinaryIO, index: Any) -> None:  # noqa: ANN401
    """Write an index to a file."""
    faiss.write_index(index, faiss.PyCallbackIOWriter(stream.write, 1 << 20))  # type: ignore[attr-defined]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(min(count, os.cpu_count() or 1))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
