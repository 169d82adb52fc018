"""Pools: a task's demonstrations in the order of their ids, and hashes of their rows."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

from udr.data.task import Task
from udr.errors import DataError
from udr.files import canonical_json
from udr.types import Row


@dataclass(frozen=True, slots=True)
class Pool:
    """A task and its demonstrations, sorted by id; ``DataError`` if there are none, or two have the same id."""

    task: Task
    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        if not self.rows:
            raise DataError(f"the pool of task {self.task.name!r} is empty; it needs at least one row")
        rows = tuple(sorted(self.rows, key=lambda row: row.id))
        for row, following in pairwise(rows):
            if row.id == following.id:
                raise DataError(f"two rows of the pool of task {self.task.name!r} have the id {row.id!r}", field="id")
        object.__setattr__(self, "rows", rows)

    def __len__(self) -> int:
        return len(self.rows)


def row_text(row: Row) -> str:
    """Return a row as the index stores it."""
    return json.dumps(row.to_json(), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def pool_digest(pool: Pool) -> str:
    """Return a hash of a pool's task and rows: 16 hex digits."""
    return rows_digest(pool.rows, b"\n" + canonical_json(pool.task.to_json()))


def rows_digest(rows: Iterable[Row], start: bytes = b"") -> str:
    """Return a hash of rows, which depends on their order and on ``start``: 16 hex digits."""
    digest = hashlib.sha256(start)
    for row in rows:
        digest.update(b"\n" + row_text(row).encode())
    return digest.hexdigest()[:16]
