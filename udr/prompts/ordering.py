"""The order in which a prompt shows its demonstrations."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TypeVar

from udr.errors import InvalidInputError, brief
from udr.retrieval import RetrievedDemonstration


class Order(StrEnum):
    """How a prompt orders its demonstrations; the query comes last."""

    NEAREST_LAST = "nearest_last"
    """By ascending similarity, or ranking score if there is one; ties by descending rank, so that the best is last."""

    NEAREST_FIRST = "nearest_first"
    """By descending similarity, or ranking score if there is one; ties by ascending rank."""

    ALTERNATE_LABELS = "alternate_labels"
    """Targets alternate as far as their counts allow, the nearest last."""

    SHUFFLE = "shuffle"
    """Random, by a seed and the query; the same in every process."""


_Choice = TypeVar("_Choice", bound=StrEnum)


def one_of(choices: type[_Choice], value: str) -> _Choice:
    """Return the choice of this value; ``InvalidInputError`` if there is none."""
    if value not in list(choices):
        name = choices.__name__.lower()
        raise InvalidInputError(f"the {name} must be one of {', '.join(choices)}; found {brief(value)}")
    return choices(value)


def check_seed(order: Order, seed: int) -> None:
    """Raise ``InvalidInputError`` for a seed other than 0 that has no effect, since the order is no shuffle."""
    if seed and order is not Order.SHUFFLE:
        raise InvalidInputError(
            f"the seed {seed} has no effect with the order {str(order)!r}; leave it out, or give the order 'shuffle'"
        )


Arrange = Callable[[Sequence[int]], Sequence[int]]
"""From positions, in any order, to the order in which the prompt shows them."""


def arranged(order: Order, demonstrations: Sequence[RetrievedDemonstration], query: str, seed: int) -> Arrange:
    """Return a function that arranges positions of demonstrations, best first; a shuffle depends on query and seed."""
    positions = range(len(demonstrations))
    nearest = sorted(positions, key=lambda position: -demonstrations[position].ranked_by)
    if order is Order.ALTERNATE_LABELS:
        by_nearness, targets = _by(nearest), [demonstration.target for demonstration in demonstrations]
        return lambda chosen: alternate(by_nearness(chosen), targets)
    if order is Order.SHUFFLE:
        return _by(sorted(positions, key=lambda position: _digest(seed, query, demonstrations[position])))
    return _by(nearest if order is Order.NEAREST_FIRST else nearest[::-1])


def alternate(nearest: Sequence[int], targets: Sequence[str]) -> list[int]:
    """Return positions so that as few neighbours as possible have the same target, the nearest last.

    ``nearest`` has the positions, nearest first, and ``targets`` the target at each position.
    """
    left = list(nearest)
    counts = Counter(targets[position] for position in left)
    highest = len(left)
    result: list[int] = []
    previous = None
    while left:
        if 2 * highest > len(left):
            highest = max(counts.values())
        majority = None
        if result and 2 * highest > len(left):
            majority = next(target for target, count in counts.items() if count == highest)
        # The target of more than half of the rest must come now, or two of its copies will be neighbours.
        forced = majority is not None and majority != previous
        fits = ((targets[p] == majority) if forced else (targets[p] != previous) for p in left)
        position = left.pop(next((index for index, fit in enumerate(fits) if fit), 0))
        previous = targets[position]
        counts[previous] -= 1
        result.append(position)
    return result[::-1]


def _by(order: Sequence[int]) -> Arrange:
    ranks = {position: rank for rank, position in enumerate(order)}
    return lambda chosen: sorted(chosen, key=ranks.__getitem__)


def _digest(seed: int, query: str, demonstration: RetrievedDemonstration) -> bytes:
    key = json.dumps([seed, query, demonstration.task, demonstration.id])
    return hashlib.sha256(key.encode()).digest()
