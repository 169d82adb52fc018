"""Faiss on CPUs: the only file that knows faiss' memory layout, metric, results and index files."""

import math
import os
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from udr.errors import ArtifactError, ConfigError, optional_import, reason
from udr.search.base import Mask, Proposals, Proposer, ProposerAmong, Vectors
from udr.search.exact import ExactProposals
from udr.search.filtered import LISTS, PASSED, SCANNED
from udr.types import Json

with optional_import("faiss", "cpu"):
    import faiss

BLOCK = 65_536
"""Vectors converted, or added to an index, at once."""

_HEAD = struct.Struct("<4xiq")
"""The start of every index file: four letters for its type, then the dimension and the number of vectors."""

_FEW = 1024
"""So many rows are compared one by one in any case, see ``proposer_among``."""

_LIMITED = threading.Lock()
"""Held while faiss' limits, which are global, are those of one file."""


class FaissSearch(ExactProposals):
    """Compares every query with every vector; equal to ``ExactSearch`` in positions, similarities and order.

    Args:
        vectors: float32 or float16 [num_vectors, dimension]. float32 is searched in place, in memory or
            memory-mapped, without a copy; float16 is converted block by block at each search.
        longest: the length of the longest vector; None measures it at the first search.
        block: float16 vectors converted at once.
        scanned: up to this share of rows that may be returned, they are compared one by one.
    """

    def __init__(
        self,
        vectors: NDArray[np.floating],
        longest: float | None = None,
        *,
        block: int = BLOCK,
        scanned: float = SCANNED,
    ) -> None:
        # A partial instead of a bound method: a reference cycle would keep the vectors alive.
        super().__init__(partial(_propose, np.ascontiguousarray(vectors), block), vectors, longest, scanned=scanned)


def _propose(vectors: NDArray[np.floating], block: int, queries: Vectors, count: int) -> Proposals:
    if vectors.dtype == np.float32:
        return _nearest(queries, vectors, count)
    best = faiss.ResultHeap(len(queries), count, keep_max=True)
    for start, part in _blocks(vectors, block):
        similarities, positions = _nearest(queries, part, min(count, len(part)))
        best.add_result(similarities, positions + start)
    best.finalize()
    return best.D, best.I


def _nearest(queries: Vectors, vectors: NDArray[np.floating], count: int) -> Proposals:
    similarities, positions = faiss.knn(queries, vectors, count, faiss.METRIC_INNER_PRODUCT)
    return similarities, positions


def _blocks(vectors: NDArray[np.floating], size: int) -> Iterator[tuple[int, Vectors]]:
    for start in range(0, len(vectors), size):
        yield start, np.ascontiguousarray(vectors[start : start + size], dtype=np.float32)


def add(index: Any, vectors: NDArray[np.floating], block: int = BLOCK) -> Any:  # noqa: ANN401
    """Add vectors to a faiss index, block by block, and return it."""
    for _, part in _blocks(vectors, block):
        index.add(part)
    return index


def float16_proposer(vectors: NDArray[np.floating], *, block: int = BLOCK) -> Proposer:
    """Return a proposer of exact search in a float16 copy in memory, which faiss compares as fast as float32."""
    index = faiss.IndexScalarQuantizer(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    return proposer(add(index, vectors, block))


def proposer(index: Any, **options: Any) -> Proposer:  # noqa: ANN401
    """Return a proposer of a faiss index; ``options`` are passed to each search."""

    def propose(queries: Vectors, count: int) -> Proposals:
        similarities, positions = index.search(np.ascontiguousarray(queries, dtype=np.float32), count, **options)
        return similarities, positions

    return propose


def proposer_among(index: Any) -> tuple[ProposerAmong, int] | None:  # noqa: ANN401
    """Return a proposer among some rows of an IVF index, and up to how many it is better to compare one by one.

    It looks into as many lists as ``filtered.py`` says, and skips the other rows in them. Rows that lie apart take
    about four times as long to compare as those of one list, so half as many as a search without a filter compares take
    about twice as long, and none is missed. None for an index without lists, or whose lists lie within another index.
    """
    if not isinstance(index, faiss.IndexIVF | faiss.IndexPreTransform):
        return None
    lists = faiss.try_extract_index_ivf(index)
    if lists is None:
        return None

    def propose(queries: Vectors, count: int, rows: Mask) -> Proposals:
        number = max(LISTS * lists.nprobe, math.ceil(PASSED * count * lists.nlist / np.count_nonzero(rows)))
        # faiss' type stubs do not know these arguments.
        selector: Any = faiss.IDSelectorBitmap(np.packbits(rows, bitorder="little"))  # type: ignore[call-arg, arg-type]
        options: Any = faiss.SearchParametersIVF(sel=selector, nprobe=min(number, lists.nlist))  # type: ignore[call-arg]
        if isinstance(index, faiss.IndexPreTransform):
            options = faiss.SearchParametersPreTransform(index_params=options)  # type: ignore[call-arg]
        return proposer(index, params=options)(queries, count)

    compared = index.ntotal * min(lists.nprobe, lists.nlist) // lists.nlist
    # To skip all rows but a 512th takes as long as to compare these.
    return propose, max(_FEW, compared // 2, index.ntotal // 512)


def set_parameters(index: Any, parameters: str) -> None:  # noqa: ANN401
    """Set search parameters, such as ``nprobe=16`` or ``efSearch=64``; ``ConfigError`` if the index lacks them."""
    try:
        # faiss' type stubs know only one of the two overloads.
        faiss.ParameterSpace().set_index_parameters(index, parameters)  # type: ignore[arg-type]
    except RuntimeError as error:
        raise ConfigError(f"faiss does not take the search parameters {parameters!r}: {reason(error)}") from error


def open_index(path: Path, kind: str, shape: tuple[int, ...], *, mapped: bool = True) -> Any:  # noqa: ANN401
    """Open a faiss index of a kind over [num_vectors, dimension] vectors, memory-mapped as far as possible, or read.

    Raises:
        ArtifactError: it is damaged, or over other vectors.
    """
    mapping = faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY if "IVF" in kind else faiss.IO_FLAG_MMAP_IFC
    # Inner products need no such table, but faiss refuses to open an index whose table would be larger than the limit.
    flags = faiss.IO_FLAG_SKIP_PRECOMPUTE_TABLE | (mapping if mapped else 0)
    try:
        with path.open("rb") as stream:
            head, size = stream.read(_HEAD.size), path.stat().st_size
        dimension, count = _HEAD.unpack(head)
        if (count, dimension) != shape:
            raise ArtifactError(
                f"{path}: has {count} vectors of {dimension} numbers, but its partition has {shape[0]} of {shape[1]}; "
                "run: udr index verify"
            )
        with _LIMITED, _limits(size):
            index = faiss.read_index(str(path), flags)
    except (OSError, RuntimeError, MemoryError, struct.error) as error:
        raise ArtifactError(f"{path}: cannot be read ({reason(error)}); run: udr index verify") from error
    if (found := faiss.try_extract_index_ivf(index)) is not None:
        # faiss' type stubs allow for an index without lists.
        lists: Any = faiss.downcast_InvertedLists(found.invlists)  # type: ignore[arg-type]
        # Else each search starts 32 threads, which read ahead what the system has in memory: five times as slow.
        if isinstance(lists, faiss.OnDiskInvertedLists):
            lists.prefetch_nthread = 0
    return index


@contextmanager
def _limits(size: int) -> Iterator[None]:
    """Keep faiss from allocating more for an array, or repeating a step more often, than a file has bytes."""
    before = faiss.get_deserialization_vector_byte_limit(), faiss.get_deserialization_loop_limit()
    try:
        faiss.set_deserialization_vector_byte_limit(size)
        faiss.set_deserialization_loop_limit(size)
        yield
    finally:
        faiss.set_deserialization_vector_byte_limit(before[0])
        faiss.set_deserialization_loop_limit(before[1])


def empty_index(kind: str, dimension: int) -> Any:  # noqa: ANN401
    """Return an empty, possibly untrained faiss index; ``ConfigError`` if faiss does not support the kind."""
    try:
        index: Any = faiss.index_factory(dimension, kind, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise ConfigError(f"kind {kind!r} for vectors of dimension {dimension}: {reason(error)}") from error
    coded = faiss.downcast_index(index.index) if isinstance(index, faiss.IndexPreTransform) else index
    if hasattr(coded, "do_polysemous_training"):
        # It orders the centroids of product codes for a filter that no search here uses, for seconds a sub-vector.
        coded.do_polysemous_training = False
    return index


def make_index(
    kind: str,
    vectors: NDArray[np.floating],
    *,
    sample: int,
    threads: int,
    to_device: Callable[[Any], Any] = lambda index: index,
) -> Any:  # noqa: ANN401
    """Train a faiss index on a sample, add all vectors, and return the index on the device that built it.

    Args:
        kind: a factory string of faiss.
        vectors: float32 or float16 [num_vectors, dimension], memory-mapped; read block by block.
        sample: the largest number of training vectors, spread evenly.
        threads: threads that add vectors to a graph (HNSW), which with more than one is not reproducible; other kinds
            take all threads.
        to_device: moves the empty index to the device that builds it.

    Raises:
        ConfigError: faiss does not know the kind, or needs more vectors to train it.
    """
    size = min(sample, len(vectors))
    try:
        index = to_device(empty_index(kind, vectors.shape[1]))
        if not index.is_trained:
            index.train(np.ascontiguousarray(vectors[np.arange(size) * len(vectors) // size], dtype=np.float32))
        with _threads(threads) if "HNSW" in kind else nullcontext():
            add(index, vectors)
    except RuntimeError as error:
        shape = f"{len(vectors)} vectors of dimension {vectors.shape[1]}"
        raise ConfigError(f"kind {kind!r} for {shape}: {reason(error)}") from error
    return index


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


def faiss_build() -> dict[str, Json]:
    """Return faiss' ``version``, the instructions (``options``) it was built for, and how many GPUs it finds."""
    gpus = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else None
    return {"version": faiss.__version__, "options": faiss.get_compile_options().split(), "gpus": gpus}
