"""Search: the protocol, the one order of results, and hits, which rankings share.

Results are ordered by similarity rounded to 5 decimals, then by position. Engines order ties arbitrarily and differ
in the last bits, so they only propose slightly more than k, and ``order`` computes the similarities of all proposals
in one way.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Metric = Literal["cosine", "dot"]
Vectors = NDArray[np.float32]
"""Vectors, float32 [count, dimension]; of unit length if the metric is cosine."""

Positions = NDArray[np.int64]
Similarities = NDArray[np.float64]

Mask = NDArray[np.bool_]
"""Which rows may be returned, bool [num_vectors]."""

DECIMALS = 5
MARGIN = 16
"""Proposals requested in addition to k."""

BLOCK = 1 << 20
"""Numbers converted at once."""

Results = tuple[Positions, Similarities]

Proposals = tuple[NDArray[np.floating], Positions]
"""Similarities and positions, both [num_queries, count], best first."""

Proposer = Callable[[Vectors, int], Proposals]
"""Returns the proposals for queries and a count."""

ProposerAmong = Callable[[Vectors, int, Mask], Proposals]
"""Returns the proposals for queries and a count, all of them rows that may be returned; -1 if there are fewer."""


class Searcher(Protocol):
    """Finds the vectors nearest to queries."""

    vectors: NDArray[np.floating]
    """float32 or float16 [num_vectors, dimension], in memory or memory-mapped."""

    def __len__(self) -> int:
        """Return the number of vectors."""

    def search(self, queries: Vectors, k: int, rows: Mask | None = None) -> Results:
        """Return the k nearest vectors of each query.

        Args:
            queries: float32 [num_queries, dimension].
            k: the number of results, at least 1; fewer are returned if there are fewer vectors.
            rows: which vectors may be returned; None returns any.

        Returns:
            Positions and similarities, both [num_queries, min(k, number of vectors that may be returned)]; the
            similarity is the dot product, rounded to 5 decimals; higher is nearer. Best first, ties by position.
        """


def check(vectors: NDArray[np.floating], queries: Vectors, k: int, rows: Mask | None = None) -> int:
    """Return the number of results of a search for k; ``ValueError`` if k, or a shape, is invalid."""
    if queries.ndim != 2 or queries.shape[1] != vectors.shape[1]:
        raise ValueError(f"queries must be [num_queries, {vectors.shape[1]}], found {list(queries.shape)}")
    if k < 1:
        raise ValueError(f"k must be at least 1, found {k}")
    if rows is None:
        return min(k, len(vectors))
    if rows.shape != (len(vectors),) or rows.dtype != np.bool_:
        raise ValueError(f"rows must be bool [{len(vectors)}], found {rows.dtype} {list(rows.shape)}")
    return min(k, int(np.count_nonzero(rows)))


def order(vectors: NDArray[np.floating], queries: Vectors, positions: Positions, k: int) -> Results:
    """Return the k best of each query's proposed positions, in the order of this module.

    Args:
        vectors: float32 or float16 [num_vectors, dimension].
        queries: float32 [num_queries, dimension].
        positions: [num_queries, num_proposed], in any order, without duplicates; negative entries mean no proposal
            and sort last.
        k: the number of results per query.
    """
    ascending = np.sort(positions, axis=1)
    rounded = np.where(ascending < 0, -np.inf, products(vectors, queries, ascending))
    best = np.argsort(-rounded, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(ascending, best, axis=1), np.take_along_axis(rounded, best, axis=1)


def products(vectors: NDArray[np.floating], queries: Vectors, positions: Positions) -> Similarities:
    """Return the similarities of each query to the rows at its positions, as searches round them.

    The vectors are [num_vectors, dimension], the queries float32 [num_queries, dimension], positions and result
    [num_queries, count]; a negative position counts as 0.
    """
    # float64, so that the rounded value does not depend on the summation order; in blocks, since ties can make many.
    result, exact = np.empty(positions.shape), queries.astype(np.float64)
    columns = max(1, BLOCK // queries.shape[1])
    rows = max(1, columns // max(1, positions.shape[1]))
    for row in range(0, positions.shape[0], rows):
        for column in range(0, positions.shape[1], columns):
            block = slice(row, row + rows), slice(column, column + columns)
            proposed = vectors[np.maximum(positions[block], 0)].astype(np.float64)
            result[block] = np.einsum("qpd,qd->qp", proposed, exact[row : row + rows])
    # Adding 0.0 turns -0.0 into 0.0.
    rounded: Similarities = np.round(result, DECIMALS) + 0.0
    return rounded


@dataclass(frozen=True, slots=True)
class Hit:
    """A demonstration in the results of a search.

    Attributes:
        task: the task of its partition.
        position: its position in the partition.
        id: the row's id, unique within the task.
        similarity: higher is nearer. Rounded to 5 decimals, except sums of reciprocal ranks: from rank 258 on, rounding
            would create ties.
        ranking_score: the number that ranks it, if that is not the similarity.
    """

    task: str
    position: int
    id: str
    similarity: float
    ranking_score: float | None = None

    @property
    def ranked_by(self) -> float:
        """The number that ranks it."""
        return self.similarity if self.ranking_score is None else self.ranking_score


RRF_CONSTANT = 60
"""Added to each rank before fusion, so that the first ranks do not outweigh all others."""


_LEAST_WEIGHT = 1e-9
"""Of a ranking that does not count: its hits still follow those of the others, in their own order."""


def fuse(rankings: Iterable[Sequence[Hit]], weights: Iterable[float] | None = None) -> list[Hit]:
    """Fuse rankings, each best first, by reciprocal ranks (Cormack, Clarke and Buettcher, 2009).

    Args:
        rankings: the rankings.
        weights: how much each counts, from 0; None is 1 for each.

    Returns:
        The hits unordered, with the sum of weight / (60 + rank) as their similarity; ranks count from 1.
    """
    rankings = list(rankings)
    factors = [1.0] * len(rankings) if weights is None else [max(weight, _LEAST_WEIGHT) for weight in weights]
    sums: dict[tuple[str, int], float] = {}
    hits: dict[tuple[str, int], Hit] = {}
    for ranking, factor in zip(rankings, factors, strict=True):
        for rank, hit in enumerate(ranking, start=1):
            key = hit.task, hit.position
            sums[key] = sums.get(key, 0.0) + factor / (RRF_CONSTANT + rank)
            hits[key] = hit
    return [replace(hit, similarity=sums[key], ranking_score=None) for key, hit in hits.items()]


def nearest(hits: Iterable[Hit]) -> list[Hit]:
    """Return hits sorted: best first, ties by id, then by task."""
    return sorted(hits, key=lambda hit: (-hit.ranked_by, hit.id, hit.task))
