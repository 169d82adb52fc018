"""Approximate search: an engine proposes, the exact similarities decide."""

import sys

import numpy as np
from numpy.typing import NDArray

from udr.search.base import _MARGIN, Positions, Proposer, Searcher, Similarities, Vectors, check, order


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
