"""Intervals and sample sizes against published values, and against the truth in simulations."""

import numpy as np
import pytest

from udr.data import Metric
from udr_training.answering import judge
from udr_training.evaluation import (
    RESAMPLES,
    Estimate,
    bootstrap_t,
    draws,
    estimate,
    mean,
    paired,
    rows_missing,
    wilson,
)


def accuracy(*right: float, task: str = "task") -> Estimate:
    return estimate(judge(Metric.ACCURACY), np.array([[float(value), 1.0] for value in right]), task, 0)


@pytest.mark.parametrize(
    ("right", "count", "ends"),
    # Newcombe (1998), table I, method 3.
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 29, (0.0061, 0.1718))],
)
def test_wilson_has_the_published_values(right: int, count: int, ends: tuple[float, float]) -> None:
    assert wilson(right / count, count) == pytest.approx(ends, abs=5e-5)
    low, high = accuracy(*[1] * right, *[0] * (count - right)).interval
    assert (low / 100, high / 100) == pytest.approx(ends, abs=5e-5)


def test_all_right_is_no_certainty() -> None:
    all_right = accuracy(*[1] * 20)
    assert all_right.value == 100 and all_right.interval == pytest.approx((83.9, 100), abs=0.05)
    equal = accuracy(*[1, 0] * 10) - accuracy(*[1, 0] * 10)
    assert equal.value == 0 and equal.interval[0] < -5 and equal.interval[1] > 5
    perfect = np.array([[2.0, 1, 1, 1, 2, 1, 1, 1, 3, 3]] * 20)
    bleu = estimate(judge(Metric.BLEU), perfect, "task", 0)
    assert bleu.interval[0] < bleu.value


def test_equal_differences_are_no_certainty() -> None:
    # As of shares: 0.3 of 10 rows won, and none lost, is a gain of 3 points.
    first, second = np.full(10, 45.1), np.full(10, 42.1)
    gain = Estimate.of_rows(first) - Estimate.of_rows(second)
    low, high, error = paired(0.3, 0, 10)
    assert gain.value == pytest.approx(3) and gain.error == pytest.approx(100 * error)
    assert gain.interval == pytest.approx((100 * low, 100 * high)) and low < 0 < high
    loss = Estimate.of_rows(second) - Estimate.of_rows(first)
    assert loss.interval == pytest.approx((-100 * high, -100 * low))
    # The same numbers up to rounding, and one row.
    rounded = Estimate.of_rows(np.array([0.1, 0.2, 0.3]) + np.array([33.2, 33.1, 33.0]))
    assert rounded.interval == pytest.approx(tuple(100 * end for end in wilson(0.333, 3)))
    one = Estimate.of_rows(np.array([80.0])) - Estimate.of_rows(np.array([20.0]))
    assert one.interval[0] < 0 < one.error


def test_a_gain_in_bleu_on_one_row_is_no_certainty() -> None:
    judged, better, worse = judge(Metric.BLEU), [4.0, 3, 2, 1, 4, 3, 2, 1, 4, 4], [3.0, 2, 1, 1, 4, 3, 2, 1, 4, 4]
    first, second = (estimate(judged, np.array([row]), "task", 0) for row in (better, worse))
    gain = first - second
    below = np.hypot(first.value - first.interval[0], second.interval[1] - second.value)
    assert gain.value == pytest.approx(first.value - second.value) and gain.value > 0
    assert gain.interval == pytest.approx((gain.value - below, gain.value + second.value - second.interval[0]))
    assert gain.interval[0] < 0 and gain.error > 10


def test_paired_differences_have_the_value_of_their_formula() -> None:
    # Of 30 rows, 10 are won and 2 lost: 11/32 and 3/32 of the rows with one more of each.
    low, high, error = paired(10, 2, 30)
    assert error == pytest.approx(((14 / 32 - (8 / 32) ** 2) / 32) ** 0.5)
    assert (low, high) == pytest.approx((0.25 - 1.96 * error, 0.25 + 1.96 * error), abs=1e-4)
    gain = accuracy(*[1] * 10, *[0] * 20) - accuracy(*[0] * 10, *[1] * 2, *[0] * 18)
    assert gain.value == pytest.approx(100 * 8 / 30) and gain.interval == pytest.approx((100 * low, 100 * high))


def test_the_bootstrap_t_is_near_students_interval_for_symmetric_rows() -> None:
    rows = np.random.default_rng(0).normal(50, 10, 40)
    reach = 2.0227 * rows.std(ddof=1) / 40**0.5
    assert bootstrap_t(rows) == pytest.approx((rows.mean() - reach, rows.mean() + reach), abs=0.6)
    low, high = bootstrap_t(np.array([0.2, 0.9]))
    assert low == -np.inf and high == np.inf
    assert bootstrap_t(np.full(5, 3.0)) == (3, 3)


def cover(kind: str, generator: np.random.Generator) -> bool:
    """Return whether the interval of one sample contains the truth."""
    if kind == "share":
        sample = Estimate.of_rows(100.0 * (generator.random(20) < 0.95))
        truth = 95.0
    elif kind == "gain":
        first, second = (generator.random(60) < share for share in (0.7, 0.6))
        sample, truth = Estimate.of_rows(100.0 * first) - Estimate.of_rows(100.0 * second), 10.0
    elif kind == "scores":
        sample, truth = Estimate.of_rows(100 * generator.beta(8, 1, 40)), 100 * 8 / 9
    else:
        parts = [Estimate.of_rows(100.0 * (generator.random(20) < share)) for share in (0.95, 0.6, 0.8)]
        sample, truth = mean(parts), 100 * (0.95 + 0.6 + 0.8) / 3
    return sample.interval[0] <= truth <= sample.interval[1]


@pytest.mark.parametrize("kind", ["share", "gain", "scores", "mean of tasks"])
def test_19_of_20_intervals_contain_the_truth(kind: str) -> None:
    generator = np.random.default_rng(1)
    covered = np.mean([cover(kind, generator) for _ in range(600)])
    # Wilson's for 19 of 20: it has 0.925 there, by the binomial distribution.
    assert 0.9 <= covered <= 0.99


@pytest.mark.parametrize(("gain", "both"), [(6, 10), (10, 20), (3, 6)])
def test_as_many_rows_as_are_missing_show_a_gain_in_8_of_10_tests(gain: int, both: int) -> None:
    # An oracle: the first is right on more rows by ``gain`` percent, and the two differ on ``both`` percent.
    generator = np.random.default_rng(gain)
    won, lost = (both + gain) / 200, (both - gain) / 200

    def differences(rows: int) -> Estimate:
        drawn = generator.choice((100.0, -100.0, 0.0), p=(won, lost, 1 - won - lost), size=rows)
        return Estimate.of_rows((drawn > 0) * 100.0) - Estimate.of_rows((drawn < 0) * 100.0)

    pilot = differences(4000)
    missing = rows_missing(gain, pilot.error * (4000 / 40) ** 0.5, 40)
    seen = np.mean([differences(40 + missing).interval[0] > 0 for _ in range(800)])
    assert 0.74 <= seen <= 0.87


def test_no_rows_are_missing_for_a_large_gain() -> None:
    assert rows_missing(50.0, 5.0, 100) == 0
    assert rows_missing(5.0, 5.0, 100) == pytest.approx(100 * 7.849 - 100, abs=1)
    with pytest.raises(ValueError, match="above 0"):
        rows_missing(0.0, 5.0, 100)


def test_draws_depend_only_on_task_and_seed() -> None:
    first = [next(draws(task, 50, seed)).tolist() for task, seed in (("a", 0), ("a", 0), ("b", 0), ("a", 1))]
    assert first[0] == first[1] and first[0] not in first[2:]
    assert len(list(draws("a", 2, 0))) == RESAMPLES


def test_means_count_tasks_once_and_their_gains_are_paired_by_task() -> None:
    tasks = [accuracy(*([1] * 10 + [0] * 10), task=name) for name in "abcd"]
    result = mean(tasks)
    own, all_tasks = np.diff(tasks[0].interval), np.diff(result.interval)
    assert result.value == 50 and all_tasks == pytest.approx(own / 2)
    assert result.error == pytest.approx(100 / 80**0.5 / 2)
    assert mean(tasks[:1]) is tasks[0]
    others = [accuracy(*([1] * 12 + [0] * 8), task=name) for name in "abcd"]
    gain = mean(others) - result
    assert gain.value == pytest.approx(10)
    assert gain.interval == mean([other - task for other, task in zip(others, tasks, strict=True)]).interval
    with pytest.raises(TypeError, match="no paired difference"):
        result - tasks[0]


def test_estimates_of_a_corpus_metric_are_paired_by_resample() -> None:
    samples = np.arange(0, 1001, dtype=float)
    assert Estimate.of_samples(500.0, samples).interval == (25, 975)
    same = Estimate.of_samples(500.0, samples) - Estimate.of_samples(499.0, samples - 1)
    assert (same.value, same.interval) == (1, (1, 1))
