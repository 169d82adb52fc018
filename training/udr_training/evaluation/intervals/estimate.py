"""Numbers on test rows with 95 % intervals: a task's value, a gain between two values, and means over tasks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from udr_training.answering import Judge, Statistics
from udr_training.evaluation.intervals.bootstrap import RESAMPLES, bootstrap_t, draws, percentiles
from udr_training.evaluation.intervals.proportions import Z, paired, wilson

EXPLANATION = (
    "95 %. Shares of right answers: Wilson; their gains: Bonett and Price, paired by row. Other scores, and their "
    f"gains: bootstrap-t over test rows, {RESAMPLES} resamples. BLEU: percentiles of the bootstrap. Means over tasks: "
    "from the tasks' intervals (MOVER)"
)
"""How intervals are made, for reports."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number on the test rows, in points.

    Attributes:
        value: the number.
        interval: the ends of its 95 % interval.
        error: its standard error.
        method: how the interval was made.
        rows: the number of each test row whose mean it is, [rows]; None if it is no mean of rows.
        samples: its values on resamples, [resamples]; None if it has none.
        parts: the tasks' estimates if it is their mean.
    """

    value: float
    interval: tuple[float, float]
    error: float
    method: str
    rows: NDArray[np.floating] | None = None
    samples: NDArray[np.floating] | None = None
    parts: tuple["Estimate", ...] = ()

    @staticmethod
    def of_rows(rows: NDArray[np.floating]) -> "Estimate":
        """Return the mean of rows, [count], each from 0 to 100."""
        value, count = float(rows.mean()), len(rows)
        error = float(rows.std()) / count**0.5
        # Equal rows do not show how far off others may lie, so they too get the interval of a share.
        if np.isin(rows, (0.0, 100.0)).all() or _agree(rows):
            low, high = wilson(value / 100, count)
            return Estimate(value=value, interval=(100 * low, 100 * high), error=error, method="wilson", rows=rows)
        low, high = bootstrap_t(rows)
        ends = max(0.0, low), min(100.0, high)
        return Estimate(value=value, interval=ends, error=error, method="bootstrap-t", rows=rows)

    @staticmethod
    def of_samples(value: float, samples: NDArray[np.floating]) -> "Estimate":
        """Return a number with its values on resamples, [resamples]."""
        error = float(samples.std())
        return Estimate(value=value, interval=percentiles(samples), error=error, method="percentiles", samples=samples)

    @staticmethod
    def exact(value: float) -> "Estimate":
        """Return a number that depends on no sample."""
        return Estimate(value=value, interval=(value, value), error=0.0, method="exact")

    def __sub__(self, other: "Estimate") -> "Estimate":
        """Return the gain over another estimate on the same rows, paired by row or by resample."""
        if self.parts and other.parts:
            return mean([own - others for own, others in zip(self.parts, other.parts, strict=True)])
        if self.rows is not None and other.rows is not None:
            return _gain(self.rows - other.rows)
        if self.samples is not None and other.samples is not None:
            if _agree(self.samples) and _agree(other.samples):
                return _difference(self, other)
            return Estimate.of_samples(self.value - other.value, self.samples - other.samples)
        raise TypeError(f"no paired difference of {self.method} and {other.method}")


def _gain(rows: NDArray[np.floating]) -> Estimate:
    """Return the mean of differences by row, [count], each from -100 to 100."""
    value, count = float(rows.mean()), len(rows)
    # Equal differences do not show how far off others may lie: they count as if such a share of the rows were won.
    if np.isin(rows, (-100.0, 0.0, 100.0)).all() or _agree(rows):
        won, lost = float(rows.clip(min=0).sum()) / 100, -float(rows.clip(max=0).sum()) / 100
        low, high, share = paired(won, lost, count)
        ends = 100 * low, 100 * high
        return Estimate(value=value, interval=ends, error=100 * share, method="bonett-price", rows=rows)
    low, high = bootstrap_t(rows)
    error, ends = float(rows.std()) / count**0.5, (max(-100.0, low), min(100.0, high))
    return Estimate(value=value, interval=ends, error=error, method="bootstrap-t", rows=rows)


def _difference(first: Estimate, second: Estimate) -> Estimate:
    """Return the difference of two estimates without spread, as of independent ones, by the method of ``mean``."""
    (low, high), (other_low, other_high) = first.interval, second.interval
    value = first.value - second.value
    below = float(np.hypot(first.value - low, other_high - second.value))
    above = float(np.hypot(high - first.value, second.value - other_low))
    ends = max(-100.0, value - below), min(100.0, value + above)
    return Estimate(value=value, interval=ends, error=(below + above) / (2 * Z), method="mover")


def _agree(values: NDArray[np.floating]) -> bool:
    """Return whether all values are the same, up to rounding."""
    return float(np.ptp(values)) < 1e-9


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean of the estimates of several tasks, whose rows are independent; each task counts the same.

    Its interval follows from theirs by the method of variance estimates recovery, MOVER (Zou and Donner 2008): the
    distances from a value to the ends of its interval add up as standard errors do, each side for itself.
    """
    if len(estimates) == 1:
        return estimates[0]
    value = float(np.mean([part.value for part in estimates]))
    below = np.array([part.value - part.interval[0] for part in estimates])
    above = np.array([part.interval[1] - part.value for part in estimates])
    errors = np.array([part.error for part in estimates])
    reach = [float(np.sqrt((side**2).sum()) / len(estimates)) for side in (below, above, errors)]
    ends = value - reach[0], value + reach[1]
    return Estimate(value=value, interval=ends, error=reach[2], method="mover", parts=tuple(estimates))


def estimate(judged: Judge, statistics: Statistics, task: str, seed: int) -> Estimate:
    """Return a task's value from the statistics of its answers, [rows, width].

    Resamples, where the metric needs them, depend only on the task's name, the number of rows and the seed.
    """
    if judged.is_mean:
        return Estimate.of_rows(100 * statistics[:, 0])
    value = judged.value(statistics.sum(axis=0))
    samples = np.array([judged.value(statistics[rows].sum(axis=0)) for rows in draws(task, len(statistics), seed)])
    result = Estimate.of_samples(value, samples)
    if not _agree(samples):
        return result
    # As with equal rows: resamples that agree do not show how far off other rows may lie.
    low, high = wilson(min(1.0, value / 100), len(statistics))
    return replace(result, interval=(100 * low, 100 * high), method="wilson")
