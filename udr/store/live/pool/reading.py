"""What the writes of the log mean to a version, which may have other tasks and another encoder than their writer."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from udr.data import Task, encoder_demonstration, parse_row, row_text
from udr.errors import DataError
from udr.search import Vectors
from udr.store.live.base import Base
from udr.store.live.overlay import Overlay, TaskWrites
from udr.store.live.records import DamagedRecordError
from udr.store.live.writes import Write
from udr.types import Row

_LOG = logging.getLogger(__name__)

Encode = Callable[[Sequence[str]], Vectors]
"""Returns the vectors of demonstrations."""

_ROUNDING = 1e-2
"""How much longer than 1 rounding, such as to float16, may make a vector."""


def settled(base: Base, overlay: Overlay) -> Overlay:
    """Return an overlay without the writes that say what the version says anyway, and those to no task of it."""
    tasks: dict[str, TaskWrites] = {}
    for task, writes in overlay.tasks.items():
        if task not in base.tasks:
            number = len(writes.rows) + len(writes.deleted)
            _LOG.warning("the version has no task %r, so %d writes to it wait for one that has it", task, number)
            continue
        there = {id: row_text(row) for id, row in base.rows(task, (*writes.rows, *writes.deleted)).items()}
        rows = {id: item for id, item in writes.rows.items() if there.get(id) != row_text(item.row)}
        tasks[task] = TaskWrites(rows, {id: at for id, at in writes.deleted.items() if id in there})
    return replace(overlay, tasks=tasks)


def understood(base: Base, encode: Encode, write: Write) -> Write:
    """Return a write as this version takes it: with rows that fit its task, and vectors of its encoder.

    Raises:
        DamagedRecordError: the vectors are not the encoder's, though the write says so.
    """
    if not write.rows or write.task not in base.tasks:
        return write
    task, own = base.tasks[write.task], base.manifest.encoder.fingerprint
    fitting = [place for place, row in enumerate(write.rows) if _fits(task, row)]
    if len(fitting) < len(write.rows):
        number = len(write.rows) - len(fitting)
        _LOG.warning("task %r: %d written rows do not fit the version's definition of it; left out", task.name, number)
    rows = [write.rows[place] for place in fitting]
    vectors, tokens = write.vectors[fitting], [write.tokens[place] for place in fitting]
    if rows and write.encoder != own:
        vectors = encode([encoder_demonstration(task, row) for row in rows])
    elif rows:
        _check(base, vectors)
    return replace(write, rows=rows, vectors=vectors, tokens=tokens, encoder=own)


def _check(base: Base, vectors: Vectors) -> None:
    dimension = base.manifest.encoder.dimension
    if vectors.shape[1] != dimension:
        raise DamagedRecordError(f"a vector of {vectors.shape[1]} numbers was written, the encoder makes {dimension}")
    # Searches rely on it.
    if base.longest is not None and (np.linalg.norm(vectors.astype(float), axis=1) > base.longest + _ROUNDING).any():
        raise DamagedRecordError(f"a vector is longer than {base.longest:g}, which no vector of the encoder is")


def _fits(task: Task, row: Row) -> bool:
    try:
        parse_row(task, row.to_json())
    except DataError:
        return False
    return True
