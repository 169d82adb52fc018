"""The bootstrap against values computed by hand."""

import numpy as np
import pytest

from udr.data import Metric
from udr_training.evaluation import RESAMPLES, Estimate, draws, estimate, judge, mean


def accuracy(*right: int, task: str = "task", seed: int = 0) -> Estimate:
    return estimate(judge(Metric.ACCURACY), np.array([[float(value), 1.0] for value in right]), task, seed)


def test_two_rows_have_the_binomial_distribution_and_its_middle_95_percent() -> None:
    # One of two rows is right: a resample has it never, once or twice, with probability 1/4, 1/2 and 1/4.
    result = accuracy(1, 0)
    values, counts = np.unique(result.samples, return_counts=True)
    assert (result.value, result.interval, values.tolist()) == (50, (0, 100), [0, 50, 100])
    assert counts / RESAMPLES == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    assert (accuracy(1).value, accuracy(1).interval) == (100, (100, 100))
    assert Estimate(500.0, np.arange(0, 1001, dtype=float)).interval == (25, 975)


def test_gains_are_paired() -> None:
    # The second retriever is right on one more of four rows. A resample's gain is 25 times how often it has that row:
    # binomial(4, 1/4), whose values 0 to 3 are within the middle 95 %.
    gain = accuracy(1, 1, 1, 0) - accuracy(1, 1, 0, 0)
    times = np.array([np.count_nonzero(rows == 2) for rows in draws("task", 4, 0)])
    assert gain.samples == pytest.approx(25.0 * times)
    assert gain.value == 25 and gain.interval == (0, 75)
    same = accuracy(1, 0, 1, 1, 0) - accuracy(1, 0, 1, 1, 0)
    assert (same.value, same.interval) == (0, (0, 0))


def test_draws_depend_only_on_task_and_seed() -> None:
    first = [next(draws(task, 50, seed)).tolist() for task, seed in (("a", 0), ("a", 0), ("b", 0), ("a", 1))]
    assert first[0] == first[1] and first[0] not in first[2:]


def test_mean_counts_tasks_once_and_has_half_the_spread_of_four() -> None:
    tasks = [accuracy(*([1] * 10 + [0] * 10), task=name) for name in "abcd"]
    result = mean(tasks)
    assert result.value == 50
    assert result.samples[7] == pytest.approx(np.mean([task.samples[7] for task in tasks]))
    assert result.samples.std() == pytest.approx(tasks[0].samples.std() / 2, rel=0.1)
