"""A demonstration's score, from the likelihoods of its prompt's options (paper, section 3.2) or from an answer."""

import numpy as np
from numpy.typing import NDArray

from udr.data import Kind, Normalise, Task, formatting
from udr.types import Row
from udr_training.answering import answer_value
from udr_training.feedback.packing import Likelihoods
from udr_training.feedback.pairs import Pair

# The nearest to 0 and 1 that a share is stored, so that its logarithm is finite.
_EDGE = 1e-6


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


def answer_score(pair: Pair, answer: str) -> float:
    """Return the task's metric, 0 to 1, of the answer to a pair's query."""
    task, query = pair.task, pair.query
    source = formatting.input_words(task, query.input, query.choices)
    return answer_value(task.metric, answer, query.references or (query.target,), source)


def as_likelihoods(task: Task, query: Row, score: float) -> Likelihoods:
    """Return log-likelihoods of a row's options whose score is ``score``, 0 to 1; the other options share the rest.

    So scores of every kind lie in the same store, and are read by the same formula.
    """
    if task.kind is Kind.GENERATION:
        return Likelihoods(np.array([score]), (1,))
    count, gold = len(formatting.targets(task, query)), formatting.gold(task, query)
    share = min(max(score, _EDGE), 1 - _EDGE) if count > 1 else 1.0
    sums = np.full(count, np.log((1 - share) / (count - 1)) if count > 1 else 0.0)
    sums[gold] = np.log(share)
    return Likelihoods(sums, (1,) * count)
