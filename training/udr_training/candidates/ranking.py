"""Ranks of scored candidates, and ranking metrics."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

LEAST_PAIRS, LEAST_QUERIES = 20, 5
"""The fewest pairs of candidates, and the fewest queries that have them, for an agreement."""


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


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far scores and expected scores order candidates alike.

    Attributes:
        share: of the pairs of a query's candidates that both order, how many they order alike, 0 to 1.
        pairs: how many both order.
    """

    share: float
    pairs: int


def agreement(examples: Iterable[RankedExample], expected: Iterable[Sequence[float]]) -> Agreement | None:
    """Return how far scores and expected scores order the candidates of each query alike.

    Pairs that either side leaves equal do not count. None if fewer than ``LEAST_PAIRS`` pairs or ``LEAST_QUERIES``
    queries with such pairs are left, whose share chance decides.

    Args:
        examples: queries with scored candidates.
        expected: for each query, the expected scores of its candidates, in their order.
    """
    by_query = [
        [
            values[first] > values[second]  # Candidates are ordered best first.
            for first, second in combinations(range(len(example.scores)), 2)
            if example.scores[first] != example.scores[second] and values[first] != values[second]
        ]
        for example, values in zip(examples, expected, strict=True)
    ]
    pairs = sum(map(len, by_query))
    if pairs < LEAST_PAIRS or sum(map(bool, by_query)) < LEAST_QUERIES:
        return None
    return Agreement(sum(map(sum, by_query)) / pairs, pairs)


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
