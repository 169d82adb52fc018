"""What the feedback says about labels: the mean score of each pair of them, and how far it explains the order."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from udr_training.candidates.ranking import Agreement, RankedExample, agreement, rank_candidates

_PRIOR = 10.0
"""How many scores the task's own means count as, beside those of a pair of labels."""

LEAST_AGREEMENT = 0.9
"""The least share of the order that labels must explain before scores are extrapolated from them."""


@dataclass(frozen=True, slots=True)
class LabelScores:
    """The mean score of a candidate, by the labels of the query and of the candidate.

    The mean of a pair of labels is shrunk to that of all candidates with the query's label, or of all with another:
    the task's own mean counts as ten scores more.

    Attributes:
        pairs: the shrunk mean by the query's label and the candidate's.
        same: the mean of candidates with the query's label.
        other: the mean of the rest.
    """

    pairs: Mapping[tuple[str, str], float]
    same: float
    other: float

    @staticmethod
    def of(examples: Iterable[RankedExample], labels: Mapping[str, str]) -> "LabelScores | None":
        """Return the means of scored examples; None if they have no candidates with the query's label, or only such.

        Args:
            examples: queries with scored candidates.
            labels: of queries and candidates, by id.
        """
        by_pair: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
        for example in examples:
            for candidate, score in zip(example.candidates, example.scores, strict=True):
                by_pair[labels[example.query_id], labels[candidate]].append(score)
        same = [score for (query, candidate), scores in by_pair.items() if query == candidate for score in scores]
        other = [score for (query, candidate), scores in by_pair.items() if query != candidate for score in scores]
        if not same or not other:
            return None
        means = {True: _mean(same), False: _mean(other)}
        pairs = {
            pair: (sum(scores) + _PRIOR * means[pair[0] == pair[1]]) / (len(scores) + _PRIOR)
            for pair, scores in by_pair.items()
        }
        return LabelScores(pairs, means[True], means[False])

    def score(self, query: str, candidate: str) -> float:
        """Return the expected score of a candidate with one label for a query with another."""
        return self.pairs.get((query, candidate), self.same if query == candidate else self.other)

    def without_pairs(self) -> "LabelScores":
        """Return these scores with two values alone: candidates with the query's label, and all others."""
        return replace(self, pairs={})

    def extrapolate(self, query_id: str, candidates: Sequence[str], labels: Mapping[str, str]) -> RankedExample:
        """Return a query that was never scored, with its candidates in the order of their expected scores."""
        query = labels[query_id]
        return rank_candidates(query_id, {id: self.score(query, labels[id]) for id in candidates})

    def agreement(self, examples: Sequence[RankedExample], labels: Mapping[str, str]) -> Agreement | None:
        """Return how far labels explain the order of queries' candidates; see ``ranking.agreement``."""
        return agreement(examples, [self._expected(example, labels) for example in examples])

    def _expected(self, example: RankedExample, labels: Mapping[str, str]) -> list[float]:
        return [self.score(labels[example.query_id], labels[id]) for id in example.candidates]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
