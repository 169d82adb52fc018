"""The overlay: what all writes so far leave, by task and id. Immutable, so that a request sees one state of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from udr.search import Vectors
from udr.store.live.writes import Receipt, Write
from udr.types import Row

RECEIPTS = 10_000
"""How many of the newest keys of clients for a write are known."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A row that was written.

    Attributes:
        row: the row.
        vector: what the encoder made of it, float32 [dimension].
        tokens: how many tokens it has as a prompt shows it, if that was counted.
        encoder: the encoder's fingerprint.
        tokenizer: that of the tokenizer.
        wording: that of what both read.
        position: that of the write.
        seconds: when it was written, since 1970.
    """

    row: Row
    vector: Vectors
    tokens: int | None
    encoder: str
    tokenizer: str | None
    wording: str
    position: int
    seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class TaskWrites:
    """What the writes to one task leave: the rows put, by id, and the positions of deletions, by id."""

    rows: Mapping[str, Stored] = field(default_factory=dict)
    deleted: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Overlay:
    """What all writes up to a position leave; the tasks that a write does not change are the same objects before it.

    Attributes:
        position: the position of the last write; 0 before the first.
        tasks: what they leave, by task.
        receipts: of clients' keys, oldest first.
        forgotten, holder: as in ``Write``, the last ones.
    """

    position: int = 0
    tasks: Mapping[str, TaskWrites] = field(default_factory=dict)
    receipts: Mapping[str, Receipt] = field(default_factory=dict)
    forgotten: float = 0.0
    holder: str = ""

    def after(self, writes: Sequence[tuple[int, Write]], position: int | None = None) -> "Overlay":
        """Return the overlay after more writes, each with its position; ``position`` is that of the last one."""
        rows, deleted = dict[str, dict[str, Stored]](), dict[str, dict[str, int]]()
        receipts, tasks, forgotten, holder = dict(self.receipts), dict(self.tasks), self.forgotten, self.holder
        for at, write in writes:
            receipts |= {receipt.key: receipt for receipt in write.receipts}
            forgotten, holder = max(forgotten, write.forgotten), write.holder or holder
            if not (write.rows or write.deleted):
                continue
            if write.task not in rows:
                before = self.tasks.get(write.task, TaskWrites())
                rows[write.task], deleted[write.task] = dict(before.rows), dict(before.deleted)
            own, gone = rows[write.task], deleted[write.task]
            for row, vector, tokens in zip(write.rows, write.vectors, write.tokens, strict=True):
                made_by = write.encoder, write.tokenizer, write.wording
                own[row.id] = Stored(row, vector, tokens, *made_by, at, write.seconds)
                gone.pop(row.id, None)
            for id in write.deleted:
                own.pop(id, None)
                gone[id] = at
        for key in list(receipts)[: max(0, len(receipts) - RECEIPTS)]:
            del receipts[key]
        tasks |= {task: TaskWrites(rows[task], deleted[task]) for task in rows}
        last = writes[-1][0] if writes else self.position
        position = last if position is None else position
        return Overlay(position, tasks, receipts, forgotten, holder)

    def net(self) -> Iterator[tuple[int, Write]]:
        """Yield writes that leave the same, in the order of their positions.

        All receipts, ``forgotten`` and ``holder`` are in one at the overlay's position, which has neither rows nor a
        task if nothing else is there.
        """
        found: dict[int, list[tuple[str, Stored | str]]] = {}
        for task, writes in self.tasks.items():
            for stored in writes.rows.values():
                found.setdefault(stored.position, []).append((task, stored))
            for id, position in writes.deleted.items():
                found.setdefault(position, []).append((task, id))
        if self.receipts or self.forgotten or self.holder:
            found.setdefault(self.position, [])
        for position in sorted(found):
            items = found[position]
            rows = [item for _, item in items if isinstance(item, Stored)]
            deleted = [item for _, item in items if isinstance(item, str)]
            vectors = np.stack([item.vector for item in rows]) if rows else np.empty((0, 0), np.float32)
            first = rows[0] if rows else None
            yield (
                position,
                Write(
                    task=items[0][0] if items else "",
                    rows=[item.row for item in rows],
                    vectors=vectors,
                    tokens=[item.tokens for item in rows],
                    deleted=deleted,
                    encoder=first.encoder if first else "",
                    tokenizer=first.tokenizer if first else None,
                    wording=first.wording if first else "",
                    seconds=first.seconds if first else 0.0,
                    receipts=tuple(self.receipts.values()) if position == self.position else (),
                    forgotten=self.forgotten if position == self.position else 0.0,
                    holder=self.holder if position == self.position else "",
                ),
            )
