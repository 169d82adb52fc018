"""Which rows of an index version pass a filter: columns of their fields, read once and kept."""

import json
import threading
from collections.abc import Mapping, Sequence

import numpy as np

from udr.data import ID, TARGET, TASK, Column, Condition, Filter
from udr.errors import InvalidInputError, brief
from udr.search import Mask
from udr.store.demonstrations import DemonstrationTable
from udr.types import Json

_KEPT_BYTES = 32 * 1024 * 1024
"""How much memory the masks of earlier filters may take."""


class Matcher:
    """Answers filters over the rows of an index version; thread-safe.

    Args:
        table: the rows.
        sizes: how many rows each task has.
    """

    def __init__(self, table: DemonstrationTable, sizes: Mapping[str, int]) -> None:
        self._table, self._sizes = table, sizes
        self._columns: dict[tuple[str, str], Column] = {}
        self._fields: dict[str, frozenset[str]] = {}
        self._masks: dict[tuple[str, str], Mask] = {}
        self._lock = threading.Lock()

    def masks(self, wanted: Filter, tasks: Sequence[str]) -> dict[str, Mask]:
        """Return which rows of each task pass a filter.

        Raises:
            InvalidInputError: a condition can match no row, since its field holds values of other kinds only.
        """
        key = _key(wanted)
        # Without the lock, which is held while columns are read.
        kept = {task: mask for task in tasks if (mask := self._masks.get((task, key))) is not None}
        if len(kept) == len(tasks):
            return kept
        with self._lock:
            for task in tasks:
                self._read(task, {condition.key for condition in wanted.conditions()})
            for condition in wanted.conditions():
                self._check_kind(condition, tasks)
            masks = {task: self._passing(wanted, task) for task in tasks}
            for task, mask in masks.items():
                mask.setflags(write=False)
                self._masks[task, key] = mask
            while len(self._masks) > 1 and sum(mask.nbytes for mask in self._masks.values()) > _KEPT_BYTES:
                del self._masks[next(iter(self._masks))]
        return masks

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

    def _check_kind(self, condition: Condition, tasks: Sequence[str]) -> None:
        found = {"text"} if condition.key == TASK else set[str]()
        for task in tasks:
            found |= self._column(task, condition.key).kinds
        if found and condition.kinds() and not condition.kinds() & found:
            wanted, values = " or ".join(sorted(condition.kinds())), " or ".join(sorted(found))
            compared = f"the filter compares {brief(condition.key)} with a {wanted}"
            raise InvalidInputError(f"{compared}, but the rows have a {values} there")

    def _read(self, task: str, keys: set[str]) -> None:
        """Read the columns of these keys in one pass over the rows, since a pass takes long."""
        missing = {key for key in keys - {TASK} if (task, key) not in self._columns}
        for key in missing & {ID, TARGET}:
            self._columns[task, key] = Column(self._table.targets(task) if key == TARGET else self._table.all_ids(task))
        missing -= {ID, TARGET}
        if task in self._fields:
            # A field that no row has needs no pass, and is not kept, whatever clients ask for.
            missing &= self._fields[task]
        if not missing:
            return
        values: dict[str, list[Json]] = {key: [] for key in missing}
        fields: set[str] = set()
        for metadata in self._table.metadata(task):
            fields.update(metadata)
            for key, column in values.items():
                column.append(metadata.get(key))
        self._fields[task] = frozenset(fields)
        self._columns |= {(task, key): Column(column) for key, column in values.items() if key in fields}


def _key(wanted: Filter) -> str:
    # As text, since True equals 1 in Python.
    return json.dumps(wanted.to_json(), sort_keys=True)
