"""Selection: what becomes of the demonstrations that a search proposed. Pure functions, applied in this order."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hit:
    """A demonstration that a search proposed.

    Attributes:
        task: the task whose partition it was found in.
        position: its place there.
        id: the row's id, unique within the task.
        similarity: rounded to 5 decimals; higher is nearer.
    """

    task: str
    position: int
    id: str
    similarity: float


def without(hits: Iterable[Hit], ids: Collection[str]) -> list[Hit]:
    """Return the hits whose ids are not among these."""
    return [hit for hit in hits if hit.id not in ids]


def at_least(hits: Iterable[Hit], similarity: float | None) -> list[Hit]:
    """Return the hits that are at least so similar; None keeps all."""
    return [hit for hit in hits if similarity is None or hit.similarity >= similarity]


def nearest(hits: Iterable[Hit], k: int) -> list[Hit]:
    """Return the k most similar hits, best first, ties by id, then by task."""
    return sorted(hits, key=lambda hit: (-hit.similarity, hit.id, hit.task))[:k]
