"""Approximate search: an engine proposes, exact similarities decide."""

import sys

import numpy as np
from numpy.typing import NDArray

from udr.search.base import _MARGIN, Positions, Proposer, Searcher, Similarities, Vectors, check, order


class RankedProposals:
    """Approximate search: an engine proposes, and the proposals with the highest exact similarity are kept.

    Similarities and order are exact; the engine decides which demonstrations are found. A query with fewer than k
    proposals is compared with every vector.

    Args:
        propose: the engine; it fills missing positions with -1.
        vectors: float32 or float16 [num_vectors, dimension].
        exact: exact search of the same vectors, also used if k exceeds ``most``.
        oversample: proposals per requested result.
        most: the largest count that the engine can propose.
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
        """See ``Searcher.search``; among the engine's proposals."""
        k = check(self._vectors, queries, k)
        if k > self._most:
            return self._exact.search(queries, k)
        _, proposed = self._propose(queries, min(max(k * self._oversample, k + _MARGIN), self._most))
        positions, similarities = order(self._vectors, queries, proposed, k)
        too_few = (positions < 0).any(axis=1)
        if too_few.any():
            positions[too_few], similarities[too_few] = self._exact.search(queries[too_few], k)
        return positions, similarities
