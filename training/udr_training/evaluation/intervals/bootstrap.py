"""Resamples of test rows, and the bootstrap-t.

A resample draws a task's test rows with replacement. All retrievers and numbers of demonstrations share the rows of a
resample, so the difference of two values on it is without the variance that they have in common.
"""

import hashlib
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
_INTERVAL = (0.025, 0.975)
# Rows of resamples that are in memory at a time.
_ROWS_AT_ONCE = 4_000_000


def draws(task: str, size: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Yield the rows of each resample: [size] positions, drawn with replacement."""
    generator = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{seed}:{task}".encode()).digest()[:8]))
    for _ in range(RESAMPLES):
        yield generator.integers(size, size=size)


def percentiles(samples: NDArray[np.floating]) -> tuple[float, float]:
    """Return the middle 95 % of the values of resamples, [resamples]."""
    low, high = np.quantile(samples, _INTERVAL)
    return float(low), float(high)


def bootstrap_t(rows: NDArray[np.floating]) -> tuple[float, float]:
    """Return the 95 % interval of the mean of rows, [count], by the bootstrap-t; infinite ends where rows are too few.

    Each resample's distance from the mean is divided by its own standard error (Efron 1981), so the interval follows
    the skew of values near an end of their range, where percentiles are too narrow. Equal rows give no interval: its
    ends are the mean.
    """
    return _bootstrap_t(np.ascontiguousarray(rows, dtype=np.float64).tobytes())


# Reports ask for the same interval many times.
@lru_cache(maxsize=4096)
def _bootstrap_t(data: bytes) -> tuple[float, float]:
    rows = np.frombuffer(data)
    size, centre = len(rows), float(rows.mean())
    error = float(rows.std()) / size**0.5
    if not error:
        return centre, centre
    generator, distances = np.random.default_rng(0), []
    at_once = max(1, _ROWS_AT_ONCE // size)
    for first in range(0, RESAMPLES, at_once):
        drawn = rows[generator.integers(size, size=(min(at_once, RESAMPLES - first), size))]
        distance, spread = drawn.mean(axis=1) - centre, drawn.std(axis=1) / size**0.5
        # A resample of equal rows has no spread: it is infinitely far, unless it has the mean.
        with np.errstate(divide="ignore", invalid="ignore"):
            distances.append(np.where(np.abs(distance) < 1e-12, 0.0, distance / spread))
    low, high = np.quantile(np.concatenate(distances), _INTERVAL, method="inverted_cdf")
    return centre - float(high) * error, centre - float(low) * error
