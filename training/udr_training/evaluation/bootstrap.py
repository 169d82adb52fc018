"""Estimates with intervals: a bootstrap over test rows, paired between retrievers.

A resample draws a task's test rows with replacement. All retrievers and numbers of demonstrations share the rows of a
resample, so the difference of two estimates is an estimate of the difference, without the variance they have in common.
Tasks are drawn independently: shared draws would correlate their estimates, and the mean's interval would be too wide.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from udr_training.evaluation.metrics import Judge, Statistics

RESAMPLES = 2000
_INTERVAL = (2.5, 97.5)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value on the test rows, and its values on resamples of them, [resamples]."""

    value: float
    samples: NDArray[np.float64]

    @property
    def interval(self) -> tuple[float, float]:
        """The ends of the 95 % bootstrap interval."""
        low, high = np.percentile(self.samples, _INTERVAL)
        return float(low), float(high)

    def __sub__(self, other: "Estimate") -> "Estimate":
        """Return the difference, resample by resample."""
        return Estimate(self.value - other.value, self.samples - other.samples)


def mean(estimates: Sequence[Estimate]) -> Estimate:
    """Return the mean of several tasks' estimates; each task counts the same."""
    value = float(np.mean([estimate.value for estimate in estimates]))
    return Estimate(value, np.mean([estimate.samples for estimate in estimates], axis=0))


def estimate(judged: Judge, statistics: Statistics, task: str, seed: int) -> Estimate:
    """Return a task's value and its resamples from the statistics of its answers, [rows, width].

    The draws depend only on the task's name, the number of rows and the seed.
    """
    samples = [judged.value(statistics[rows].sum(axis=0)) for rows in draws(task, len(statistics), seed)]
    return Estimate(judged.value(statistics.sum(axis=0)), np.array(samples))


def draws(task: str, size: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each resample: [size] positions, drawn with replacement."""
    generator = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{seed}:{task}".encode()).digest()[:8]))
    for _ in range(RESAMPLES):
        yield generator.integers(size, size=size)
