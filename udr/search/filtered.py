"""Search among some of the rows only: those that pass a filter.

If they are few, they are compared one by one. If they are many, the engine proposes among them; or it proposes more,
and the others are dropped.
"""

import numpy as np
from numpy.typing import NDArray

from udr.search.base import BLOCK, MARGIN, Mask, Positions, Proposals, Results, Vectors

SCANNED = 0.25
"""The share of the rows up to which they are compared one by one, by an engine that compares with every row anyway."""

SCANNED_ROWS = 4096
"""The number of rows up to which they are compared one by one, by an engine that does not."""

LISTS, PASSED = 2, 32
"""How many times as many lists of an IVF index a search among some rows looks into, and how many of these rows they
hold at least for each proposal.

Among fewer rows, the k nearest lie farther from the query, and so more of them in other lists.
"""

_MORE = 1.5
"""How many times as many proposals are requested as would hold k matches if these were spread evenly."""


def deeper(k: int, rows: Mask) -> int:
    """Return how many of the nearest rows to look at for k that may be returned."""
    return int(_MORE * k * len(rows) / np.count_nonzero(rows)) + MARGIN


def kept(positions: Positions, rows: Mask, k: int) -> tuple[Positions, NDArray[np.bool_]]:
    """Return which k columns of results to keep for each query, [num_queries, k], and which queries have k."""
    passing = rows[positions]
    return np.argsort(~passing, axis=1, kind="stable")[:, :k], np.count_nonzero(passing, axis=1) >= k


class RowsOf:
    """Some rows of vectors, read where they are when they are needed; it has what engines use of an array."""

    def __init__(self, vectors: NDArray[np.floating], positions: Positions) -> None:
        self._vectors, self._positions = vectors, positions
        self.shape, self.dtype = (len(positions), vectors.shape[1]), vectors.dtype

    def __len__(self) -> int:
        return len(self._positions)

    def __getitem__(self, rows: slice | Positions) -> NDArray[np.floating]:
        return self._vectors[self._positions[rows]]


def compare(vectors: NDArray[np.floating], queries: Vectors, count: int) -> Proposals:
    """Return the ``count`` nearest of all vectors, block by block; a ``Proposer`` of these vectors."""
    best = np.empty((len(queries), 0), np.float32)
    positions = np.empty((len(queries), 0), np.int64)
    step = max(1, BLOCK // vectors.shape[1])
    for start in range(0, len(vectors), step):
        block = np.asarray(vectors[start : start + step], dtype=np.float32)
        numbers = np.broadcast_to(np.arange(start, start + len(block)), (len(queries), len(block)))
        best, positions = np.hstack([best, queries @ block.T]), np.hstack([positions, numbers])
        if best.shape[1] > count:
            nearest = np.argpartition(-best, count - 1, axis=1)[:, :count]
            best, positions = np.take_along_axis(best, nearest, axis=1), np.take_along_axis(positions, nearest, axis=1)
    order = np.argsort(-best, axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1), np.take_along_axis(positions, order, axis=1)


def no_results(queries: Vectors) -> Results:
    """Return the results if no row may be returned."""
    return np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0))
