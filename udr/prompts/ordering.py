"""In which order a prompt shows its demonstrations."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum

from udr.retrieval import RetrievedDemonstration


class Order(StrEnum):
    """What stands where in a prompt; the query stands last."""

    NEAREST_LAST = "nearest_last"
    """By similarity, ascending; of equals the better rank later, so that the best stands beside the query."""

    NEAREST_FIRST = "nearest_first"
    """By similarity, descending; of equals the better rank first."""

    ALTERNATE_LABELS = "alternate_labels"
    """Targets alternate as far as their numbers allow, the nearest last."""

    SHUFFLE = "shuffle"
    """By chance, from a seed; another order for another query, the same one for the same query in any process."""


Arrange = Callable[[Sequence[int]], Sequence[int]]
"""From positions, in whatever order, to the order in which they are shown."""


def arranged(order: Order, demonstrations: Sequence[RetrievedDemonstration], query: str, seed: int) -> Arrange:
    """Return what arranges positions of these demonstrations.

    Args:
        order: how.
        demonstrations: in the order of choice, the best first.
        query: the query's text; only a shuffle depends on it.
        seed: of a shuffle.
    """
    positions = range(len(demonstrations))
    nearest = sorted(positions, key=lambda position: -demonstrations[position].similarity)
    if order is Order.ALTERNATE_LABELS:
        by_nearness, targets = _by_place(nearest), [one.target for one in demonstrations]
        return lambda taken: alternate(by_nearness(taken), targets)
    if order is Order.SHUFFLE:
        return _by_place(sorted(positions, key=lambda position: _lot(seed, query, demonstrations[position])))
    return _by_place(nearest if order is Order.NEAREST_FIRST else nearest[::-1])


def alternate(nearest: Sequence[int], targets: Sequence[str]) -> list[int]:
    """Return positions so that as few neighbours as can be have the same target, the nearest last.

    Args:
        nearest: positions, the nearest first.
        targets: the target at each position.
    """
    left = list(nearest)
    counts = Counter(targets[position] for position in left)
    most = len(left)
    placed: list[int] = []
    before = None
    while left:
        size, place = len(left), 0
        if 2 * most > size:
            most = max(counts.values())
        common = _common(counts, most) if placed and 2 * most > size else None
        if common is not None and common != before:
            # A target that more than half of the rest have has to come now, or its copies will stand side by side.
            while targets[left[place]] != common:
                place += 1
        else:
            while place < size and targets[left[place]] == before:
                place += 1
        position = left.pop(place if place < size else 0)
        before = targets[position]
        counts[before] -= 1
        placed.append(position)
    return placed[::-1]


def _common(counts: Counter[str], most: int) -> str:
    return next(target for target, count in counts.items() if count == most)


def _by_place(order: Sequence[int]) -> Arrange:
    places = {position: place for place, position in enumerate(order)}
    return lambda taken: sorted(taken, key=places.__getitem__)


def _lot(seed: int, query: str, demonstration: RetrievedDemonstration) -> bytes:
    drawn = json.dumps([seed, query, demonstration.task, demonstration.id])
    return hashlib.sha256(drawn.encode()).digest()
