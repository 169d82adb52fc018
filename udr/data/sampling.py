"""Reproducible samples of rows, and what samples of a size can tell."""

import hashlib
import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from udr.types import Row

_Item = TypeVar("_Item")


def sample(rows: Iterable[Row], size: int | None, seed: int) -> list[Row]:
    """Return at most ``size`` rows, selected and ordered by a hash of seed and id; the file's order does not matter.

    A smaller sample is a prefix of a larger one.
    """
    return sample_by(list(rows), size, seed, lambda row: row.id)


def sample_by(items: Sequence[_Item], size: int | None, seed: int, key: Callable[[_Item], str]) -> list[_Item]:
    """Return at most ``size`` items, ordered by a hash of seed and key; the same in every process."""

    def order(item: _Item) -> tuple[bytes, str]:
        return sample_hash(seed, key(item)), key(item)

    # A small sample needs neither a sort nor the hashes of all items.
    return sorted(items, key=order) if size is None else heapq.nsmallest(size, items, key=order)


def sample_hash(seed: int, key: str) -> bytes:
    """Return the hash that orders a sample: the items with the smallest hashes are in it."""
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()


USUAL_GAIN = 5
"""What a better retriever usually gains, in points: right answers of 100."""

CHANGED_SHARE = 0.2
"""The share of the answers that another retriever usually turns from right to wrong, or from wrong to right."""

ENOUGH_TEST_ROWS = int(round(CHANGED_SHARE * (1.96 / USUAL_GAIN * 100) ** 2, -2))
"""About as many test rows show a gain of the usual size: 300."""


def smallest_gain(test_rows: int) -> float:
    """Return the smallest gain, in points, that test rows usually tell from chance: its 95 % interval excludes 0.

    A rule of thumb for before an evaluation, which measures how many answers really change.
    """
    return 100 * 1.96 * math.sqrt(CHANGED_SHARE / test_rows)


def few_test_rows(test_rows: int, remedy: str = "") -> str:
    """Return a sentence on test rows that are too few to see a gain of the usual size; empty if they are enough.

    It ends with ``remedy``, what to do.
    """
    if not test_rows or (gain := round(smallest_gain(test_rows))) <= USUAL_GAIN:
        return ""
    rows = "1 test row tells" if test_rows == 1 else f"{test_rows} test rows tell"
    return (
        f"{rows} only gains of about {gain} points or more from chance; to see a gain of the usual size, about "
        f"{USUAL_GAIN} points, takes about {ENOUGH_TEST_ROWS}{f'; {remedy}' * bool(remedy)}"
    )
