"""A view: the rows of a published version and the writes since, as one pool; immutable but for what it remembers."""

import threading
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

import numpy as np

from udr.data import Filter
from udr.search import LabelledSearch, Mask, Searcher, WordSearch
from udr.store.live.base import Base
from udr.store.live.joined import JoinedSearch, JoinedWords, join_labelled
from udr.store.live.labels import Labels
from udr.store.live.overlay import Overlay, Stored, TaskWrites
from udr.store.live.segment import Segment
from udr.store.live.table import LiveTable
from udr.store.rows import check_kinds
from udr.types import Row

_KEPT = 32
"""How many masks of filters are kept, so that requests with one filter are searched together."""

_SPAN = 1000
"""Rows of a page, where all are read."""


class TaskView:
    """One task with what was written: the rows of the version that still count, and a segment of those since."""

    def __init__(self, base: Base, task: str, writes: TaskWrites, before: "TaskView | None" = None) -> None:
        part, manifest, searcher = base.manifest.partitions[task], base.manifest, base.searchers[task]
        self._base, self._task, self.writes = base, task, writes
        dead = base.positions(task, (*writes.rows, *writes.deleted))
        stored = [item for item in writes.rows.values() if item.encoder == manifest.encoder.fingerprint]
        head = searcher.head if isinstance(searcher, LabelledSearch) else None
        earlier = None if before is None else before.segment
        self.segment: Segment = Segment(
            part, stored, manifest.dtype, manifest.encoder.dimension, base.tokenizer, base.longest, head, earlier
        )
        self.size = base.sizes[task] - len(dead) + len(self.segment)
        self.alive: Mask | None = None
        if dead:
            self.alive = np.ones(base.sizes[task] + len(self.segment), bool)
            self.alive[dead] = False

    @cached_property
    def searcher(self) -> Searcher:
        """Searches the vectors."""
        first, second = self._base.searchers[self._task], self.segment.searcher
        if not len(self.segment):
            return first
        if isinstance(first, LabelledSearch) and isinstance(second, LabelledSearch):
            return join_labelled(first, second)
        return JoinedSearch(first, second)

    @cached_property
    def words(self) -> WordSearch:
        """Searches the words."""
        first = self._base.lexical[self._task]
        return JoinedWords(first, self.segment.words) if len(self.segment) else first

    @cached_property
    def labels(self) -> Labels:
        """The labels of the rows."""
        first = self._base.labels(self._task)
        return first.followed_by(self.segment.targets(self._task)) if len(self.segment) else first


class View:
    """What a request sees: a version and an overlay; thread-safe.

    Args:
        base: the version.
        overlay: the writes.
        before: an earlier view of the same version, of which what did not change is taken over.

    Attributes:
        position: of the last write.
        sizes: how many rows count, by task.
        table: the rows.
    """

    def __init__(self, base: Base, overlay: Overlay, before: "View | None" = None) -> None:
        self.base, self.overlay, self.position = base, overlay, overlay.position
        known = before._views if before is not None and before.base is base else {}
        self._views: dict[str, TaskView] = {}
        for task, writes in overlay.tasks.items():
            if task in base.tasks:
                earlier = known.get(task)
                same = earlier is not None and earlier.writes is writes
                self._views[task] = earlier if earlier is not None and same else TaskView(base, task, writes, earlier)
        self.sizes: Mapping[str, int] = {**base.sizes, **{task: view.size for task, view in self._views.items()}}
        segments = {task: view.segment for task, view in self._views.items() if len(view.segment)}
        self.table = LiveTable(base.table, base.sizes, segments)
        self._masks: dict[tuple[str, str], Mask] = {}
        self._lock = threading.Lock()

    @property
    def changed(self) -> bool:
        """Whether what was written leaves anything that the version does not say."""
        return any(len(view.segment) or view.alive is not None for view in self._views.values())

    @property
    def num_changes(self) -> int:
        """How many rows were put or deleted since the version was built, each counted once."""
        return sum(len(view.writes.rows) + len(view.writes.deleted) for view in self._views.values())

    def searcher(self, task: str) -> Searcher:
        """Return the search of a task's vectors."""
        return self._views[task].searcher if task in self._views else self.base.searchers[task]

    def words(self, task: str) -> WordSearch:
        """Return the search of a task's words."""
        return self._views[task].words if task in self._views else self.base.lexical[task]

    def labels(self, task: str) -> Labels:
        """Return the labels of a task's rows."""
        return self._views[task].labels if task in self._views else self.base.labels(task)

    def masks(self, wanted: Filter | None, tasks: Sequence[str], within: Filter | None = None) -> dict[str, Mask]:
        """Return, by task, which rows count and pass a filter; without one, only of tasks where some do not count.

        ``within`` is another filter that they pass, as if there were no other rows.

        Raises:
            InvalidInputError: a condition can match no row, since its field holds values of other kinds only.
        """
        if within is None and wanted is None:
            return {task: alive for task in tasks if (alive := self._alive(task)) is not None}
        inside = {} if within is None else self._passing(within, tasks)
        both = wanted if within is None else within.narrowed(wanted)
        assert both is not None, "one of the two is given"
        masks = self._passing(both, tasks)
        for part, rows in ((within, dict[str, Mask]()), (wanted, inside)):
            if part is not None:
                check_kinds(part, self._kinds(part, {task: rows.get(task) for task in tasks}))
        return masks

    def _alive(self, task: str) -> Mask | None:
        return self._views[task].alive if task in self._views else None

    def _passing(self, wanted: Filter, tasks: Sequence[str]) -> dict[str, Mask]:
        masks, key = dict(self.base.matcher.masks(wanted, tasks)), str(wanted.to_json())
        for task in tasks:
            if task not in self._views:
                continue
            if (kept := self._masks.get((task, key))) is None:
                kept = np.concatenate([masks[task], self._views[task].segment.matcher.masks(wanted, [task])[task]])
                if (alive := self._alive(task)) is not None:
                    kept &= alive
                with self._lock:
                    self._masks[task, key] = kept
                    while len(self._masks) > _KEPT:
                        del self._masks[next(iter(self._masks))]
            masks[task] = kept
        return masks

    def _kinds(self, wanted: Filter, rows: Mapping[str, Mask | None]) -> dict[str, set[str]]:
        """Return which kinds of values some rows of each task have in each field of a filter; None for all."""
        sizes = self.base.sizes
        first = {task: None if mask is None else mask[: sizes[task]] for task, mask in rows.items()}
        found = self.base.matcher.kinds(wanted, first)
        for task, mask in rows.items():
            if task in self._views:
                own = {task: None if mask is None else mask[sizes[task] :]}
                for field, kinds in self._views[task].segment.matcher.kinds(wanted, own).items():
                    found[field] |= kinds
        return found

    def row(self, task: str, id: str) -> Row | None:
        """Return the row with an id, or None."""
        writes = self._views[task].writes if task in self._views else TaskWrites()
        if (stored := self.stored(task, id)) is not None:
            return stored.row
        return None if id in writes.rows or id in writes.deleted else self.base.table.row(task, id)

    def stored(self, task: str, id: str) -> Stored | None:
        """Return the row with an id if it was written since the version."""
        if task not in self._views or id not in (segment := self._views[task].segment).places:
            return None
        return segment.stored(segment.places[id])

    def page(
        self, task: str, wanted: Filter | None, after: str | None, limit: int, within: Filter | None = None
    ) -> list[Row]:
        """Return a task's first rows that count and pass a filter, at most ``limit``, in the order of their ids.

        ``after`` leaves out those up to an id.
        """
        size, mask = self.base.sizes[task], self.masks(wanted, [task], within).get(task)
        own = self._views[task].segment.ids if task in self._views else []
        start = 0 if after is None else self.base.table.position_after(task, after)
        start = size if start is None else start
        place = 0 if after is None else bisect_right(own, after)
        mask = np.ones(size + len(own), bool) if mask is None else mask
        positions = [*(start + np.flatnonzero(mask[start:size])[:limit]).tolist()]
        positions += (size + place + np.flatnonzero(mask[size + place :])[:limit]).tolist()
        return sorted(self.table.rows(task, positions), key=lambda row: row.id)[:limit]

    def pages(self, task: str) -> Iterator[list[Row]]:
        """Yield all rows of a task that count, in the order of their ids, at most 1,000 at a time."""
        after: str | None = None
        while rows := self.page(task, None, after, _SPAN):
            yield rows
            after = rows[-1].id

    def matching(self, task: str, wanted: Filter, within: Filter | None = None) -> list[str]:
        """Return the ids of a task's rows that count and pass a filter, and another if there is one."""
        positions = np.flatnonzero(self.masks(wanted, [task], within)[task]).tolist()
        return self.table.ids(task, positions)

    def close(self) -> None:
        """Close the version."""
        self.base.close()
