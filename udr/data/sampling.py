"""Reproducible samples of rows."""

import hashlib
import heapq
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
