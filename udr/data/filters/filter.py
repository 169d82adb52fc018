"""Filters as values: conditions on a row's metadata and on its task, target and id, combined.

A row passes a filter if it meets all of ``must``, at least one of ``should`` if there are any, and none of
``must_not``. This is the part of Qdrant's language that has one meaning for text, numbers, booleans and lists of them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias, Union

from udr.data.filters.conditions import MAX_CONDITIONS, MAX_DEPTH, Condition, json_object
from udr.data.filters.expression import parse_expression
from udr.errors import InvalidInputError, brief
from udr.types import Json, Row

Part: TypeAlias = Union[Condition, "Filter"]
"""What a filter combines."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Filter:
    """Conditions, and filters of conditions, that a row meets or does not; an empty one lets all pass.

    Attributes:
        must: all of these.
        should: at least one of these, if there are any.
        must_not: none of these.
    """

    must: tuple[Part, ...] = ()
    should: tuple[Part, ...] = ()
    must_not: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        for name in ("must", "should", "must_not"):
            parts: object = getattr(self, name)
            if not isinstance(parts, tuple) or not all(isinstance(part, Condition | Filter) for part in parts):
                raise InvalidInputError(f"{name} of a filter must be a tuple of conditions, found {brief(parts)}")

    @classmethod
    def of(cls, value: "FilterLike") -> "Filter":
        """Return the filter that JSON, also as text, or a text such as ``site = "imdb" and stars >= 3`` describes.

        Raises:
            InvalidInputError: it is not a filter, or has more conditions, values or levels than a filter may have.
        """
        if isinstance(value, Filter):
            return value
        result = _filter(parse_expression(value) if isinstance(value, str) else value, 1)
        if (count := sum(1 for _ in result.conditions())) > MAX_CONDITIONS:
            raise InvalidInputError(f"a filter has at most {MAX_CONDITIONS} conditions, found {count}")
        return result

    def matches(self, task: str, row: Row) -> bool:
        """Return whether a row of a task passes."""
        return (
            all(part.matches(task, row) for part in self.must)
            and (not self.should or any(part.matches(task, row) for part in self.should))
            and not any(part.matches(task, row) for part in self.must_not)
        )

    def narrowed(self, wanted: "Filter | None") -> "Filter":
        """Return the filter that lets through what passes this one, and another if there is one."""
        if wanted is None:
            return self
        if self.should and wanted.should:
            return Filter(must=(self, wanted))
        # Not nested, since levels are limited.
        return Filter(
            must=self.must + wanted.must,
            should=self.should or wanted.should,
            must_not=self.must_not + wanted.must_not,
        )

    def conditions(self) -> Iterator[Condition]:
        """Yield all conditions."""
        for part in (*self.must, *self.should, *self.must_not):
            if isinstance(part, Filter):
                yield from part.conditions()
            else:
                yield part

    def to_json(self) -> dict[str, Json]:
        """Return the filter as JSON."""
        groups = ("must", self.must), ("should", self.should), ("must_not", self.must_not)
        return {name: [part.to_json() for part in parts] for name, parts in groups if parts}


FilterLike: TypeAlias = Filter | Mapping[str, Json] | str
"""A filter, its JSON, or its text."""


def _filter(value: object, depth: int) -> Filter:
    keys = json_object(value, "a filter", ("must", "should", "must_not"))
    if depth > MAX_DEPTH:
        raise InvalidInputError(f"filters are nested at most {MAX_DEPTH} deep")
    for name, parts in keys.items():
        if not isinstance(parts, list | tuple):
            raise InvalidInputError(f"{name} of a filter must be a list of conditions, found {brief(parts)}")
        # Before they are read one by one.
        if len(parts) > MAX_CONDITIONS:
            raise InvalidInputError(f"a filter has at most {MAX_CONDITIONS} conditions, found {len(parts)}")
    return Filter(**{name: tuple(_part(part, depth) for part in parts) for name, parts in keys.items()})


def _part(value: object, depth: int) -> Part:
    if isinstance(value, Mapping) and "key" in value:
        return Condition.of(value)
    return _filter(value, depth + 1)
