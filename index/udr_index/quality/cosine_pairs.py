"""Which vectors are alike: exact, block by block, so that memory holds no more than the vectors twice.

The searchers of ``udr.search`` answer for a number of nearest vectors, and where very many tie they compare very many
at once. Here only the nearest is wanted, and ties are the rule: texts that an encoder cuts at the same place.
"""

from dataclasses import dataclass

import numpy as np

from udr.search import Vectors

DECIMALS = 5
"""Similarities are rounded so before anything is decided, so that the last bits of a sum decide nothing."""

_BLOCK = 1024
_SEGMENT = 8192
# More than what float32 sums may differ by from exact ones, and the rounding.
_SLACK = 2e-5


@dataclass(frozen=True, slots=True)
class Alike:
    """Two vectors that are alike.

    Attributes:
        position: of one.
        other: of the other: the nearest there is, the first of those that are equally near.
        similarity: their cosine, rounded to 5 decimals.
    """

    position: int
    other: int
    similarity: float


def alike(vectors: Vectors, threshold: float) -> list[Alike]:
    """Return the vectors that are as near as that to an earlier one that is not itself returned.

    Without them, no two of the others are so near to each other; and each of them is near to one that stays.

    Args:
        vectors: float32 [num_vectors, dimension], of unit length.
        threshold: the cosine from which two are alike.
    """
    found: list[Alike] = []
    kept = np.empty_like(vectors)
    positions: list[int] = []
    for start in range(0, len(vectors), _BLOCK):
        block, before = vectors[start : start + _BLOCK], len(positions)
        nearest = _nearest(block, kept[:before], threshold)
        for place, vector in enumerate(block):
            within = _nearest(vector[None], kept[before : len(positions)], threshold, before)[0]
            best = _better(nearest[place], within)
            if best is None:
                kept[len(positions)] = vector
                positions.append(start + place)
            else:
                found.append(Alike(start + place, positions[best[0]], best[1]))
    return found


def alike_to(queries: Vectors, vectors: Vectors, threshold: float) -> list[Alike]:
    """Return the queries that are as near as that to one of the vectors, each with the nearest.

    Args:
        queries: float32 [num_queries, dimension], of unit length.
        vectors: float32 [num_vectors, dimension], of unit length.
        threshold: the cosine from which two are alike.
    """
    return [
        Alike(start + place, *best)
        for start in range(0, len(queries), _BLOCK)
        for place, best in enumerate(_nearest(queries[start : start + _BLOCK], vectors, threshold))
        if best is not None
    ]


_Found = tuple[int, float] | None


def _nearest(queries: Vectors, vectors: Vectors, threshold: float, first: int = 0) -> list[_Found]:
    """Return position, counted from ``first``, and similarity of the vector nearest to each query.

    None stands where none is near enough.
    """
    best: list[_Found] = [None] * len(queries)
    for start in range(0, len(vectors), _SEGMENT):
        segment = vectors[start : start + _SEGMENT]
        rough = queries @ segment.T
        highest = rough.max(axis=1)
        for query in np.flatnonzero(highest >= threshold - _SLACK).tolist():
            proposed = np.flatnonzero(rough[query] >= highest[query] - _SLACK)
            exact = segment[proposed].astype(np.float64) @ queries[query].astype(np.float64)
            rounded = np.round(exact, DECIMALS)
            one = int(rounded.argmax())
            if rounded[one] >= threshold:
                best[query] = _better(best[query], (first + start + int(proposed[one]), float(rounded[one])))
    return best


def _better(one: _Found, later: _Found) -> _Found:
    """Return the nearer of two; the first where they are equally near."""
    return later if one is None or (later is not None and later[1] > one[1]) else one
