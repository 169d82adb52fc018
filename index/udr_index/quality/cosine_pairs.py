"""Finding pairs of similar vectors, exactly, in blocks: memory holds at most the vectors twice.

Unlike the searchers of ``udr.search``, this finds only the nearest vector, and stays fast if very many vectors tie,
such as those of texts that an encoder truncates at the same position.
"""

from dataclasses import dataclass

import numpy as np

from udr.search import Vectors

DECIMALS = 5
"""Similarities are rounded before they are compared, so that rounding errors of sums decide nothing."""

# More than the errors of float32 sums and of the rounding.
_SLACK = 2e-5

_Nearest = tuple[int, float] | None
"""The position and the similarity of the nearest vector, if it is near enough."""


@dataclass(frozen=True, slots=True)
class Alike:
    """A vector, the first of those nearest to it, and their cosine, rounded to 5 decimals."""

    position: int
    other: int
    similarity: float


def alike(vectors: Vectors, threshold: float, block_size: int = 1024) -> list[Alike]:
    """Return the vectors that are similar to an earlier one that is not itself returned.

    No two of the others are similar, and each returned vector is similar to one of them. The vectors are float32
    [num_vectors, dimension], of unit length; the threshold is the least cosine of similar ones.
    """
    pairs: list[Alike] = []
    kept = np.empty_like(vectors)
    positions: list[int] = []
    for start in range(0, len(vectors), block_size):
        block, before = vectors[start : start + block_size], len(positions)
        nearest = _nearest(block, kept[:before], threshold, block_size)
        for position, vector in enumerate(block, start):
            within = _nearest(vector[None], kept[before : len(positions)], threshold, block_size, before)[0]
            best = _nearer(nearest[position - start], within)
            if best is None:
                kept[len(positions)] = vector
                positions.append(position)
            else:
                pairs.append(Alike(position, positions[best[0]], best[1]))
    return pairs


def alike_to(queries: Vectors, vectors: Vectors, threshold: float, block_size: int = 1024) -> list[Alike]:
    """Return the queries that are similar to one of the vectors, each with the nearest; see ``alike``."""
    return [
        Alike(position, *nearest)
        for start in range(0, len(queries), block_size)
        for position, nearest in enumerate(
            _nearest(queries[start : start + block_size], vectors, threshold, block_size), start
        )
        if nearest is not None
    ]


def _nearest(queries: Vectors, vectors: Vectors, threshold: float, block_size: int, first: int = 0) -> list[_Nearest]:
    """Return the nearest vector of each query; positions begin at ``first``."""
    best: list[_Nearest] = [None] * len(queries)
    for start in range(0, len(vectors), 8 * block_size):
        segment = vectors[start : start + 8 * block_size]
        rough = queries @ segment.T
        highest = rough.max(axis=1)
        for query in np.flatnonzero(highest >= threshold - _SLACK).tolist():
            close = np.flatnonzero(rough[query] >= highest[query] - _SLACK)
            exact = segment[close].astype(np.float64) @ queries[query].astype(np.float64)
            similarities = np.round(exact, DECIMALS)
            top = int(similarities.argmax())
            if similarities[top] >= threshold:
                best[query] = _nearer(best[query], (first + start + int(close[top]), float(similarities[top])))
    return best


def _nearer(earlier: _Nearest, later: _Nearest) -> _Nearest:
    return later if earlier is None or (later is not None and later[1] > earlier[1]) else earlier
