"""Columns: one field of all rows of a pool, turned round, so that a condition is answered without reading the rows."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from udr.data.filters.conditions import Condition, Range, Scalar, ScalarKind, field_values, is_present, kind_of
from udr.search import Mask
from udr.types import Json

_BLOCK = 16_384
"""Rows looked at together."""


@dataclass(frozen=True, slots=True)
class _Values:
    """The distinct values of one kind, ascending; those of ``values[n]`` are ``rows[starts[n]:starts[n + 1]]``."""

    values: list[Any]
    starts: NDArray[np.int64]
    rows: NDArray[np.int32]

    @classmethod
    def of(cls, values: list[Any], rows: list[int]) -> "_Values":
        """Return the values of rows, both in the same order."""
        distinct = sorted(set(values))
        numbers = {value: number for number, value in enumerate(distinct)}
        codes = np.fromiter((numbers[value] for value in values), np.int64, len(values))
        starts = np.concatenate([[0], np.cumsum(np.bincount(codes, minlength=len(distinct)))])
        return cls(distinct, starts, np.array(rows, np.int32)[np.argsort(codes, kind="stable")])

    def between(self, first: int, last: int) -> NDArray[np.int32]:
        """Return the rows of the values with these numbers, ``last`` not included."""
        return self.rows[self.starts[first] : self.starts[max(first, last)]]

    def any_of(self, among: Mask) -> bool:
        """Return whether any row that has a value is among some."""
        # In blocks, since the first one mostly has such a row.
        return any(among[self.rows[start : start + _BLOCK]].any() for start in range(0, len(self.rows), _BLOCK))

    def equal(self, value: Scalar) -> NDArray[np.int32]:
        """Return the rows with a value."""
        return self.between(bisect_left(self.values, value), bisect_right(self.values, value))

    def within(self, bounds: Range) -> NDArray[np.int32]:
        """Return the rows with a value within bounds."""
        first, last = 0, len(self.values)
        for name, bound in bounds.bounds().items():
            if name.startswith("g"):
                first = max(first, (bisect_left if name == "gte" else bisect_right)(self.values, bound))
            else:
                last = min(last, (bisect_right if name == "lte" else bisect_left)(self.values, bound))
        return self.between(first, last)


class Column:
    """The values of a field in the rows of a pool, in the order of their positions; None where it is absent.

    Values are compared as Python compares them, so numbers of any size are exact.
    """

    def __init__(self, values: Iterable[Json]) -> None:
        columns: dict[ScalarKind, tuple[list[Any], list[int]]] = {}
        present: list[int] = []
        self._size = 0
        for position, value in enumerate(values):
            self._size += 1
            if is_present(value):
                present.append(position)
                for item in field_values(value):
                    items, rows = columns.setdefault(kind_of(item), ([], []))
                    items.append(item)
                    rows.append(position)
        self._present = np.array(present, np.int32)
        self._values = {kind: _Values.of(items, rows) for kind, (items, rows) in columns.items()}

    @classmethod
    def absent(cls, size: int) -> "Column":
        """Return an empty column, for a field that no row has."""
        column = cls(())
        column._size = size
        return column

    def kinds(self, among: Mask | None = None) -> frozenset[ScalarKind]:
        """Return the kinds of values that it has, in all rows or among some."""
        return frozenset(kind for kind, own in self._values.items() if among is None or own.any_of(among))

    def mask(self, condition: Condition) -> Mask:
        """Return which rows pass a condition on this field, by position."""
        mask = np.zeros(self._size, bool)
        if condition.exists is not None:
            mask[self._present] = True
            return mask if condition.exists else ~mask
        if condition.range is not None:
            (kind,) = condition.kinds()
            if kind in self._values:
                mask[self._values[kind].within(condition.range)] = True
        for value in condition.values():
            if (kind := kind_of(value)) in self._values:
                mask[self._values[kind].equal(value)] = True
        return mask
