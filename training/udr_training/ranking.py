"""From scores to ranks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RankedExample:
    """A training query and its scored candidates, best first.

    Attributes:
        query_id: the query's id.
        candidates: demonstration ids, by score, ties by id.
        scores: the language model's numbers, in the same order.
    """

    query_id: str
    candidates: tuple[str, ...]
    scores: tuple[float, ...]


def rank_candidates(query_id: str, scores: Mapping[str, float]) -> RankedExample:
    """Return the candidates of a query in the order of their scores.

    Args:
        query_id: the query's id.
        scores: by demonstration id; higher is better.
    """
    best_first = sorted(scores, key=lambda candidate: (-scores[candidate], candidate))
    return RankedExample(query_id, tuple(best_first), tuple(scores[candidate] for candidate in best_first))


def ranks(scores: Sequence[float]) -> list[int]:
    """Return the rank of each score, 1 for the highest; equal scores share a rank: 1, 2, 2, 4."""
    return [1 + sum(other > score for other in scores) for score in scores]
