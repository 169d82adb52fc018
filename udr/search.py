"""Search among vectors: the protocol, exact numpy search (the tests' oracle), and the order of results.

The order is our own: similarity rounded to 5 decimals, then position. An engine's order among equals is
arbitrary, and its sums differ from another's in the last bits; so engines only propose, a little more than
was asked for, and ``order`` computes the similarities of what they proposed in one way for all of them.
"""

import math
import sys
from collections.abc import Callable
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from udr.encoder import Vectors

Positions = NDArray[np.int64]
Similarities = NDArray[np.float64]

DECIMALS = 5
_MARGIN = 16
_BLOCK = 1 << 20
"""Numbers of vectors that are converted at once."""

Proposer = Callable[[Vectors, int], tuple[NDArray[np.floating], Positions]]
"""From queries and a count to similarities and positions, both [num_queries, count], best first."""


class Searcher(Protocol):
    """Finds the vectors nearest to queries."""

    @property
    def vectors(self) -> NDArray[np.floating]:
        """The vectors, float32 or float16 [num_vectors, dimension], in memory or mapped from a file."""

    def __len__(self) -> int:
        """Return how many vectors there are."""

    def search(self, queries: Vectors, k: int) -> tuple[Positions, Similarities]:
        """Return the k nearest vectors of each query.

        Args:
            queries: float32 [num_queries, dimension].
            k: how many, at least 1; fewer come back when there are fewer vectors.

        Returns:
            Positions and similarities, both [num_queries, min(k, len(self))]; the similarity is the dot product
            rounded to 5 decimals, higher is nearer; best first, ties by position.
        """


class ExactProposals:
    """Exact search by an engine that compares with every vector, but may answer at most so many.

    Args:
        propose: the engine.
        vectors: float32 or float16 [num_vectors, dimension].
        longest: the length of the longest vector; None measures it at the first search.
        most: the most that it proposes at once.
        exact: answers what takes more than that; None compares in numpy.
    """

    def __init__(
        self,
        propose: Proposer,
        vectors: NDArray[np.floating],
        longest: float | None = None,
        most: int = sys.maxsize,
        exact: Searcher | None = None,
    ) -> None:
        self._propose, self._vectors, self._longest = propose, vectors, longest
        self._most, self._exact = min(most, len(vectors)), exact

    @property
    def vectors(self) -> NDArray[np.floating]:
        """See ``Searcher.vectors``."""
        return self._vectors

    def __len__(self) -> int:
        return len(self._vectors)

    def search(self, queries: Vectors, k: int) -> tuple[Positions, Similarities]:
        """See ``Searcher.search``.

        More than k are asked for, and twice as many again for the queries whose last one proposed is so near to the
        k-th that a tie, or a difference in the last bits, could have kept a rightful one out.
        """
        k = check(self._vectors, queries, k)
        found, values = np.empty((len(queries), k), np.int64), np.empty((len(queries), k))
        slack, left, count = self._slack(queries), np.arange(len(queries)), min(k + _MARGIN, self._most)
        while len(left) and k <= count:
            similarities, positions = self._propose(queries[left], count)
            unsure = np.zeros(len(left), bool)
            if count < len(self._vectors):
                unsure = similarities[:, -1] >= similarities[:, k - 1] - slack[left]
            sure = left[~unsure]
            found[sure], values[sure] = order(self._vectors, queries[sure], positions[~unsure], k)
            left = left[unsure]
            if count == self._most:
                break
            count = min(2 * count, self._most)
        if len(left):
            # The engine cannot show enough of what is equally near.
            exact = self._exact or ExactSearch(self._vectors)
            found[left], values[left] = exact.search(queries[left], k)
        return found, values

    def _slack(self, queries: Vectors) -> Similarities:
        """Return how far apart the engine must see two vectors to have them in the right order, for each query."""
        if self._longest is None:
            self._longest = _longest(self._vectors)
        lengths = np.linalg.norm(queries.astype(np.float64), axis=1)
        # Each of the two sums of float32 is off by half of this at most, whatever its order; and each may be rounded.
        slack: Similarities = 10.0**-DECIMALS + np.finfo(np.float32).eps * queries.shape[1] * self._longest * lengths
        return slack


class ExactSearch(ExactProposals):
    """Compares every query with every vector, in numpy."""

    def __init__(self, vectors: NDArray[np.floating]) -> None:
        super().__init__(partial(_sorted, vectors), vectors)


def _sorted(vectors: NDArray[np.floating], queries: Vectors, count: int) -> tuple[NDArray[np.floating], Positions]:
    similarities = queries @ vectors.T
    nearest = np.argsort(-similarities, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(similarities, nearest, axis=1), nearest.astype(np.int64)


def _longest(vectors: NDArray[np.floating]) -> float:
    """Return the length of the longest vector."""
    square, rows = 0.0, max(1, _BLOCK // vectors.shape[1])
    for start in range(0, len(vectors), rows):
        block = np.asarray(vectors[start : start + rows], dtype=np.float32)
        square = max(square, float(np.einsum("vd,vd->v", block, block).max()))
    return math.sqrt(square)


class RankedProposals:
    """Approximate search: an engine proposes, the best of the proposed by their exact similarity are kept.

    Similarities and order are exact; which demonstrations are found is up to the engine. A query for which it finds
    too few is compared with every vector.

    Args:
        propose: the engine; -1 fills up where it found fewer.
        vectors: float32 or float16 [num_vectors, dimension].
        exact: search among the same vectors; answers what takes more than ``most``, too.
        oversample: proposals for each demonstration that is wanted.
        most: the most that it proposes at once.
    """

    def __init__(
        self,
        propose: Proposer,
        vectors: NDArray[np.floating],
        exact: Searcher,
        oversample: int,
        most: int = sys.maxsize,
    ) -> None:
        self._propose, self._vectors, self._exact = propose, vectors, exact
        self._oversample, self._most = oversample, min(most, len(vectors))

    @property
    def vectors(self) -> NDArray[np.floating]:
        """See ``Searcher.vectors``."""
        return self._vectors

    def __len__(self) -> int:
        return len(self._vectors)

    def search(self, queries: Vectors, k: int) -> tuple[Positions, Similarities]:
        """See ``Searcher.search``; of what the engine proposes."""
        k = check(self._vectors, queries, k)
        if k > self._most:
            return self._exact.search(queries, k)
        _, positions = self._propose(queries, min(max(k * self._oversample, k + _MARGIN), self._most))
        found, similarities = order(self._vectors, queries, positions, k)
        few = (found < 0).any(axis=1)
        if few.any():
            found[few], similarities[few] = self._exact.search(queries[few], k)
        return found, similarities


def check(vectors: NDArray[np.floating], queries: Vectors, k: int) -> int:
    """Return how many vectors a search for k gives.

    Raises:
        ValueError: the shapes do not fit, or k is below 1.
    """
    if queries.ndim != 2 or queries.shape[1] != vectors.shape[1]:
        raise ValueError(f"queries must be [num_queries, {vectors.shape[1]}], found {list(queries.shape)}")
    if k < 1:
        raise ValueError(f"k must be at least 1, found {k}")
    return min(k, len(vectors))


def order(
    vectors: NDArray[np.floating], queries: Vectors, positions: Positions, k: int
) -> tuple[Positions, Similarities]:
    """Return the k best of the proposed positions of each query, in the order of this module.

    Args:
        vectors: float32 or float16 [num_vectors, dimension].
        queries: float32 [num_queries, dimension].
        positions: [num_queries, proposed], in any order, none twice; below 0 where nothing was proposed, which comes
            last.
        k: how many to keep.

    Returns:
        Positions and similarities, both [num_queries, k].
    """
    ascending = np.sort(positions, axis=1)
    # Adding zero turns -0.0 into 0.0.
    rounded = np.where(ascending < 0, -np.inf, np.round(_products(vectors, queries, ascending), DECIMALS) + 0.0)
    best = np.argsort(-rounded, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(ascending, best, axis=1), np.take_along_axis(rounded, best, axis=1)


def _products(vectors: NDArray[np.floating], queries: Vectors, positions: Positions) -> Similarities:
    """Return the dot products of queries with the vectors at their positions, [num_queries, proposed]."""
    # In float64, so that rounding to 5 decimals does not depend on the order of a sum; in blocks, as ties across the
    # cut can make very many of them.
    products, exact = np.empty(positions.shape), queries.astype(np.float64)
    columns = max(1, _BLOCK // queries.shape[1])
    rows = max(1, columns // max(1, positions.shape[1]))
    for row in range(0, positions.shape[0], rows):
        for column in range(0, positions.shape[1], columns):
            block = slice(row, row + rows), slice(column, column + columns)
            proposed = vectors[np.maximum(positions[block], 0)].astype(np.float64)
            products[block] = np.einsum("qpd,qd->qp", proposed, exact[row : row + rows])
    return products
