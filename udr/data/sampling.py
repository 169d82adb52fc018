"""Samples of a pool, the same for the same seed."""

import hashlib
import heapq
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from udr.types import Row

_Item = TypeVar("_Item")


def sample(rows: Iterable[Row], size: int | None, seed: int) -> list[Row]:
    """Return at most ``size`` of the rows, chosen and ordered by seed and id, so the file's order has no say.

    A smaller sample is a prefix of a larger one.
    """
    return sample_by(list(rows), size, seed, lambda row: row.id)


def sample_by(items: Sequence[_Item], size: int | None, seed: int, key: Callable[[_Item], str]) -> list[_Item]:
    """Return at most ``size`` items, ordered by a hash of seed and key; the same in every process."""

    def order(item: _Item) -> tuple[bytes, str]:
        return place(seed, key(item)), key(item)

    # A few of very many are found without sorting, or keeping a hash of, all.
    return sorted(items, key=order) if size is None else heapq.nsmallest(size, items, key=order)


def place(seed: int, key: str) -> bytes:
    """Return what decides a sample: the items of the least values are in it."""
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()
