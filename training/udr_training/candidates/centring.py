"""What a demonstration is worth to any query, which says nothing about which query it suits."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from udr_training.candidates.ranking import RankedExample, rank_candidates

_PRIOR = 10.0
"""How many more queries, without any effect, each demonstration counts as having."""


@dataclass(frozen=True, slots=True)
class DemonstrationMeans:
    """By how much a demonstration's scores exceed those of the same queries' other candidates, on average.

    Scores differ more between queries than between candidates, so a query's mean is subtracted first. The mean over
    queries is shrunk as if ten more had shown no effect: a demonstration that few queries have seen was mined for them,
    and its mean says that it suits them.

    Attributes:
        means: by demonstration id.
    """

    means: Mapping[str, float]

    @staticmethod
    def of(examples: Iterable[RankedExample]) -> "DemonstrationMeans":
        """Return the means of scored examples."""
        differences: defaultdict[str, list[float]] = defaultdict(list)
        for example in examples:
            mean = sum(example.scores) / len(example.scores)
            for id, score in zip(example.candidates, example.scores, strict=True):
                differences[id].append(score - mean)
        return DemonstrationMeans({id: sum(own) / (len(own) + _PRIOR) for id, own in differences.items()})

    def subtracted(self, examples: Iterable[RankedExample]) -> tuple[RankedExample, ...]:
        """Return the examples with the means subtracted from their scores, and new ranks; an unknown mean is 0."""
        return tuple(
            rank_candidates(
                example.query_id,
                {
                    id: score - self.means.get(id, 0.0)
                    for id, score in zip(example.candidates, example.scores, strict=True)
                },
            )
            for example in examples
        )
