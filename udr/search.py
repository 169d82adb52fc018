"""Search among vectors: the protocol, exact numpy search (the tests' oracle), and the order of results.

The order is our own: similarity rounded to 5 decimals, then position. An engine's order among equals is
arbitrary, and its sums differ from another's in the last bits; so engines only propose, a little more than
was asked for, and ``order`` computes the similarities of what they proposed in one way for all of them.
"""

import sys
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from udr.encoder import Vectors
from udr.errors import InvalidInputError

Positions = NDArray[np.int64]
Similarities = NDArray[np.float64]

DECIMALS = 5
# What two engines' float32 sums may differ by, beyond the rounding itself.
_SLACK = 2 * 10.0**-DECIMALS
_MARGIN = 16

Proposer = Callable[[Vectors, int], tuple[NDArray[np.floating], Positions]]
"""From queries and a count to similarities and positions, both [num_queries, count], best first."""


class Searcher(Protocol):
    """Finds the vectors nearest to queries."""

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


class ExactSearch:
    """Compares every query with every vector, in numpy."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    def __len__(self) -> int:
        return len(self._vectors)

    def search(self, queries: Vectors, k: int) -> tuple[Positions, Similarities]:
        """See ``Searcher.search``."""
        return ExactProposals(self._propose, self._vectors).search(queries, k)

    def _propose(self, queries: Vectors, count: int) -> tuple[NDArray[np.floating], Positions]:
        similarities = queries @ self._vectors.T
        nearest = np.argsort(-similarities, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(similarities, nearest, axis=1), nearest.astype(np.int64)


class ExactProposals:
    """Exact search by an engine that compares with every vector, but may answer at most so many.

    Args:
        propose: the engine.
        vectors: float32 or float16 [num_vectors, dimension].
        most: the most that it proposes at once.
    """

    def __init__(self, propose: Proposer, vectors: NDArray[np.floating], most: int = sys.maxsize) -> None:
        self._propose, self._vectors, self._most = propose, vectors, min(most, len(vectors))

    def __len__(self) -> int:
        return len(self._vectors)

    def search(self, queries: Vectors, k: int) -> tuple[Positions, Similarities]:
        """See ``Searcher.search``.

        More than k are asked for, and twice as many again while the last one proposed is so near to the k-th that
        a tie, or a difference in the last bits, could have kept a rightful one out.

        Raises:
            InvalidInputError: k is above what the engine can propose.
        """
        k = check(self._vectors, queries, k)
        within(k, self._most)
        count = min(k + _MARGIN, self._most)
        while True:
            similarities, positions = self._propose(queries, count)
            unsure = similarities[:, -1] >= similarities[:, k - 1] - _SLACK if count else np.zeros(0, bool)
            if count == len(self._vectors) or not unsure.any():
                return order(self._vectors, queries, positions, k)
            if count == self._most:
                break
            count = min(2 * count, self._most)
        # The engine cannot show enough of what is equally near.
        found, values = order(self._vectors, queries, positions, k)
        found[unsure], values[unsure] = ExactSearch(self._vectors).search(queries[unsure], k)
        return found, values


class RankedProposals:
    """Approximate search: an engine proposes, the best of the proposed by their exact similarity are kept.

    Similarities and order are exact; which demonstrations are found is up to the engine. A query for which it finds
    too few is compared with every vector.

    Args:
        propose: the engine; -1 fills up where it found fewer.
        vectors: float32 or float16 [num_vectors, dimension].
        exact: search among the same vectors.
        oversample: proposals for each demonstration that is wanted.
        most: the most that it proposes at once.
    """

    def __init__(
        self,
        propose: Proposer,
        vectors: NDArray[np.floating],
        exact: "Searcher",
        oversample: int,
        most: int = sys.maxsize,
    ) -> None:
        self._propose, self._vectors, self._exact = propose, vectors, exact
        self._oversample, self._most = oversample, min(most, len(vectors))

    def __len__(self) -> int:
        return len(self._vectors)

    def search(self, queries: Vectors, k: int) -> tuple[Positions, Similarities]:
        """See ``Searcher.search``; of what the engine proposes.

        Raises:
            InvalidInputError: k is above what the engine can propose.
        """
        k = check(self._vectors, queries, k)
        within(k, self._most)
        _, positions = self._propose(queries, min(max(k * self._oversample, k + _MARGIN), self._most))
        found, similarities = order(self._vectors, queries, positions, k)
        few = (found < 0).any(axis=1)
        if few.any():
            found[few], similarities[few] = self._exact.search(queries[few], k)
        return found, similarities


def within(k: int, most: int) -> None:
    """Refuse to look for more than an engine can find at once.

    Raises:
        InvalidInputError: k is above it.
    """
    if k > most:
        raise InvalidInputError(
            f"k must be at most {most} on this device, with what is excluded counted; found {k}; "
            "ask for fewer, or search on the CPU"
        )


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
    # In float64, so that rounding to 5 decimals does not depend on the order of a sum.
    proposed = vectors[np.maximum(ascending, 0)].astype(np.float64)
    exact = np.einsum("qpd,qd->qp", proposed, queries.astype(np.float64))
    # Adding zero turns -0.0 into 0.0.
    rounded = np.where(ascending < 0, -np.inf, np.round(exact, DECIMALS) + 0.0)
    best = np.argsort(-rounded, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(ascending, best, axis=1), np.take_along_axis(rounded, best, axis=1)
