"""A label head: it adds how likely the query has a row's label to their similarity, as an exact inner product.

The number that ranks is ``similarity + alpha * p(label of the row | query)``. It is the inner product of the query's
vector with alpha * p appended, and of the row's vector with a 1 appended at the place of its label. So every engine
that searches by inner product searches by it, and the plain similarity is the product with zeros appended to the query.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Concatenate, ParamSpec, cast

import numpy as np
from numpy.typing import NDArray

from udr.search.base import Mask, Positions, Proposals, Results, Searcher, Vectors
from udr.search.exact import ExactProposals

_NUMBERS, _ROWS = 1 << 22, 1 << 16
"""Scores kept, and rows compared, at once."""

_Rest = ParamSpec("_Rest")

Chances = NDArray[np.float64]
"""p(label | query), [num_queries, num_labels]."""

FIELD_FEATURES = 4
"""How many vectors stand for two fields; see ``head_features``."""

PASSES = 2
"""How many more texts the encoder reads of a query whose fields a head reads apart."""


@dataclass(frozen=True, eq=False)
class LabelHead:
    """A linear classifier of queries, and how much its probabilities count.

    Attributes:
        weights: float64 [num_labels, num_features + 1], the last column an intercept; see ``head_features``.
        codes: int32 [num_vectors], the label of each row of the pool, from 0; -1 if the classifier does not know it.
        alpha: what a probability of 1 adds to a similarity.
        width: the number of appended dimensions, at least ``num_labels``.
        fields: the names of the two fields of a query that it reads apart; empty if it reads the query as a whole.
    """

    weights: NDArray[np.float64]
    codes: NDArray[np.int32]
    alpha: float
    width: int
    fields: tuple[str, ...] = ()

    def probabilities(self, queries: Vectors, fields: Vectors | None = None) -> Chances:
        """Return p(label | query).

        Args:
            queries: float32 [num_queries, dimension].
            fields: the vectors of the two fields of each query, float32 [num_queries, 2, dimension], for a head that
                reads them apart.
        """
        assert (fields is not None) == bool(self.fields), "plans tell which fields a head reads"
        return label_chances(self.weights, head_features(queries, fields))

    def extend(self, queries: Vectors, probabilities: Chances) -> Vectors:
        """Return queries with alpha * p appended, float32 [num_queries, dimension + width]."""
        added = np.zeros((len(queries), self.width), np.float32)
        added[:, : len(self.weights)] = self.alpha * probabilities
        return np.concatenate([queries, added], axis=1)

    def rows(self, vectors: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return the pool's vectors, [num_vectors, dimension], with their labels appended; see ``LabelledVectors``."""
        # It has what engines use of an array.
        return cast("NDArray[np.floating]", LabelledVectors(vectors, self.codes, self.width))

    @staticmethod
    def longest(length: float | None) -> float | None:
        """Return the length of the longest row if that of the longest vector is ``length``; None if it is unknown."""
        return None if length is None else math.hypot(length, 1.0)

    def plain(self, propose: Callable[Concatenate[Vectors, _Rest], Proposals]) -> Callable[..., Proposals]:
        """Return a proposer of plain similarity by an engine over the extended vectors."""

        def padded(queries: Vectors, *rest: _Rest.args, **more: _Rest.kwargs) -> Proposals:
            return propose(np.pad(queries, ((0, 0), (0, self.width))), *rest, **more)

        return padded


def head_features(queries: Vectors, fields: Vectors | None = None) -> NDArray[np.float64]:
    """Return what a head's regression reads, float64 [num_queries, num_features]; see ``LabelHead.probabilities``.

    Of queries as a whole, their vectors at unit length. Of two fields, those of both, u and v, and how they differ and
    agree: u, v, |u - v|, u * v (as Conneau et al., 2017, compare two sentences).
    """
    if fields is None:
        return unit_vectors(queries)
    first, second = unit_vectors(fields[:, 0]), unit_vectors(fields[:, 1])
    return np.concatenate([first, second, np.abs(first - second), first * second], axis=1)


def label_chances(weights: NDArray[np.float64], features: NDArray[np.float64]) -> Chances:
    """Return p(label | query) by the weights of a regression; see ``LabelHead``."""
    # einsum and not @, whose last bits depend on how many queries there are.
    logits = np.einsum("qd,ld->ql", features, weights[:, :-1]) + weights[:, -1]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    result: Chances = powers / powers.sum(axis=1, keepdims=True)
    return result


def unit_vectors(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return vectors, [count, dimension], of unit length in float64; a zero stays zero."""
    exact = vectors.astype(np.float64)
    lengths = np.linalg.norm(exact, axis=1, keepdims=True)
    units: NDArray[np.float64] = exact / np.where(lengths > 0, lengths, 1.0)
    return units


class LabelledVectors:
    """Vectors with their labels appended, one of ``width`` dimensions each, as they are read; nothing is stored."""

    def __init__(self, vectors: NDArray[np.floating], codes: NDArray[np.int32], width: int) -> None:
        self._vectors, self._codes, self._width = vectors, codes, width
        self.shape, self.dtype = (len(vectors), vectors.shape[1] + width), vectors.dtype

    def __len__(self) -> int:
        return len(self._vectors)

    def __getitem__(self, rows: slice | Positions) -> NDArray[np.floating]:
        vectors, codes = self._vectors[rows], self._codes[rows]
        ones = codes[..., None] == np.arange(self._width)
        return np.concatenate([vectors, ones.astype(self.dtype)], axis=-1)

    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[np.floating]:
        return self[:].astype(dtype or self.dtype)  # type: ignore[call-overload, no-any-return]


class LabelledSearch:
    """A searcher by similarity that can also rank with a label head.

    Attributes:
        vectors: the rows' vectors, without labels.
        labelled: searches for extended queries by what ranks with the head.
        head: the head, which extends queries.
    """

    def __init__(self, plain: Searcher, labelled: Searcher, head: LabelHead) -> None:
        self.vectors, self.labelled, self.head = plain.vectors, labelled, head
        self._plain = plain

    def __len__(self) -> int:
        return len(self._plain)

    def search(self, queries: Vectors, k: int, rows: Mask | None = None) -> Results:
        """See ``Searcher.search``; without the head."""
        return self._plain.search(queries, k, rows)

    def search_with_head(self, queries: Vectors, probabilities: Chances, k: int, rows: Mask | None = None) -> Results:
        """Return the k rows of each query that rank first with the head, and the numbers that rank them.

        The arguments and the results are those of ``Searcher.search``, with the head's probabilities for each query.
        """
        return self.labelled.search(self.head.extend(queries, probabilities), k, rows)


class ExactLabelled(ExactProposals):
    """Exact search by a label head, over the vectors where they are: no copy has the labels appended.

    Args:
        vectors: float32 or float16 [num_vectors, dimension].
        head: the head.
        longest: the length of the longest vector; None measures it at the first search.
    """

    def __init__(self, vectors: NDArray[np.floating], head: LabelHead, longest: float | None = None) -> None:
        super().__init__(partial(_propose, vectors, head), head.rows(vectors), head.longest(longest))


def _propose(vectors: NDArray[np.floating], head: LabelHead, queries: Vectors, count: int) -> Proposals:
    values = np.empty((len(queries), count), np.float32)
    positions = np.empty((len(queries), count), np.int64)
    step = max(1, _NUMBERS // len(vectors))
    for start in range(0, len(queries), step):
        block = slice(start, start + step)
        negated = -_scores(vectors, head, queries[block])
        best = np.argpartition(negated, count - 1, axis=1)[:, :count]
        found = np.take_along_axis(negated, best, axis=1)
        order = np.argsort(found, axis=1, kind="stable")
        values[block], positions[block] = -np.take_along_axis(found, order, 1), np.take_along_axis(best, order, 1)
    return values, positions


def _scores(vectors: NDArray[np.floating], head: LabelHead, queries: Vectors) -> Vectors:
    """Return the number that ranks each row for each extended query, float32 [num_queries, num_vectors]."""
    scores = np.empty((len(queries), len(vectors)), np.float32)
    dimension = vectors.shape[1]
    # The last column is of the rows whose label the head does not know, which have the code -1.
    added = np.concatenate([queries[:, dimension:], np.zeros((len(queries), 1), np.float32)], axis=1)
    for start in range(0, len(vectors), _ROWS):
        rows = slice(start, start + _ROWS)
        # BLAS takes up to three times as long for few queries if they come first.
        scores[:, rows] = (np.asarray(vectors[rows], dtype=np.float32) @ queries[:, :dimension].T).T
        scores[:, rows] += added[:, head.codes[rows]]
    return scores
