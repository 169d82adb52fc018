"""The live pool: follows the log of writes, shows them with a version, and writes for this process."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

from udr.data import Filter
from udr.errors import NotWriterError, OutdatedError, StorageError, UdrError
from udr.store.live.base import Base
from udr.store.live.changes import Change, Outcome, decide, repeated
from udr.store.live.log import LOG, Durability, WriteLog
from udr.store.live.overlay import Overlay, TaskWrites
from udr.store.live.pool.reading import Encode, settled, understood, waiting
from udr.store.live.pool.writer import Writer
from udr.store.live.records import DamagedRecordError
from udr.store.live.view import View
from udr.store.live.writes import Write, read_writes
from udr.store.version import LIVE, find_current
from udr.types import Row


class LivePool:
    """A version with the writes on top of it; thread-safe.

    Args:
        root: the index directory; None if the version belongs to none, so that nothing can be written.
        base: the version.
        encode: its encoder, for rows whose vectors another encoder made, or this one of other texts.
        take_lock: takes the lock of the writer, or raises ``NotWriterError``.
        durability: when a write is acknowledged.

    Attributes:
        base, take_lock, durability: as given.
    """

    def __init__(
        self,
        root: Path | None,
        base: Base,
        encode: Encode,
        take_lock: Callable[[], object],
        durability: Durability = "disk",
    ) -> None:
        self.base, self.durability = base, durability
        self._root, self._encode, self.take_lock = root, encode, take_lock
        self._log: WriteLog | None = None
        self._overlay = Overlay()
        self._view = View(base, self._overlay)
        self._reading = threading.Lock()
        self._appending = False
        self._pending: deque[tuple[Change, Future[Outcome]]] = deque()
        # One thread writes for all, so that no other waits for the disk but who wants to.
        self._writer = Writer(self._commit)
        try:
            if root is not None:
                self._log = WriteLog(root / LIVE)
            self.view()
        except BaseException:
            self.close()
            raise

    def at_hand(self) -> View | None:
        """Return what ``view`` returns, or None if that must be read or made first; takes one call of the system."""
        if self._view.overlay is not self._overlay:
            return None
        # What is new in the log while this process writes is not acknowledged yet.
        return None if self._log is not None and not self._appending and self._log.has_news() else self._view

    def view(self) -> View:
        """Return what a request that starts now sees: every write that is acknowledged.

        Raises:
            VerificationError: the log is damaged.
            OutdatedError: writes that this pool has not seen were forgotten, since another version has them.
        """
        if (view := self.at_hand()) is not None:
            return view
        if self._log is not None:
            with self._reading:
                # Else what is new in the log is being written by this process, and not acknowledged yet.
                if not self._appending:
                    self._follow(self._log)
                if self._view.overlay is not self._overlay:
                    self._view = View(self.base, self._overlay, self._view)
        return self._view

    def submit(self, change: Change) -> "Future[Outcome]":
        """Begin to write a change; the result is there once it is durable. What comes meanwhile is written together.

        The result raises:
            NotWriterError: another process writes.
            StorageError: the disk is full or fails.
            RequestError: the change does not fit what is there.
        """
        future: Future[Outcome] = Future()
        self._pending.append((change, future))
        self._writer.wake()
        return future

    def shorten(self, forgotten: int = 0, holder: str = "") -> None:
        """Rewrite the log without what later writes undid, and without what the version has of writes.

        Args:
            forgotten: the position up to which the version has them. Those that it cannot have, to a task that it lacks
                or that do not fit it, stay; and so do the receipts. When it was done stays, too.
            holder: the version that has them.

        Raises:
            NotWriterError: another process writes.
            StorageError: the disk is full or fails.
        """
        if self._root is None or not (self._root / LIVE / LOG).exists():
            return
        self.take_lock()
        # From the file, since what the version says anyway is not in memory.
        with closing(WriteLog(self._root / LIVE)) as log, log.alone():
            overlay = Overlay().after(read_writes(log)[1], log.position)
            if forgotten and any(own.rows or own.deleted for own in overlay.tasks.values()):
                has_rows = any(own.rows for own in overlay.tasks.values())
                overlay = replace(overlay, holder=holder, forgotten=time.time() if has_rows else overlay.forgotten)
            writes = [(at, waiting(self.base, write) if at <= forgotten else write) for at, write in overlay.net()]
            # The last one also has what is no write, such as the receipts.
            kept = [(at, write) for at, write in writes if write.rows or write.deleted or at == overlay.position]
            log.replace([(at, write.to_bytes()) for at, write in kept], overlay.position)

    def close(self) -> None:
        """Close the version and the log, once everything submitted is written."""
        self._writer.close()
        with self._reading:
            self.base.close()
            if self._log is not None:
                self._log.close()

    def _follow(self, log: WriteLog) -> None:
        """Read what is new in the log."""
        if not log.has_news():
            return
        fresh, writes = read_writes(log)
        before = self._overlay
        try:
            if fresh:
                before = Overlay().after(writes)
                self._refuse_outdated(log, before.holder)
                # Of many writes to few rows, only the last ones are encoded.
                before = settled(self.base, before)
                writes = list(before.net())
                before = Overlay(receipts=before.receipts)
            writes = understood(self.base, self._encode, writes)
        except DamagedRecordError as error:
            raise log.damaged(str(error)) from error
        except BaseException:
            # Else these writes would be taken as read, though the pool does not have them.
            log.close()
            raise
        self._overlay = before.after(writes, log.position)

    def _refuse_outdated(self, log: WriteLog, holder: str) -> None:
        """Raise an error if the log has dropped writes since another version has them, which this one may lack.

        A version that was published later than that one lacks them on purpose.
        """
        own = self.base.manifest.version
        known = holder in ("", own, self._overlay.holder)
        if not known and self._root is not None and find_current(self._root) not in (None, own):
            raise OutdatedError(
                f"{log.path}: was emptied of the writes that version {holder} has, and version {own} lacks some of "
                "them; open the index again"
            )

    def _commit(self) -> None:
        """Write what is queued, in the writer's thread; nothing if an earlier call has written it."""
        taken = [self._pending.popleft() for _ in range(len(self._pending))]
        # From here on, nobody can cancel them.
        queued = [(change, future) for change, future in taken if future.set_running_or_notify_cancel()]
        if not queued:
            return
        try:
            if self._log is None:
                raise NotWriterError("these rows are not those of an index directory, so nothing can be written")
            self.take_lock()
            with self._log.alone():
                with self._reading:
                    self._follow(self._log)
                    self._appending = True
                try:
                    while queued:
                        self._commit_some(self._log, queued)
                finally:
                    self._appending = False
        except BaseException as error:
            for _, future in queued:
                # Of some of these, what becomes of them is known already.
                if not future.done():
                    future.set_exception(error)

    def _commit_some(self, log: WriteLog, queued: list[tuple[Change, "Future[Outcome]"]]) -> None:
        """Write the first of what is queued together: up to a change that must see what those before it did."""
        written: dict[tuple[str, str], Row | None] = {}
        accepted: list[tuple[Write, Outcome, Future[Outcome]]] = []
        keys: set[str] = set()
        number = 0
        for change, future in queued:
            if accepted and (isinstance(change.delete, Filter) or change.receipt in keys):
                break
            number += 1
            try:
                if (receipt := self._overlay.receipts.get(change.receipt or "")) is not None:
                    future.set_result(repeated(change, receipt, self._overlay.position))
                    continue
                write, outcome = decide(change, self._to_delete(change), partial(self._row, written))
            except UdrError as error:
                future.set_exception(error)
                continue
            if not (write.rows or write.deleted or write.receipts):
                future.set_result(replace(outcome, position=self._overlay.position))
                continue
            written |= {(change.task, row.id): row for row in write.rows}
            written |= {(change.task, id): None for id in write.deleted}
            accepted.append((self._stamped(write), outcome, future))
            keys |= {change.receipt} if change.receipt is not None else set()
        try:
            if accepted:
                positions = log.append([write.to_bytes() for write, _, _ in accepted], self.durability)
                writes = [(at, write) for at, (write, _, _) in zip(positions, accepted, strict=True)]
                with self._reading:
                    self._overlay = self._overlay.after(writes)
        except StorageError as error:
            for _, _, future in accepted:
                future.set_exception(error)
        else:
            for _, outcome, future in accepted:
                future.set_result(replace(outcome, position=self._overlay.position))
        del queued[:number]

    def _to_delete(self, change: Change) -> Sequence[str]:
        if not isinstance(change.delete, Filter):
            return change.delete
        return View(self.base, self._overlay, self._view).matching(change.task, change.delete, change.within)

    def _row(self, written: dict[tuple[str, str], Row | None], task: str, id: str) -> Row | None:
        """Return a row as it is now, with what is about to be written."""
        if (task, id) in written:
            return written[task, id]
        writes = self._overlay.tasks.get(task, TaskWrites())
        if id in writes.rows:
            return writes.rows[id].row
        return None if id in writes.deleted else self.base.table.row(task, id)

    def _stamped(self, write: Write) -> Write:
        return replace(
            write,
            encoder=self.base.manifest.encoder.fingerprint,
            tokenizer=self.base.tokenizer,
            wording=self.base.wordings.get(write.task, ""),
            seconds=round(time.time(), 3),
        )
