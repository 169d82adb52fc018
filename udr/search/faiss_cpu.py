"""Faiss on CPUs, in one file. It owns contiguity, the metric, the meaning of faiss' answers, and its files."""

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
"""Vectors that are converted, or added to an index, at once."""


class FaissSearch(ExactProposals):
    """Compares every query with every vector; equal to ``ExactSearch`` in ids, values and order.

    Args:
        vectors: float32 or float16 [num_vectors, dimension]. Those of float32 are searched where they lie, in memory or
            mapped from a file, and are never copied; those of float16 are converted block by block at each search.
        longest: the length of the longest vector; None measures it at the first search.
    """

    def __init__(self, vectors: NDArray[np.floating], longest: float | None = None) -> None:
        # A function of the vectors and no method of ours: a searcher that held itself would outlive its last user.
        super().__init__(partial(_propose, np.ascontiguousarray(vectors)), vectors, longest)


def _propose(vectors: NDArray[np.floating], queries: Vectors, count: int) -> tuple[NDArray[np.floating], Positions]:
    if vectors.dtype == np.float32:
        return _nearest(queries, vectors, count)
    similarities, positions = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for start in range(0, len(vectors), BLOCK):
        block = vectors[start : start + BLOCK].astype(np.float32)
        values, places = _nearest(queries, block, min(count, len(block)))
        similarities = np.concatenate([similarities, values], axis=1)
        positions = np.concatenate([positions, places + start], axis=1)
        best = np.argsort(-similarities, axis=1, kind="stable")[:, :count]
        similarities = np.take_along_axis(similarities, best, axis=1)
        positions = np.take_along_axis(positions, best, axis=1)
    return similarities, positions


def _nearest(queries: Vectors, vectors: NDArray[np.floating], count: int) -> tuple[NDArray[np.floating], Positions]:
    similarities, positions = faiss.knn(queries, vectors, count, faiss.METRIC_INNER_PRODUCT)
    return similarities, positions


def in_halves(vectors: NDArray[np.floating]) -> Proposer:
    """Return what comparing with every vector of float16 proposes.

    They are copied into memory and stay of float16 there, which faiss compares as fast as float32.
    """
    index = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    _add(index, vectors)
    return proposer(index)


def proposer(index: Any, **options: Any) -> Proposer:  # noqa: ANN401
    """Return what a faiss index proposes; ``options`` go with each of its searches."""

    def propose(queries: Vectors, count: int) -> tuple[NDArray[np.floating], Positions]:
        similarities, positions = index.search(np.ascontiguousarray(queries, dtype=np.float32), count, **options)
        return similarities, positions

    return propose


def set_parameters(index: Any, parameters: str) -> None:  # noqa: ANN401
    """Have an index searched with parameters, ``nprobe=16`` or ``efSearch=64``.

    Raises:
        ConfigError: it has no such parameter.
    """
    try:
        # The types that come with faiss know only one of its two forms.
        faiss.ParameterSpace().set_index_parameters(index, parameters)  # type: ignore[arg-type]
    except RuntimeError as error:
        raise ConfigError(f"faiss does not take the search parameters {parameters!r}: {reason(error)}") from error


def open_index(path: Path, kind: str, *, mapped: bool = True) -> Any:  # noqa: ANN401
    """Return the faiss index in a file.

    Args:
        path: the file.
        kind: the factory string it was made by.
        mapped: map it into memory as far as faiss can, instead of reading it.

    Raises:
        ArtifactError: the file is no faiss index.
    """
    mapping = faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY if "IVF" in kind else faiss.IO_FLAG_MMAP_IFC
    try:
        return faiss.read_index(str(path), mapping if mapped else 0)
    except RuntimeError as error:
        raise ArtifactError(f"{path}: cannot be read ({reason(error)}); run: udr index verify") from error


def empty_index(kind: str, dimension: int) -> Any:  # noqa: ANN401
    """Return a faiss index without vectors, which may have to be trained.

    Raises:
        ConfigError: faiss knows no such kind, or not for vectors of so many numbers.
    """
    try:
        return faiss.index_factory(dimension, kind, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ConfigError(f"kind {kind!r} of vectors of {dimension} numbers: {reason(error)}") from error


def make_index(
    kind: str,
    vectors: NDArray[np.floating],
    *,
    sample: int,
    threads: int,
    to_device: Callable[[Any], Any] = lambda index: index,
) -> Any:  # noqa: ANN401
    """Train a faiss index on a sample, add all vectors to it, and return it, on the device where it was made.

    Args:
        kind: a factory string of faiss.
        vectors: float32 or float16 [num_vectors, dimension], mapped from their file; a block of them is read at once.
        sample: the most vectors it is trained on, spread evenly over all.
        threads: that add vectors; with more than one, graphs (HNSW) come out different each time.
        to_device: moves the empty index to where it is to be made.

    Raises:
        ConfigError: faiss knows no such kind, or needs more vectors to train it.
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
            f"kind {kind!r} of {len(vectors)} vectors of {vectors.shape[1]} numbers: {reason(error)}"
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
