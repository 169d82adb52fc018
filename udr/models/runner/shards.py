"""Work in shards: parts that any worker can do, any number of times, with the same result."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from udr.errors import PartialError, listed

Work = TypeVar("Work")
Result = TypeVar("Result")

Load = Callable[[], tuple[str, Callable[[Work], Result]]]
"""Loads a model where a worker runs: returns the model's identity, and what does a shard's work with it."""


@dataclass(frozen=True, slots=True)
class Shard(Generic[Work]):
    """A part of the work.

    Attributes:
        key: a hash of all that its result depends on, so that a shard done twice is the same shard.
        work: what a worker gets.
        rows: the names of its rows, to report them.
    """

    key: str
    work: Work
    rows: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Done(Generic[Work, Result]):
    """A shard's result, and the seconds that a worker took for it."""

    shard: Shard[Work]
    result: Result
    seconds: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A shard that failed each time, and why it did the last time."""

    rows: tuple[str, ...]
    reason: str


def shard_key(parts: Iterable[bytes | str]) -> str:
    """Return the key of a shard, 32 hex digits, from what its result depends on."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        # The lengths keep ("ab", "c") and ("a", "bc") apart.
        digest.update(f"{len(raw)}:".encode() + raw)
    return digest.hexdigest()


def failed(failures: Sequence[Failure], unit: str) -> PartialError:
    """Return the error of shards that failed, with their rows; ``unit`` is what is counted."""
    rows = [row for failure in failures for row in failure.rows]
    return PartialError(
        f"{len(rows)} {unit} failed on every try, the last time with: {failures[-1].reason}; "
        f"{unit}: {listed(rows, len(rows))}; run the command again to go on: what is stored is not done again"
    )
