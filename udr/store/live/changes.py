"""Changes: what is asked to be written, checked against the rows that are there, and the outcome."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from udr.data import Filter, row_text
from udr.errors import ConflictError, InvalidInputError, UnknownTaskError, brief
from udr.search import Vectors
from udr.store.live.writes import Receipt, Write
from udr.types import Row

MAX_KEY = 256
"""The maximum length of a client's key for a write, in characters."""

ANY = "*"
"""The version that any row has."""

FindRow = Callable[[str, str], Row | None]
"""Returns a task's row with an id, as it is now."""


def row_version(row: Row) -> str:
    """Return the version of a row, 16 hex digits: a hash of its content, the same wherever the row lies."""
    return hashlib.sha256(row_text(row).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True, eq=False)
class Change:
    """A change of a task's pool, of which all or nothing is done.

    Attributes:
        task: the task.
        rows: the rows to put, with different ids.
        vectors: what the encoder made of them, float32 [len(rows), dimension].
        tokens: how many tokens each has.
        delete: the ids to delete, or a filter of the rows to delete.
        strict: whether an id to delete must be there.
        if_match: the version that the one row put or deleted must have now; ``*`` for any.
        new: whether no row to put may be there.
        within: a filter that rows must pass to be seen, replaced or deleted; for a tenant.
        key: the client's key, by which a change that it repeats is not done again.
        digest: a hash of what was asked with that key.
        owner: whose key it is: one that another owner chose alike is another; None if there is only one.
    """

    task: str
    rows: Sequence[Row] = ()
    vectors: Vectors = field(default_factory=lambda: np.empty((0, 0), np.float32))
    tokens: Sequence[int | None] = ()
    delete: Sequence[str] | Filter = ()
    strict: bool = False
    if_match: str | None = None
    new: bool = False
    within: Filter | None = None
    key: str | None = None
    digest: str = ""
    owner: str | None = None

    @property
    def receipt(self) -> str | None:
        """The key of its receipt; None if the client gave none."""
        return self.key if self.key is None or self.owner is None else f"{self.owner}/{self.key}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a change.

    Attributes:
        position: that of the overlay, which has the change.
        created: the ids put that were new.
        replaced: the ids put that were there before.
        deleted: the ids deleted.
        repeated: whether the client's key says that it was done before; nothing was done now.
    """

    position: int
    created: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    repeated: bool = False


def repeated(change: Change, receipt: Receipt, position: int) -> Outcome:
    """Return the outcome of a change that was done before.

    Raises:
        InvalidInputError: the client's key was used for another change.
    """
    if receipt.digest != change.digest:
        raise InvalidInputError(f"the Idempotency-Key {brief(change.key)} was used for another write; use a new one")
    found = receipt.found
    if change.rows:
        return Outcome(position, receipt.created, found, repeated=True)
    return Outcome(position, deleted=found, repeated=True)


def decide(change: Change, ids: Sequence[str], find: FindRow) -> tuple[Write, Outcome]:
    """Return what to write for a change, and what becomes of it but for the position.

    Args:
        change: the change.
        ids: those to delete.
        find: returns rows as they are before it.

    Raises:
        ConflictError: a row does not have the version that the change depends on.
        UnknownTaskError: a row to delete is not there.
        InvalidInputError: an id belongs to a row outside of ``within``.
    """
    before = {id: find(change.task, id) for id in [*(row.id for row in change.rows), *ids]}
    for id, there in before.items():
        if there is not None and change.within is not None and not change.within.matches(change.task, there):
            # From here on as if there were no such row, so that no message tells anything of it.
            before[id] = None
            if any(row.id == id for row in change.rows):
                raise InvalidInputError(f"the id {brief(id)} cannot be used; choose another")
    put = {row.id for row in change.rows}
    if both := [id for id in change.delete if id in put] if not isinstance(change.delete, Filter) else []:
        raise InvalidInputError(f"the id {brief(both[0])} is both to put and to delete")
    ids = [id for id in ids if id not in put]
    present = [id for id in ids if before[id] is not None]
    if change.strict and len(present) < len(ids):
        missing = next(id for id in ids if before[id] is None)
        raise UnknownTaskError(f"task {change.task!r} has no demonstration {brief(missing)}")
    _check_version(change, ids, before)
    created = tuple(row.id for row in change.rows if before[row.id] is None)
    replaced = tuple(row.id for row in change.rows if before[row.id] is not None)
    key, found = change.receipt, replaced + tuple(present)
    receipts = () if key is None else (Receipt(key, change.digest, created, found),)
    write = Write(change.task, change.rows, change.vectors, change.tokens, present, receipts=receipts)
    return write, Outcome(0, created, replaced, tuple(present))


def _check_version(change: Change, ids: Sequence[str], before: dict[str, Row | None]) -> None:
    if change.new and (there := [row.id for row in change.rows if before[row.id] is not None]):
        raise ConflictError(f"the write is for a new row, but {change.task!r} has {brief(there[0])}; choose another id")
    if change.if_match is None:
        return
    for id in [*(row.id for row in change.rows), *ids]:
        row = before[id]
        if row is None:
            raise ConflictError(f"the write is for a row that is there, but {change.task!r} has no {brief(id)}")
        if change.if_match not in (ANY, found := row_version(row)):
            raise ConflictError(
                f"the write is for version {change.if_match[:40]!r} of row {brief(id)}, which has version {found!r}; "
                "get the row again"
            )
