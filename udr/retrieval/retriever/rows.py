"""The rows of an open version: read, listed, written and deleted."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace

from udr.data import Filter, FilterLike
from udr.errors import UnknownTaskError
from udr.retrieval.retriever.version import OpenVersion
from udr.retrieval.writing import Draft, Page, RowLike, asked_to_delete, deletion, page, with_key
from udr.store.live import Change, Outcome
from udr.types import Json, Row


class Rows(OpenVersion):
    """What a ``Retriever`` reads and writes rows by."""

    def demonstration(self, task: str, id: str) -> Row:
        """Return one row.

        Raises:
            UnknownTaskError: there is no such task, or it has no such row.
        """
        view = self._view_of(task)
        row = view.row(task, id)
        if row is None:
            raise UnknownTaskError(f"task {task!r} has no demonstration {id!r}")
        return row

    def demonstrations(
        self,
        task: str,
        *,
        after: str | None = None,
        limit: int = 100,
        filter: FilterLike | None = None,
        within: Filter | None = None,
    ) -> Page:
        """Return a page of a task's rows in the order of their ids.

        Args:
            task: the task.
            after: the ``next`` of the page before; None for the first.
            limit: how many rows, at most 1,000.
            filter: which rows to list.
            within: as in ``plan``.

        Raises:
            UnknownTaskError: there is no such task.
            InvalidInputError: ``after`` is of another list or version, the limit is out of range, or the filter is not
                one.
        """
        wanted = None if filter is None else Filter.of(filter)
        return page(self._view_of(task), task, after, limit, wanted, within)

    def put(
        self,
        task: str,
        rows: RowLike | Sequence[RowLike],
        *,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> Outcome:
        """Put rows into a task's pool, all or none: new ones are added, others replaced by their ids.

        They are on disk, and found by every later request, when this returns. See ``docs/live-pools.md``.

        Args:
            task: the task.
            rows: one row or several.
            if_match: the version (``row_version``) that the row must have now; ``*`` for any.
            idempotency_key: a text; a repeated call with it does nothing, and returns the outcome of the first.

        Raises:
            UnknownTaskError: there is no such task.
            InvalidInputError: a row does not fit the task, or the key was used for other rows.
            ConflictError: the row has another version.
            NotWriterError: another process writes to this index.
            StorageError: the disk is full or fails; nothing was written.
        """
        change = Change(task, if_match=if_match)
        draft = self.draft(change, rows, idempotency_key)
        return self.write(draft.complete(self.encode(draft.texts, "demonstration")))

    def delete(
        self,
        task: str,
        ids: str | Sequence[str] | None = None,
        *,
        filter: FilterLike | None = None,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> Outcome:
        """Delete rows of a task's pool by id, or those that pass a filter; ids that are not there are ignored.

        Arguments and errors are those of ``put``. No later request finds the rows when this returns.
        """
        self._view_of(task)
        change = deletion(Change(task, if_match=if_match), ids, filter)
        return self.write(with_key(change, idempotency_key, [task, asked_to_delete(change)]))

    def draft(self, change: Change, rows: RowLike | Sequence[RowLike], idempotency_key: str | None = None) -> Draft:
        """Return the draft of a change that puts rows: the first step of ``put``, if another encodes its texts."""
        draft = self._drafting.put(self._view_of(change.task), change, rows)
        rows_asked = [row.to_json() for row in draft.change.rows]
        asked: Json = [change.task, rows_asked, asked_to_delete(change), change.if_match]
        return replace(draft, change=with_key(draft.change, idempotency_key, asked))

    def write(self, change: Change) -> Outcome:
        """Write a change; the last step of ``put`` and ``delete``, whose errors it raises."""
        return self.submit(change).result()

    def submit(self, change: Change) -> "Future[Outcome]":
        """Do what ``write`` does, without waiting; the result is there once the change is durable."""
        self._refuse_closed()
        self._refuse_fork()
        return self._pool.submit(change)

    def unread_fields(self, wanted: Filter, tasks: Iterable[str]) -> Mapping[str, frozenset[str]]:
        """Return which fields of these tasks must be read before a filter can be answered, by task; at no cost.

        Without ``read_fields``, the first request that names them reads them, which takes seconds in a large pool.
        """
        return self._pool.base.matcher.unread(wanted, [task for task in tasks if task in self.tasks])

    def read_fields(self, fields: Mapping[str, Collection[str]]) -> None:
        """Read fields of all rows of each task, for filters.

        Raises:
            ArtifactError: the rows cannot be read.
        """
        self._refuse_closed()
        self._pool.base.matcher.read({task: keys for task, keys in fields.items() if task in self.tasks})

    @property
    def fields_read(self) -> Mapping[str, frozenset[str]]:
        """Which fields of each task are read, for filters."""
        return self._pool.base.matcher.fields

    def shorten_log(self) -> None:
        """Rewrite the log of writes without those that later ones undid; raises as ``write``."""
        self._refuse_closed()
        self._pool.shorten()
