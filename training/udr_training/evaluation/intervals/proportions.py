"""Intervals of shares of right answers, in closed form: they are honest near 0 and 1, and for few rows."""

from math import sqrt

Z = 1.959963984540054
"""The normal distribution's 97.5 % quantile."""


def wilson(share: float, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share among ``count`` rows (Wilson 1927), 0 to 1."""
    centre, weight = share + Z**2 / (2 * count), 1 + Z**2 / count
    reach = Z * sqrt(share * (1 - share) / count + Z**2 / (4 * count**2))
    return max(0.0, (centre - reach) / weight), min(1.0, (centre + reach) / weight)


def paired(won: float, lost: float, count: int) -> tuple[float, float, float]:
    """Return the 95 % interval of the difference of two shares on the same rows (Bonett and Price 2012), and its error.

    One row more is counted as won and one as lost, so equal answers on few rows are no proof that there is no
    difference.

    Args:
        won: rows on which only the first is right; parts of rows are allowed.
        lost: rows on which only the second is right.
        count: all rows.

    Returns:
        The ends, -1 to 1, and the standard error.
    """
    more, fewer = (won + 1) / (count + 2), (lost + 1) / (count + 2)
    error = sqrt((more + fewer - (more - fewer) ** 2) / (count + 2))
    return max(-1.0, more - fewer - Z * error), min(1.0, more - fewer + Z * error), error
