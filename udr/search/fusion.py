"""Hits: search results, their order, and the fusion of several rankings."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Hit:
    """A demonstration in the results of a search.

    Attributes:
        task: the task of its partition.
        position: its position in the partition.
        id: the row's id, unique within the task.
        similarity: the number that ranks it; higher is nearer. Rounded to 5 decimals, except sums of reciprocal ranks:
            from rank 258 on, rounding would create ties.
    """

    task: str
    position: int
    id: str
    similarity: float


RRF_CONSTANT = 60
"""Added to each rank before fusion, so that the first ranks do not outweigh all others."""


def fuse(rankings: Iterable[Sequence[Hit]]) -> list[Hit]:
    """Fuse rankings, each best first, by reciprocal ranks (Cormack, Clarke and Buettcher, 2009).

    Returns the hits unordered, with the sum of 1 / (60 + rank) as their similarity; ranks count from 1.
    """
    sums: dict[tuple[str, int], float] = {}
    hits: dict[tuple[str, int], Hit] = {}
    for ranking in rankings:
        for rank, hit in enumerate(ranking, start=1):
            key = hit.task, hit.position
            sums[key] = sums.get(key, 0.0) + 1 / (RRF_CONSTANT + rank)
            hits[key] = hit
    return [replace(hit, similarity=sums[key]) for key, hit in hits.items()]


def nearest(hits: Iterable[Hit]) -> list[Hit]:
    """Return hits sorted: best first, ties by id, then by task."""
    return sorted(hits, key=lambda hit: (-hit.similarity, hit.id, hit.task))
