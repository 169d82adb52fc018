"""Which rows of an index version pass a filter: columns of their fields, read once and kept."""

import json
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol

import numpy as np

from udr.data import ID, TARGET, TASK, Column, Condition, Filter
from udr.errors import InvalidInputError, brief
from udr.search import Mask
from udr.types import Json

_KEPT_BYTES = 32 * 1024 * 1024
"""How much memory the masks of earlier filters may take."""


class Fields(Protocol):
    """What a filter asks of rows: each method gives one value for each row of a task, in the order of the positions."""

    def targets(self, task: str) -> Sequence[str]:
        """Return the targets."""

    def all_ids(self, task: str) -> Iterable[str]:
        """Return the ids."""

    def metadata(self, task: str) -> Iterable[Mapping[str, Json]]:
        """Return the metadata."""


class Matcher:
    """Answers filters over the rows of an index version; thread-safe.

    Args:
        table: the rows.
        sizes: how many rows each task has.
    """

    def __init__(self, table: Fields, sizes: Mapping[str, int]) -> None:
        self._table, self._sizes = table, sizes
        self._columns: dict[tuple[str, str], Column] = {}
        self._fields: dict[str, frozenset[str]] = {}
        self._masks: dict[tuple[str, str], Mask] = {}
        # Reading takes seconds; filters on what is read do not wait for it.
        self._lock, self._reading = threading.Lock(), threading.Lock()

    def masks(self, wanted: Filter, tasks: Sequence[str]) -> dict[str, Mask]:
        """Return which rows of each task pass a filter; ``check_kinds`` says whether it can match any."""
        key = _key(wanted)
        # Without the lock, which is held while columns are read.
        kept = {task: mask for task in tasks if (mask := self._masks.get((task, key))) is not None}
        if len(kept) == len(tasks):
            return kept
        self.read(self.unread(wanted, tasks))
        with self._lock:
            masks = {task: self._passing(wanted, task) for task in tasks}
            for task, mask in masks.items():
                mask.setflags(write=False)
                self._masks[task, key] = mask
            while len(self._masks) > 1 and sum(mask.nbytes for mask in self._masks.values()) > _KEPT_BYTES:
                del self._masks[next(iter(self._masks))]
        return masks

    def kinds(self, wanted: Filter, rows: Mapping[str, Mask | None]) -> dict[str, set[str]]:
        """Return which kinds of values rows have in each field of a filter, once ``masks`` has read them.

        ``rows`` are those of each task to look at, by position; None for all.
        """
        keys = {condition.key for condition in wanted.conditions()} - {TASK}
        return {key: {kind for task in rows for kind in self._column(task, key).kinds(rows[task])} for key in keys}

    def unread(self, wanted: Filter, tasks: Iterable[str]) -> dict[str, frozenset[str]]:
        """Return which fields of each task must be read to answer a filter; tasks that have none are left out."""
        keys = {condition.key for condition in wanted.conditions()} - {TASK}
        return {task: missing for task in tasks if (missing := self._missing(task, keys))}

    @property
    def fields(self) -> dict[str, frozenset[str]]:
        """Which fields of each task were read."""
        found: dict[str, set[str]] = {}
        for task, key in list(self._columns):
            found.setdefault(task, set()).add(key)
        return {task: frozenset(keys) for task, keys in found.items()}

    def read(self, fields: Mapping[str, Collection[str]]) -> None:
        """Read fields of each task, in one pass over its rows; those that were read already are not read again."""
        if fields:
            with self._reading:
                for task, keys in fields.items():
                    self._read(task, self._missing(task, keys))

    def _missing(self, task: str, keys: Iterable[str]) -> frozenset[str]:
        there = self._fields.get(task)
        # A field that no row has needs no pass, and is not kept, whatever clients ask for.
        return frozenset(
            key
            for key in keys
            if (task, key) not in self._columns and (there is None or key in (ID, TARGET) or key in there)
        )

    def _passing(self, part: Filter | Condition, task: str) -> Mask:
        if isinstance(part, Condition):
            if part.key == TASK:
                return np.full(self._sizes[task], Column([task]).mask(part)[0])
            return self._column(task, part.key).mask(part)
        mask = np.ones(self._sizes[task], bool)
        for item in part.must:
            mask &= self._passing(item, task)
        if part.should:
            mask &= np.any([self._passing(item, task) for item in part.should], axis=0)
        for item in part.must_not:
            mask &= ~self._passing(item, task)
        return mask

    def _column(self, task: str, key: str) -> Column:
        return self._columns.get((task, key)) or Column.absent(self._sizes[task])

    def _read(self, task: str, missing: frozenset[str]) -> None:
        for key in missing & {ID, TARGET}:
            self._columns[task, key] = Column(self._table.targets(task) if key == TARGET else self._table.all_ids(task))
        values: dict[str, list[Json]] = {key: [] for key in missing - {ID, TARGET}}
        if not values:
            return
        fields: set[str] = set()
        for metadata in self._table.metadata(task):
            fields.update(metadata)
            for key, column in values.items():
                column.append(metadata.get(key))
        self._columns |= {(task, key): Column(column) for key, column in values.items() if key in fields}
        # Last, since it says that no other field needs to be read.
        self._fields[task] = frozenset(fields)


def _key(wanted: Filter) -> str:
    # As text, since True equals 1 in Python.
    return json.dumps(wanted.to_json(), sort_keys=True)


def check_kinds(wanted: Filter, found: Mapping[str, Collection[str]]) -> None:
    """Check a filter against the kinds of values that the searched rows have in each of its fields.

    Raises:
        InvalidInputError: a condition can match no row, since its field holds values of other kinds only.
    """
    for condition in wanted.conditions():
        kinds, there = condition.kinds(), {"text"} if condition.key == TASK else set(found.get(condition.key, ()))
        if there and kinds and not kinds & there:
            names, values = " or ".join(sorted(kinds)), " or ".join(sorted(there))
            compared = f"the filter compares {brief(condition.key)} with a {names}"
            # Rows have these as text, whatever their metadata.
            remedy = "" if condition.key in (ID, TARGET, TASK) else f", or store a {names} in the rows' metadata"
            raise InvalidInputError(
                f"{compared}, but the rows have a {values} there; compare it with a {values}{remedy}"
            )
