"""How many test rows a gain needs."""

import math

from udr_training.evaluation.intervals.proportions import Z

# The normal distribution's 80 % quantile.
_POWER = 0.8416212335729143


def rows_missing(gain: float, error: float, count: int) -> int:
    """Return how many more test rows are needed to see a gain: its 95 % interval then excludes 0 in 8 of 10 tests.

    Args:
        gain: the gain's size, above 0, in the unit of ``error``.
        error: the standard error of the gain that was measured.
        count: the rows it was measured on; more rows are taken to be like them, in the same proportions among tasks.
    """
    if gain <= 0:
        raise ValueError(f"gain must be above 0, found {gain}")
    return max(0, math.ceil(count * ((Z + _POWER) * error / gain) ** 2) - count)
