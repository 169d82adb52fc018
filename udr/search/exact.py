"""Search among vectors: the protocol, exact numpy search (the tests' oracle), and the order of results.

The order is our own: similarity rounded to 5 decimals, then position. An engine's order among equals is
arbitrary, and its sums differ from another's in the last bits; so engines only propose, a little more than
was asked for, and ``order`` computes the similarities of what they proposed in one way for all of them.
"""

import math
import sys
from functools import partial

import numpy as np
from numpy.typing import NDArray

from udr.search.base import (
    _BLOCK,
    _MARGIN,
    DECIMALS,
    Positions,
    Proposer,
    Searcher,
    Similarities,
    Vectors,
    check,
    order,
)


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
