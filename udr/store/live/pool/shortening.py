"""Shortening: the log is rewritten without what later writes undid, and without what a version has of the rest."""

import time
from collections.abc import Collection
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from udr.store.live.base import Base
from udr.store.live.log import WriteLog
from udr.store.live.overlay import Overlay
from udr.store.live.pool.reading import waiting
from udr.store.live.writes import read_writes

_SHORT = 16 * 1024 * 1024


def is_long(log: WriteLog) -> bool:
    """Return whether a log, as far as it was read, is long, and twice as long as when it was last rewritten."""
    return log.size > max(_SHORT, 2 * log.net_size)


def shorten(folder: Path, base: Base, forgotten: int = 0, holder: str = "", emptied: Collection[str] = ()) -> None:
    """Rewrite the log in a folder; the caller has the lock of the writer.

    Args:
        folder: the folder ``live`` of an index directory.
        base: a version, which tells what no version like it can have.
        forgotten: as in ``LivePool.shorten``.
        holder: as there.
        emptied: the tasks that have no rows left.
    """
    # From the file, since what the version says anyway is not in the pool's memory.
    with closing(WriteLog(folder)) as log, log.alone():
        overlay = Overlay().after(read_writes(log)[1], log.position)
        if forgotten and any(own.rows or own.deleted for own in overlay.tasks.values()):
            has_rows = any(own.rows for own in overlay.tasks.values())
            overlay = replace(overlay, holder=holder, forgotten=time.time() if has_rows else overlay.forgotten)
        writes = [(at, waiting(base, write, emptied) if at <= forgotten else write) for at, write in overlay.net()]
        # The last one also has what is no write, such as the receipts.
        kept = [(at, write) for at, write in writes if write.rows or write.deleted or at == overlay.position]
        log.replace([(at, write.to_bytes()) for at, write in kept], overlay.position)
