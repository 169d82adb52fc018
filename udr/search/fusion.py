"""Hits of several rankings, fused and ordered."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Hit:
    """A demonstration that a search proposed.

    Attributes:
        task: the task whose partition it was found in.
        position: its place there.
        id: the row's id, unique within the task.
        similarity: what ranks it; higher is nearer. Rounded to 5 decimals, but for a sum of reciprocal ranks: these
            are as near to one another as that from rank 258 on, and rounded only to be shown and bounded.
    """

    task: str
    position: int
    id: str
    similarity: float


RRF_CONSTANT = 60
"""What is added to a rank before ranks are fused, so that the first few do not outweigh all others."""


def fuse(rankings: Iterable[Sequence[Hit]]) -> list[Hit]:
    """Return the hits of several rankings, in no order, with the sum of 1 / (60 + rank) as their similarity.

    Reciprocal rank fusion (Cormack, Clarke and Buettcher, 2009).

    Args:
        rankings: each best first; a rank counts from 1.
    """
    scores: dict[tuple[str, int], float] = {}
    hits: dict[tuple[str, int], Hit] = {}
    for ranking in rankings:
        for rank, hit in enumerate(ranking, start=1):
            place = hit.task, hit.position
            scores[place] = scores.get(place, 0.0) + 1 / (RRF_CONSTANT + rank)
            hits[place] = hit
    return [replace(hit, similarity=scores[place]) for place, hit in hits.items()]


def nearest(hits: Iterable[Hit]) -> list[Hit]:
    """Return hits in their order: best first, ties by id, then by task."""
    return sorted(hits, key=lambda hit: (-hit.similarity, hit.id, hit.task))
