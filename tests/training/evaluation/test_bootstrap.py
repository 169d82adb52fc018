"""The bootstrap against numbers counted by hand."""

import numpy as np
import pytest

from udr.data import Metric
from udr_training.evaluation import RESAMPLES, Estimate, draws, estimate, judge, mean

ACCURACY = judge(Metric.ACCURACY)


def answers(*right: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.array([[float(one), 1.0] for one in right])


def test_two_rows_have_the_binomial_distribution_of_two_draws() -> None:
    # Of two rows, one right: a resample holds it never, once or twice, with probability 1/4, 1/2 and 1/4.
    found = estimate(ACCURACY, answers(1, 0), "task", 0)
    assert found.value == 50
    values, counts = np.unique(found.samples, return_counts=True)
    assert values.tolist() == [0, 50, 100]
    assert counts / RESAMPLES == pytest.approx([0.25, 0.5, 0.25], abs=0.03)
    assert found.interval == (0, 100)


def test_one_row_has_no_spread() -> None:
    found = estimate(ACCURACY, answers(1), "task", 0)
    assert (found.value, found.interval) == (100, (100, 100))


def test_the_interval_holds_the_middle_95_of_100() -> None:
    samples = np.arange(0, 1001, dtype=float)
    assert Estimate(500.0, samples).interval == (25, 975)


def test_equal_answers_gain_exactly_nothing() -> None:
    one, two = (estimate(ACCURACY, answers(1, 0, 1, 1, 0), "task", 3) for _ in range(2))
    gain = one - two
    assert (gain.value, gain.interval) == (0, (0, 0))


def test_gains_are_paired_so_what_both_get_right_or_wrong_does_not_widen_them() -> None:
    # Four rows; the second retriever is right on one more. A resample's gain is 25 times how often it holds that row:
    # binomial(4, 1/4), whose values 0 to 3 are within the middle 95 %.
    worse, better = (estimate(ACCURACY, answers(*right), "task", 0) for right in ((1, 1, 0, 0), (1, 1, 1, 0)))
    gain = better - worse
    times = np.array([np.count_nonzero(rows == 2) for rows in draws("task", 4, 0)])
    assert gain.samples == pytest.approx(25.0 * times)
    assert gain.value == 25 and gain.interval == (0, 75)


def test_resamples_depend_on_task_and_seed_alone() -> None:
    def first(task: str, seed: int) -> list[int]:
        return [int(row) for row in next(draws(task, 50, seed))]

    assert first("a", 0) == first("a", 0)
    assert first("a", 0) != first("b", 0) and first("a", 0) != first("a", 1)


def test_a_mean_counts_each_task_once_and_is_narrower_than_its_tasks() -> None:
    tasks = {name: estimate(ACCURACY, answers(*([1] * 10 + [0] * 10)), name, 0) for name in "abcd"}
    whole = mean(list(tasks.values()))
    assert whole.value == 50
    assert whole.samples[7] == pytest.approx(np.mean([task.samples[7] for task in tasks.values()]))
    # Independent draws: the spread of a mean of four is half of one's.
    assert whole.samples.std() == pytest.approx(tasks["a"].samples.std() / 2, rel=0.1)
