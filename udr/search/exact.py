"""Exact search: by any engine that compares with every vector, and in numpy as the oracle of the tests."""

import math
import sys
from functools import partial
from typing import cast

import numpy as np
from numpy.typing import NDArray

from udr.search.base import (
    BLOCK,
    DECIMALS,
    MARGIN,
    Mask,
    Proposals,
    Proposer,
    Results,
    Searcher,
    Vectors,
    check,
    order,
)
from udr.search.filtered import SCANNED, RowsOf, compare, deeper, kept, no_results


class ExactProposals:
    """Exact search by an engine that compares with every vector.

    Args:
        propose: the engine.
        vectors: float32 or float16 [num_vectors, dimension].
        longest: the length of the longest vector; None measures it at the first search.
        limit: the largest count that the engine can propose.
        exact: searches if more is needed; None uses numpy.
        scanned: up to this share of rows that may be returned, they are compared one by one.
    """

    def __init__(
        self,
        propose: Proposer,
        vectors: NDArray[np.floating],
        longest: float | None = None,
        limit: int = sys.maxsize,
        exact: Searcher | None = None,
        *,
        scanned: float = SCANNED,
    ) -> None:
        self.propose, self.vectors, self._longest = propose, vectors, longest
        self._limit, self._exact, self._scanned = min(limit, len(vectors)), exact, scanned

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: Vectors, k: int, rows: Mask | None = None) -> Results:
        """See ``Searcher.search``."""
        k = check(self.vectors, queries, k, rows)
        if not k:
            return no_results(queries)
        if rows is None or (num_rows := int(np.count_nonzero(rows))) == len(rows):
            return self._nearest(queries, k)
        depth = deeper(k, rows)
        if num_rows <= self._scanned * len(rows) or depth >= self._limit:
            return self._compared(queries, k, rows)
        found, values = self._nearest(queries, depth)
        columns, enough = kept(found, rows, k)
        positions, similarities = (
            np.take_along_axis(found, columns, axis=1),
            np.take_along_axis(values, columns, axis=1),
        )
        if not enough.all():
            # The rows that may be returned are unlike the query.
            positions[~enough], similarities[~enough] = self._compared(queries[~enough], k, rows)
        return positions, similarities

    def _compared(self, queries: Vectors, k: int, rows: Mask) -> Results:
        """Return the k nearest of the rows that may be returned, in a time that depends on their number alone."""
        positions = np.flatnonzero(rows)
        chosen = cast("NDArray[np.floating]", RowsOf(self.vectors, positions))
        found, similarities = ExactProposals(partial(compare, chosen), chosen, self._length()).search(queries, k)
        return positions[found], similarities

    def _nearest(self, queries: Vectors, k: int) -> Results:
        """Return the k nearest of all vectors.

        Requests slightly more than k, and twice as many again for queries whose last proposal is so close to the k-th
        that a tie or a rounding error could have excluded a better one.
        """
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
        lengths: NDArray[np.float64] = np.linalg.norm(queries.astype(np.float64), axis=1)
        # Each of the two float32 sums has at most half of this error, in any order; both are then rounded.
        error: NDArray[np.float64] = np.finfo(np.float32).eps * queries.shape[1] * self._length() * lengths
        return 10.0**-DECIMALS + error

    def _length(self) -> float:
        """Return the length of the longest vector."""
        if self._longest is None:
            self._longest = _longest(self.vectors)
        return self._longest


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
