"""What a demonstration is worth to any query, which says nothing about which query it suits."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from udr_training.candidates.ranking import RankedExample, rank_candidates

_PRIOR = 10.0
"""How many more queries, without any effect, each demonstration counts as having."""


def demonstration_means(examples: Iterable[RankedExample]) -> dict[str, float]:
    """Return by how much each demonstration's scores exceed those of the same queries' other candidates, on average.

    Scores differ more between queries than between candidates, so a query's mean is subtracted first. The mean over
    queries is shrunk as if ten more had shown no effect: a demonstration that few queries have seen was mined for them,
    and its mean says that it suits them.
    """
    differences: defaultdict[str, list[float]] = defaultdict(list)
    for example in examples:
        mean = sum(example.scores) / len(example.scores)
        for id, score in zip(example.candidates, example.scores, strict=True):
            differences[id].append(score - mean)
    return {id: sum(own) / (len(own) + _PRIOR) for id, own in differences.items()}


def subtracted(means: Mapping[str, float], examples: Iterable[RankedExample]) -> tuple[RankedExample, ...]:
    """Return examples with the means subtracted from their scores, and new ranks; an unknown mean is 0."""
    return tuple(
        rank_candidates(
            example.query_id,
            {id: score - means.get(id, 0.0) for id, score in zip(example.candidates, example.scores, strict=True)},
        )
        for example in examples
    )
