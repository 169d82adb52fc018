"""Approximate search: an engine proposes, exact similarities decide."""

import sys

import numpy as np
from numpy.typing import NDArray

from udr.search.base import MARGIN, Proposer, Results, Searcher, Vectors, check, order


class RankedProposals:
    """Approximate search that keeps an engine's proposals with the highest exact similarity.

    Similarities and order are exact; the engine decides which demonstrations are found. A query with fewer than k
    proposals is compared with every vector.

    Args:
        propose: the engine; it fills missing positions with -1.
        vectors: float32 or float16 [num_vectors, dimension].
        exact: exact search of the same vectors, also used if k exceeds ``limit``.
        oversample: proposals per requested result.
        limit: the largest count that the engine can propose.
    """

    def __init__(
        self,
        propose: Proposer,
        vectors: NDArray[np.floating],
        exact: Searcher,
        oversample: int,
        limit: int = sys.maxsize,
    ) -> None:
        self._propose, self.vectors, self._exact = propose, vectors, exact
        self._oversample, self._limit = oversample, min(limit, len(vectors))

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: Vectors, k: int) -> Results:
        """See ``Searcher.search``; among the engine's proposals."""
        k = check(self.vectors, queries, k)
        if k > self._limit:
            return self._exact.search(queries, k)
        _, proposed = self._propose(queries, min(max(k * self._oversample, k + MARGIN), self._limit))
        # An index file can hold any number.
        proposed = np.where(proposed < len(self.vectors), proposed, -1)
        positions, similarities = order(self.vectors, queries, proposed, k)
        too_few = (positions < 0).any(axis=1)
        if too_few.any():
            positions[too_few], similarities[too_few] = self._exact.search(queries[too_few], k)
        return positions, similarities
