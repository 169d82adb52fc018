"""Ranks of scored candidates, and ranking metrics."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RankedExample:
    """The ids of a training query and of its candidates, best first (ties by id), and the candidates' scores."""

    query_id: str
    candidates: tuple[str, ...]
    scores: tuple[float, ...]


def rank_candidates(query_id: str, scores: Mapping[str, float]) -> RankedExample:
    """Return a query's candidates in the order of their scores, which are by demonstration id."""
    best_first = sorted(scores, key=lambda candidate: (-scores[candidate], candidate))
    return RankedExample(query_id, tuple(best_first), tuple(scores[candidate] for candidate in best_first))


def rank_all(scores: Mapping[tuple[str, str], float]) -> tuple[RankedExample, ...]:
    """Return each query's ranked candidates, from scores by the ids of query and demonstration."""
    by_query: dict[str, dict[str, float]] = {}
    for (query, demonstration), score in scores.items():
        by_query.setdefault(query, {})[demonstration] = score
    return tuple(rank_candidates(query, by_demonstration) for query, by_demonstration in by_query.items())


def ranks(scores: Sequence[float]) -> list[int]:
    """Return the rank of each score, 1 for the highest; equal scores share a rank: 1, 2, 2, 4."""
    return [1 + sum(other > score for other in scores) for score in scores]


def agreement(examples: Iterable[RankedExample], expected: Iterable[Sequence[float]]) -> float:
    """Return the share of pairs of a query's candidates that scores and expected scores order alike, 0 to 1.

    Pairs that either side leaves equal do not count; without any other pair the share is 0.

    Args:
        examples: queries with scored candidates.
        expected: for each query, the expected scores of its candidates, in their order.
    """
    alike = total = 0
    for example, values in zip(examples, expected, strict=True):
        # Candidates are ordered best first.
        for first, score in enumerate(example.scores):
            for second in range(first + 1, len(example.scores)):
                if score != example.scores[second] and values[first] != values[second]:
                    total += 1
                    alike += values[first] > values[second]
    return alike / total if total else 0.0


def ndcg(retrieved: Sequence[int], cut: int = 8) -> float:
    """Return the normalised discounted cumulative gain (NDCG) of an order of candidates; 1 is the best.

    A candidate's gain is 1 / its rank by score, as in the list-wise loss; position p discounts it by log2(1 + p).

    Args:
        retrieved: the candidates' ranks by score, in the order to evaluate; equal scores share a rank.
        cut: the number of positions that count.
    """

    def gain(order: Sequence[int]) -> float:
        return sum(1 / rank / math.log2(1 + position) for position, rank in enumerate(order[:cut], start=1))

    return gain(retrieved) / gain(sorted(retrieved))


def reciprocal_rank(retrieved: Sequence[int]) -> float:
    """Return 1 / the position of the first candidate with the highest score; 1 is the best; see ``ndcg``."""
    return 1 / (1 + retrieved.index(min(retrieved)))
