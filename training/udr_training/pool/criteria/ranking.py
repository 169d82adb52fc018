"""Scores of all rows by criteria: a scorer on the encoder's vectors, trained on pairs that workers labelled."""

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udr.data import Task
from udr.errors import DataError
from udr.search import Vectors, fit_weights, folds_of, head_features
from udr.types import Json, Row
from udr_training.pool.criteria.judging import Ask, Verdict, judge, majority, say_unreadable
from udr_training.pool.criteria.known import Criterion
from udr_training.pool.scores import Score

_LOG = logging.getLogger(__name__)

FOLDS = 5
_FEWEST = 20
_STRENGTHS = (0.1, 1.0, 10.0)
_MEANING = "the share of the pool's rows than which it is better, by criteria, as the vectors tell, 0 to 1; flags none"


@dataclass(frozen=True, slots=True)
class CriteriaJudge:
    """Criteria, the model that judges by them, and the positions of the pairs of rows that it judges."""

    criteria: Sequence[Criterion]
    worker: Ask
    pairs: Sequence[tuple[int, int]]


def random_pairs(count: int, number: int, seed: int) -> list[tuple[int, int]]:
    """Return pairs of different positions below ``count``, none twice; each position about equally often."""
    chance, pairs = random.Random(seed), dict[tuple[int, int], None]()
    number = min(number, count * (count - 1) // 2)
    while len(pairs) < number:
        order = chance.sample(range(count), count)
        for first, second in zip(order[::2], order[1::2], strict=False):
            if (second, first) not in pairs and len(pairs) < number:
                pairs[first, second] = None
    return list(pairs)


def criteria_score(
    task: Task,
    rows: Sequence[Row],
    vectors: Vectors,
    judged: CriteriaJudge,
    settings: Mapping[str, Json] | None = None,
) -> Score:
    """Score each row by criteria, from 0 to 1.

    Args:
        task: the rows' task.
        rows: the pool, in its file's order.
        vectors: those of the rows as demonstrations, float32 [num_rows, dimension].
        judged: what is judged, and by whom; the majority of the criteria decides a pair.
        settings: how the vectors were made.

    Raises:
        DataError: the criteria decide too few pairs.
    """
    pairs, criteria = judged.pairs, judged.criteria
    shown = [(rows[first], rows[second]) for first, second in pairs]
    verdicts = [judge(task, one, shown, judged.worker) for one in criteria]
    votes = list(map(majority, zip(*verdicts, strict=True)))
    said = say_unreadable([verdict for one in verdicts for verdict in one])
    decided = [(*pair, vote) for pair, vote in zip(pairs, votes, strict=True) if vote is not Verdict.NEITHER]
    if len(decided) < _FEWEST:
        raise DataError(
            f"the criteria decide {len(decided)} of {len(pairs)} pairs, and a scorer needs {_FEWEST}{said}; "
            "raise --label-pairs, or look at the criteria"
        )
    if said:
        _LOG.warning("criteria: %s", said.removeprefix("; "))
    better = [(first, second) if vote is Verdict.FIRST else (second, first) for first, second, vote in decided]
    values, told = rank(vectors, better)
    return Score(
        name="criteria",
        meaning=_MEANING,
        values=tuple(np.round(values, 6).tolist()),
        flagged_below=0.0,
        settings={
            **(settings or {}),
            "criteria": [criterion.name for criterion in criteria],
            "pairs": len(pairs),
            "decided": len(decided),
            "agrees": round(told, 4),
        },
    )


def rank(vectors: Vectors, better: Sequence[tuple[int, int]]) -> tuple[NDArray[np.float64], float]:
    """Rank rows by a Bradley-Terry model that is linear in their vectors.

    Args:
        vectors: float32 [num_rows, dimension].
        better: positions of a better and a worse row.

    Returns:
        The share of rows than which each is better, float64 [num_rows]; and the share of pairs whose order a model of
        the other pairs tells.
    """
    features = head_features(vectors)
    first, second = np.array(better).T
    differences = features[first] - features[second]
    folds = folds_of(np.zeros(len(better), np.str_), FOLDS)

    def told(strength: float) -> float:
        right = 0
        for fold in range(FOLDS):
            held = folds == fold
            right += int((differences[held] @ _direction(differences[~held], strength) > 0).sum())
        return right / len(better)

    agreement, strength = max((told(strength), strength) for strength in _STRENGTHS)
    utilities = features @ _direction(differences, strength)
    below = np.searchsorted(np.sort(utilities), utilities, side="left")
    return below / max(1, len(utilities) - 1), agreement


def _direction(differences: NDArray[np.float64], strength: float) -> NDArray[np.float64]:
    """Return the direction along which the first rows of pairs are better, float64 [num_features]."""
    # Each pair counts in both orders, so that the model has no constant.
    both = np.concatenate([differences, -differences])
    targets = np.repeat(np.array(["better", "worse"]), len(differences))
    weights = fit_weights(both, targets, np.array(["better", "worse"]), strength)
    direction: NDArray[np.float64] = weights[0, :-1] - weights[1, :-1]
    return direction
