"""How good a demonstration is, estimated from the outcomes of the prompts that showed it."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

PRIOR_WEIGHT = 4.0
"""How many prompts with the task's mean score count for each demonstration before its own."""

Query = TypeVar("Query", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A demonstration's estimated score, and the number of outcomes that it is from."""

    score: float
    outcomes: int


def estimates(
    outcomes: Iterable[tuple[Query, Sequence[str], float]], prior_weight: float = PRIOR_WEIGHT
) -> tuple[float, dict[tuple[Query, str], Estimate]]:
    """Return the mean score of prompts, and the estimate of each demonstration for each query.

    The score of a prompt is that of all demonstrations in it. So the estimate for a demonstration is the mean over the
    prompts with this query that showed it, shrunk towards the mean over all prompts: with n scores of sum s, a mean m
    over all, and a prior weight w, it is (s + w m) / (n + w). A demonstration that no prompt showed has m.

    Args:
        outcomes: for each prompt its query, or anything else to estimate by; the ids that it showed; its score.
        prior_weight: w, above 0.
    """
    sums: defaultdict[tuple[Query, str], float] = defaultdict(float)
    numbers: defaultdict[tuple[Query, str], int] = defaultdict(int)
    scores: list[float] = []
    for query, ids, score in outcomes:
        scores.append(score)
        for id in ids:
            sums[query, id] += score
            numbers[query, id] += 1
    mean = sum(scores) / len(scores) if scores else 0.0
    shrunk = {
        key: Estimate((total + prior_weight * mean) / (numbers[key] + prior_weight), numbers[key])
        for key, total in sums.items()
    }
    return mean, shrunk
