"""The live pool: follows the log of writes, shows them with a version, and writes for this process."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path

from udr.data import Filter
from udr.errors import NotWriterError, StorageError, UdrError
from udr.store.live.base import Base
from udr.store.live.changes import Change, Outcome, decide, repeated
from udr.store.live.log import LOG, Durability, WriteLog
from udr.store.live.overlay import Overlay, TaskWrites
from udr.store.live.pool.reading import Encode, refuse_outdated, settled, understood
from udr.store.live.pool.shortening import is_long, shorten
from udr.store.live.pool.writer import Writer
from udr.store.live.records import DamagedRecordError
from udr.store.live.view import View
from udr.store.live.writes import Write, read_writes
from udr.store.version import LIVE
from udr.types import Row

_LOG = logging.getLogger(__name__)


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
        self._unshortened = 0  # bytes of the log when it could not be rewritten
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

    @property
    def log_bytes(self) -> int:
        """How many bytes the log has, as far as it was read."""
        return 0 if self._log is None else self._log.size

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
        emptied = [task for task, size in self.view().sizes.items() if not size] if forgotten else []
        shorten(self._root / LIVE, self.base, forgotten, holder, emptied)

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
                refuse_outdated(self._root, self.base, before.holder, self._overlay.holder)
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
            self._shorten_if_long(self._log)
        except BaseException as error:
            for _, future in queued:
                # Of some of these, what becomes of them is known already.
                if not future.done():
                    future.set_exception(error)

    def _shorten_if_long(self, log: WriteLog) -> None:
        """Keep a log in which the same rows are written again and again from growing for ever."""
        if not is_long(log) or log.size < 2 * self._unshortened:
            return
        try:
            self.shorten()
            self._unshortened = 0
        except UdrError as error:
            self._unshortened = log.size
            _LOG.warning("the log of writes was not shortened: %s", error)

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
