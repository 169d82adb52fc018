"""The rows of a live pool: those of a published version, followed by those written since."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from udr.store.live.segment import Segment
from udr.store.rows import DemonstrationTable
from udr.types import Row, TokenCount

_T = TypeVar("_T")


class LiveTable:
    """Reads rows by position, in the order of the positions given; rows that were replaced or deleted have theirs, too.

    Args:
        table: the rows of the version.
        sizes: how many of them each task has.
        segments: the rows written since, by task.
    """

    def __init__(self, table: DemonstrationTable, sizes: Mapping[str, int], segments: Mapping[str, Segment]) -> None:
        self._table, self._sizes, self._segments = table, sizes, segments

    def ids(self, task: str, positions: Sequence[int]) -> list[str]:
        """Return the ids of the rows at these positions."""
        return self._at(task, positions, self._table.ids, lambda segment, place: segment.ids[place])

    def rows(self, task: str, positions: Sequence[int]) -> list[Row]:
        """Return the rows at these positions, as for a page of a pool: they are not kept in memory."""
        return self._at(task, positions, self._table.rows, lambda segment, place: segment.rows[place])

    def counted_rows(self, task: str, positions: Sequence[int]) -> list[tuple[Row, TokenCount | None]]:
        """Return the rows at these positions, each with its token count, if known."""
        return self._at(task, positions, self._table.counted_rows, Segment.counted_row)

    def _at(
        self,
        task: str,
        positions: Sequence[int],
        read: Callable[[str, Sequence[int]], list[_T]],
        written: Callable[[Segment, int], _T],
    ) -> list[_T]:
        """Return what is read at the positions of the version, and what is at those of the segment."""
        if task not in self._segments:
            return read(task, positions)
        size, segment = self._sizes[task], self._segments[task]
        first = iter(read(task, [at for at in positions if at < size]))
        return [next(first) if at < size else written(segment, at - size) for at in positions]

    def copies(self, task: str, keys: Iterable[bytes]) -> dict[int, str]:
        """Return the ids of the rows whose input has one of these copy keys, by position."""
        keys = list(keys)
        found = self._table.copies(task, keys)
        if (segment := self._segments.get(task)) is not None and keys:
            for key in keys:
                for place in segment.copies.get(key, ()):
                    found[self._sizes[task] + place] = segment.ids[place]
        return found

    def positions(self, task: str, ids: Iterable[str]) -> dict[int, str]:
        """Return the ids of those rows of a task that have one of these ids, by position."""
        ids = list(ids)
        found = self._table.positions(task, ids)
        if (segment := self._segments.get(task)) is not None:
            found |= {self._sizes[task] + segment.places[id]: id for id in ids if id in segment.places}
        return found
