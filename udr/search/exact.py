"""Exact search: by any engine that compares with every vector, and in numpy as the oracle of the tests."""

import math
import sys
from functools import partial

import numpy as np
from numpy.typing import NDArray

from udr.search.base import BLOCK, DECIMALS, MARGIN, Proposals, Proposer, Results, Searcher, Vectors, check, order


class ExactProposals:
    """Exact search by an engine that compares with every vector.

    Args:
        propose: the engine.
        vectors: float32 or float16 [num_vectors, dimension].
        longest: the length of the longest vector; None measures it at the first search.
        limit: the largest count that the engine can propose.
        exact: searches if more is needed; None uses numpy.
    """

    def __init__(
        self,
        propose: Proposer,
        vectors: NDArray[np.floating],
        longest: float | None = None,
        limit: int = sys.maxsize,
        exact: Searcher | None = None,
    ) -> None:
        self.propose, self.vectors, self._longest = propose, vectors, longest
        self._limit, self._exact = min(limit, len(vectors)), exact

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: Vectors, k: int) -> Results:
        """See ``Searcher.search``.

        Requests slightly more than k, and twice as many again for queries whose last proposal is so close to the k-th
        that a tie or a rounding error could have excluded a better one.
        """
        k = check(self.vectors, queries, k)
        positions, values = np.empty((len(queries), k), np.int64), np.empty((len(queries), k))
        slack, left, count = self._slack(queries), np.arange(len(queries)), min(k + MARGIN, self._limit)
        while len(left) and k <= count:
            similarities, proposed = self.propose(queries[left], count)
            unsure = np.zeros(len(left), bool)
            if count < len(self.vectors):
                unsure = similarities[:, -1] >= similarities[:, k - 1] - slack[left]
            sure = left[~unsure]
            positions[sure], values[sure] = order(self.vectors, queries[sure], proposed[~unsure], k)
            left = left[unsure]
            if count == self._limit:
                break
            count = min(2 * count, self._limit)
        if len(left):
            # More ties than the engine can propose.
            exact = self._exact or ExactSearch(self.vectors)
            positions[left], values[left] = exact.search(queries[left], k)
        return positions, values

    def _slack(self, queries: Vectors) -> NDArray[np.float64]:
        """Return, per query, the difference of similarities above which the engine's order is right."""
        if self._longest is None:
            self._longest = _longest(self.vectors)
        lengths: NDArray[np.float64] = np.linalg.norm(queries.astype(np.float64), axis=1)
        # Each of the two float32 sums has at most half of this error, in any order; both are then rounded.
        error: NDArray[np.float64] = np.finfo(np.float32).eps * queries.shape[1] * self._longest * lengths
        return 10.0**-DECIMALS + error


class ExactSearch(ExactProposals):
    """Compares every query with every vector, in numpy."""

    def __init__(self, vectors: NDArray[np.floating]) -> None:
        super().__init__(partial(_sorted, vectors), vectors)


def _sorted(vectors: NDArray[np.floating], queries: Vectors, count: int) -> Proposals:
    similarities = queries @ vectors.T
    nearest = np.argsort(-similarities, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(similarities, nearest, axis=1), nearest.astype(np.int64)


def _longest(vectors: NDArray[np.floating]) -> float:
    square, rows = 0.0, max(1, BLOCK // vectors.shape[1])
    for start in range(0, len(vectors), rows):
        block = np.asarray(vectors[start : start + rows], dtype=np.float32)
        square = max(square, float(np.einsum("vd,vd->v", block, block).max()))
    return math.sqrt(square)
