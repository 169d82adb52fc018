"""What the writes of the log mean to a version, which may have other tasks and another encoder than their writer."""

import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from udr.data import Task, encoder_demonstration, parse_row, row_text
from udr.errors import DataError, OutdatedError
from udr.search import Vectors
from udr.store.live.base import Base
from udr.store.live.log import LOG
from udr.store.live.overlay import Overlay, TaskWrites
from udr.store.live.records import DamagedRecordError
from udr.store.live.writes import Write
from udr.store.version import LIVE, find_current
from udr.types import Row

_LOG = logging.getLogger(__name__)

Encode = Callable[[Sequence[str]], Vectors]
"""Returns the vectors of demonstrations."""

_ROUNDING = 1e-2
"""How much longer than 1 rounding, such as to float16, may make a vector."""


def refuse_outdated(root: Path | None, base: Base, holder: str, known: str) -> None:
    """Raise an error if the log has dropped writes since another version has them, which this one may lack.

    A version that was published later than that one lacks them on purpose.

    Args:
        root: the index directory.
        base: this version.
        holder: the one that has them.
        known: the holder when the log was last read as a whole.
    """
    own = base.manifest.version
    if root is not None and holder not in ("", own, known) and find_current(root) not in (None, own):
        raise OutdatedError(
            f"{root / LIVE / LOG}: was emptied of the writes that version {holder} has, and version {own} lacks some "
            "of them; open the index again"
        )


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


def understood(base: Base, encode: Encode, writes: Sequence[tuple[int, Write]]) -> list[tuple[int, Write]]:
    """Return writes as this version takes them: with rows that fit their tasks, and with vectors of its encoder.

    Vectors and token counts of other texts than those of the version's task are not taken over.

    Raises:
        DamagedRecordError: vectors are not the encoder's, though their write says so.
    """
    taken = [(at, _fitting(base, write)) for at, write in writes]
    texts = {
        at: [(write.task, encoder_demonstration(base.tasks[write.task], row)) for row in write.rows]
        for at, write in taken
        if _is_other(base, write)
    }
    distinct = dict.fromkeys(text for own in texts.values() for text in own)
    vectors = {text: vector for text in distinct if (vector := base.vector_of(*text)) is not None}
    # All at once, since another encoder or another wording of a task concerns every row.
    if new := [text for text in distinct if text not in vectors]:
        vectors |= zip(new, encode([text for _, text in new]), strict=True)
    return [
        (at, _made_again(base, write, [vectors[text] for text in texts[at]]) if at in texts else write)
        for at, write in taken
    ]


def waiting(base: Base, write: Write, emptied: Collection[str]) -> Write:
    """Return what of a write no version like this one can have: a write to another task, and rows that do not fit.

    Of an emptied task, a version keeps the rows, and so the log the deletions.
    """
    if write.task not in base.tasks:
        return write
    task = base.tasks[write.task]
    rest = _only(write, [place for place, row in enumerate(write.rows) if not _fits(task, row)])
    return rest if write.task in emptied else replace(rest, deleted=())


def _fitting(base: Base, write: Write) -> Write:
    """Return a write without rows that do not fit the version's definition of their task."""
    if not write.rows or write.task not in base.tasks:
        return write
    task = base.tasks[write.task]
    places = [place for place, row in enumerate(write.rows) if _fits(task, row)]
    if len(places) < len(write.rows):
        number = len(write.rows) - len(places)
        _LOG.warning("task %r: %d written rows do not fit the version's definition of it; left out", task.name, number)
    return _only(write, places)


def _only(write: Write, places: Sequence[int]) -> Write:
    rows, tokens = [write.rows[place] for place in places], [write.tokens[place] for place in places]
    return replace(write, rows=rows, vectors=write.vectors[list(places)], tokens=tokens)


def _is_other(base: Base, write: Write) -> bool:
    """Return whether another encoder made a write's vectors, or this one of other texts; check the rest."""
    if not write.rows or write.task not in base.tasks:
        return False
    if (write.encoder, write.wording) != (base.manifest.encoder.fingerprint, base.wordings[write.task]):
        return True
    _check(base, write.vectors)
    return False


def _made_again(base: Base, write: Write, vectors: Sequence[Vectors]) -> Write:
    wording, own = base.wordings[write.task], base.manifest.encoder.fingerprint
    tokens = write.tokens if write.wording == wording else [None] * len(write.rows)
    return replace(write, vectors=np.stack(vectors), tokens=tokens, encoder=own, wording=wording)


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
