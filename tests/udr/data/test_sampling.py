"""What test rows of a number can tell."""

import numpy as np
import pytest

from udr.data import CHANGED_SHARE, few_test_rows, smallest_gain


def test_smallest_gain_is_that_of_an_interval_that_just_excludes_zero() -> None:
    draws = np.random.default_rng(0).choice([1, -1, 0], (4000, 150), p=[CHANGED_SHARE / 2] * 2 + [1 - CHANGED_SHARE])
    # Gains by chance: the sizes that 5 % of them exceed.
    assert smallest_gain(150) == pytest.approx(np.quantile(np.abs(100 * draws.mean(1)), 0.95), rel=0.1)


@pytest.mark.parametrize(
    ("rows", "start"),
    [
        (0, ""),
        (1, "1 test row tells only gains of about 88 points or more from chance; to see a gain of the usual size, "),
        (60, "60 test rows tell only gains of about 11 points or more from chance; "),
        (200, "200 test rows tell only gains of about 6 points or more"),
        (300, ""),
        (5000, ""),
    ],
)
def test_few_test_rows_are_told(rows: int, start: str) -> None:
    told = few_test_rows(rows)
    assert told.startswith(start) and bool(told) == bool(start)
    assert not told or told.endswith("about 5 points, takes about 300")
    assert few_test_rows(rows, "add some") == (f"{told}; add some" if told else "")
