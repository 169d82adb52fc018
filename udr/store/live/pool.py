"""The live pool: follows the log of writes, shows them with a version, and writes for this process."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from udr.data import Filter, Task, encoder_demonstration, parse_row, row_text
from udr.errors import ArtifactError, DataError, NotWriterError, StorageError, UdrError, system_error
from udr.files import IN_USE, locked
from udr.search import Vectors
from udr.store.live.base import Base
from udr.store.live.changes import Change, Outcome, decide, repeated
from udr.store.live.log import LOG, Durability, WriteLog
from udr.store.live.overlay import Overlay, TaskWrites
from udr.store.live.view import View
from udr.store.live.writes import Write
from udr.store.version import COPY_OF, LIVE
from udr.types import Row

_LOG = logging.getLogger(__name__)

Encode = Callable[[Sequence[str]], Vectors]
"""Returns the vectors of demonstrations."""


class WriterLock:
    """The lock of the one process that writes to an index directory; taken at the first write, kept until closed."""

    def __init__(self, root: Path) -> None:
        self._root, self._folder, self._stack, self._lock = root, root / LIVE, ExitStack(), threading.Lock()
        self._held = False

    def take(self) -> None:
        """Take the lock unless it is held.

        Raises:
            NotWriterError: another process holds it, or the index is a copy of one on a remote store.
            StorageError: it cannot be written.
        """
        with self._lock:
            if self._held:
                return
            if (self._root / COPY_OF).is_file():
                url = (self._root / COPY_OF).read_text("utf-8").strip()
                raise NotWriterError(
                    f"this is a copy of {url}, whose writes would not leave this machine; write to the service of the "
                    "index that is uploaded there"
                )
            try:
                self._folder.mkdir(exist_ok=True)
                self._stack.enter_context(locked(self._folder))
            except ArtifactError as error:
                holder = str(error).removeprefix(f"{self._folder}{IN_USE}").partition(";")[0]
                raise NotWriterError(
                    f"{self._folder}: another process writes to this index, {holder}; send the write to that service, "
                    "or end it"
                ) from error
            except OSError as error:
                raise StorageError(f"the write was refused, and nothing was written: {system_error(error)}") from error
            self._held = True

    def close(self) -> None:
        """Release the lock."""
        with self._lock:
            self._stack.close()
            self._held = False


class LivePool:
    """A version with the writes on top of it; thread-safe.

    Args:
        root: the index directory; None if the version belongs to none, so that nothing can be written.
        base: the version.
        encode: its encoder, for rows whose vectors another encoder made.
        take_lock: takes the lock of the writer, or raises ``NotWriterError``.
        durability: when a write is acknowledged.
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
        self._root, self._encode, self._take_lock = root, encode, take_lock
        self._log = None if root is None else WriteLog(root / LIVE)
        self._overlay = Overlay()
        self._view = View(base, self._overlay)
        self._reading = threading.Lock()
        self._appending = False
        self._pending: list[tuple[Change, Future[Outcome]]] = []
        self._queueing, self._committing = threading.Lock(), threading.Lock()
        try:
            self.view()
        except BaseException:
            self.close()
            raise

    def at_hand(self) -> View | None:
        """Return what ``view`` returns, or None if that must be read or made first; takes one call of the system."""
        news = self._log is not None and (self._view.overlay is not self._overlay or self._log.has_news())
        return None if news else self._view

    def view(self) -> View:
        """Return what a request that starts now sees: every write that is acknowledged.

        Raises:
            VerificationError: the log is damaged.
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

    def write(self, change: Change) -> Outcome:
        """Write a change; return once it is durable. Changes of several threads are written together.

        Raises:
            NotWriterError: another process writes.
            StorageError: the disk is full or fails.
            RequestError: the change does not fit what is there.
        """
        future: Future[Outcome] = Future()
        with self._queueing:
            self._pending.append((change, future))
        with self._committing:
            # One thread writes what all have queued meanwhile.
            if not future.done():
                self._commit()
        return future.result()

    def shorten(self, forgotten: int = 0) -> None:
        """Rewrite the log without what later writes undid, and without all up to the position ``forgotten``.

        Raises:
            NotWriterError: another process writes.
            StorageError: the disk is full or fails.
        """
        if self._root is None or not (self._root / LIVE / LOG).exists():
            return
        self._take_lock()
        # From the file, since what the version says anyway is not in memory.
        log = WriteLog(self._root / LIVE)
        with log.alone():
            _, entries = log.read()
            overlay = Overlay().after([(at, Write.parse(content)) for at, content in entries], log.position)
            log.replace([(at, write.to_bytes()) for at, write in overlay.net() if at > forgotten], overlay.position)
        log.close()

    def close(self) -> None:
        """Close the version and the log."""
        with self._reading:
            self.base.close()
            if self._log is not None:
                self._log.close()

    def _follow(self, log: WriteLog) -> None:
        """Read what is new in the log."""
        if not log.has_news():
            return
        fresh, entries = log.read()
        writes = [(position, Write.parse(content)) for position, content in entries]
        before = self._overlay
        if fresh:
            # Of many writes to few rows, only the last ones are encoded.
            before = self._settled(Overlay().after(writes))
            writes = list(before.net())
            before = Overlay(receipts=before.receipts)
        self._overlay = before.after([(at, self._understood(write)) for at, write in writes], log.position)

    def _settled(self, overlay: Overlay) -> Overlay:
        """Return an overlay without the writes that say what the version says anyway, and those to no task of it."""
        tasks: dict[str, TaskWrites] = {}
        for task, writes in overlay.tasks.items():
            if task not in self.base.tasks:
                number = len(writes.rows) + len(writes.deleted)
                _LOG.warning("the version has no task %r, so %d writes to it wait for one that has it", task, number)
                continue
            there = {id: row_text(row) for id, row in self.base.rows(task, (*writes.rows, *writes.deleted)).items()}
            rows = {id: item for id, item in writes.rows.items() if there.get(id) != row_text(item.row)}
            tasks[task] = TaskWrites(rows, {id: at for id, at in writes.deleted.items() if id in there})
        return replace(overlay, tasks=tasks)

    def _understood(self, write: Write) -> Write:
        """Return a write as this version takes it: with rows that fit its task, and vectors of its encoder."""
        if not write.rows or write.task not in self.base.tasks:
            return write
        task, own = self.base.tasks[write.task], self.base.manifest.encoder.fingerprint
        fitting = [place for place, row in enumerate(write.rows) if _fits(task, row)]
        if len(fitting) < len(write.rows):
            number = len(write.rows) - len(fitting)
            _LOG.warning(
                "task %r: %d written rows do not fit the version's definition of it; left out", task.name, number
            )
        rows = [write.rows[place] for place in fitting]
        vectors, tokens = write.vectors[fitting], [write.tokens[place] for place in fitting]
        if rows and write.encoder != own:
            vectors = self._encode([encoder_demonstration(task, row) for row in rows])
        return replace(write, rows=rows, vectors=vectors, tokens=tokens, encoder=own)

    def _commit(self) -> None:
        with self._queueing:
            queued, self._pending = self._pending, []
        try:
            if self._log is None:
                raise NotWriterError("these rows are not those of an index directory, so nothing can be written")
            self._take_lock()
            with self._log.alone():
                with self._reading:
                    self._follow(self._log)
                    self._appending = True
                try:
                    while queued:
                        self._commit_some(self._log, queued)
                finally:
                    self._appending = False
        except UdrError as error:
            for _, future in queued:
                future.set_exception(error)
        except BaseException as error:
            for _, future in queued:
                future.set_exception(error)
            raise

    def _commit_some(self, log: WriteLog, queued: list[tuple[Change, "Future[Outcome]"]]) -> None:
        """Write the first of what is queued together: up to a change that must see what those before it did."""
        written: dict[tuple[str, str], Row | None] = {}
        accepted: list[tuple[Write, Outcome, Future[Outcome]]] = []
        keys: set[str] = set()
        number = 0
        for change, future in queued:
            if accepted and (isinstance(change.delete, Filter) or change.key in keys):
                break
            number += 1
            try:
                if (receipt := self._overlay.receipts.get(change.key or "")) is not None:
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
            keys |= {change.key} if change.key is not None else set()
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
        manifest = self.base.manifest
        return replace(
            write, encoder=manifest.encoder.fingerprint, tokenizer=self.base.tokenizer, seconds=round(time.time(), 3)
        )


def _fits(task: Task, row: Row) -> bool:
    try:
        parse_row(task, row.to_json())
    except DataError:
        return False
    return True
