"""A demonstration's score, from the likelihoods of its prompt's options (paper, section 3.2)."""

import numpy as np
from numpy.typing import NDArray

from udr.data import Kind, Normalise, Task, formatting
from udr_training.feedback.packing import Likelihoods
from udr_training.feedback.pairs import Pair


def option_values(task: Task, likelihoods: Likelihoods) -> NDArray[np.float64]:
    """Return the values by which a task compares its options, [num_options]: log-likelihoods, in total or per token.

    The task's ``normalise`` decides; by default classification uses sums, since its labels are the same for every
    query, and other kinds use means.
    """
    values = likelihoods.sums.astype(np.float64)
    default = Normalise.SUM if task.kind is Kind.CLASSIFICATION else Normalise.MEAN
    return values / np.asarray(likelihoods.num_tokens) if (task.normalise or default) is Normalise.MEAN else values


def score(task: Task, values: NDArray[np.float64], gold: int) -> float:
    """Return a demonstration's score from its ``option_values``; higher is better (paper, section 3.2).

    Classification and multiple choice: the gold option's softmax share. Generation: the target's value.
    """
    if task.kind is Kind.GENERATION:
        return float(values[gold])
    shares = np.exp(values - values.max())
    return float(shares[gold] / shares.sum())


def pair_score(pair: Pair, likelihoods: Likelihoods) -> float:
    """Return a pair's score from the likelihoods of its options."""
    return score(pair.task, option_values(pair.task, likelihoods), formatting.gold(pair.task, pair.query))
