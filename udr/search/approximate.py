"""Approximate search: an engine proposes, exact similarities decide."""

import sys

import numpy as np
from numpy.typing import NDArray

from udr.search.base import MARGIN, Mask, Proposer, ProposerAmong, Results, Searcher, Vectors, check, order
from udr.search.filtered import SCANNED_ROWS, deeper, no_results


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
        among: the engine for searches among some rows; None lets ``propose`` propose more, and drops the others.
        scanned: up to so many rows that may be returned, they are compared one by one; and up to twice as many as
            would be proposed.
    """

    def __init__(
        self,
        propose: Proposer,
        vectors: NDArray[np.floating],
        exact: Searcher,
        oversample: int,
        limit: int = sys.maxsize,
        *,
        among: ProposerAmong | None = None,
        scanned: int = SCANNED_ROWS,
    ) -> None:
        self._propose, self.vectors, self._exact = propose, vectors, exact
        self._among, self._oversample, self._limit = among, oversample, min(limit, len(vectors))
        self._scanned = scanned

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: Vectors, k: int, rows: Mask | None = None) -> Results:
        """See ``Searcher.search``; among the engine's proposals. A few rows are compared one by one."""
        k = check(self.vectors, queries, k, rows)
        if not k:
            return no_results(queries)
        wanted = k if rows is None or self._among else deeper(k, rows)
        # Proposals are compared one by one, too, and more slowly.
        few = max(self._scanned, 2 * wanted * self._oversample)
        if wanted > self._limit or (rows is not None and np.count_nonzero(rows) <= few):
            return self._exact.search(queries, k, rows)
        count = min(max(wanted * self._oversample, wanted + MARGIN), self._limit)
        if rows is None or self._among is None:
            _, proposed = self._propose(queries, count)
        else:
            _, proposed = self._among(queries, count, rows)
        # An index file can hold any number.
        proposed = np.where(proposed < len(self.vectors), proposed, -1)
        if rows is not None:
            proposed = np.where(rows[proposed], proposed, -1)
        positions, similarities = order(self.vectors, queries, proposed, k)
        too_few = (positions < 0).any(axis=1)
        if too_few.any():
            positions[too_few], similarities[too_few] = self._exact.search(queries[too_few], k, rows)
        return positions, similarities
