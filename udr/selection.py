"""Selection: what becomes of the demonstrations that a search proposed. Pure functions, applied in this order."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from udr.search import DECIMALS


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


def without(hits: Iterable[Hit], ids: Collection[str]) -> list[Hit]:
    """Return the hits whose ids are not among these."""
    return [hit for hit in hits if hit.id not in ids]


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


def at_least(hits: Iterable[Hit], similarity: float | None) -> list[Hit]:
    """Return the hits that are shown as at least so similar; None keeps all."""
    return [hit for hit in hits if similarity is None or round(hit.similarity, DECIMALS) >= similarity]


def nearest(hits: Iterable[Hit], k: int) -> list[Hit]:
    """Return the k most similar hits, best first, ties by id, then by task."""
    return sorted(hits, key=lambda hit: (-hit.similarity, hit.id, hit.task))[:k]
