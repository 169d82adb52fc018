"""Filters in request bodies: the shape and its bounds; the core checks the rest."""

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from udr.data import MAX_CONDITIONS, MAX_KEY, MAX_VALUES
from udr.types import Json
from udr_service.schemas.body import Body

Scalar = str | int | float | bool

# A float does not hold every whole number. It is the first of the two, so that errors ask for a number.
_Bound = float | int | str


class RangeBody(Body):
    """Bounds, at least one, all numbers or all texts."""

    gt: _Bound | None = None
    gte: _Bound | None = None
    lt: _Bound | None = None
    lte: _Bound | None = None


class ConditionBody(Body):
    """A condition on a field, with exactly one of ``match``, ``any``, ``range`` and ``exists``."""

    key: str = Field(min_length=1, max_length=MAX_KEY, description="A field of the metadata, $task, $target or $id.")
    match: Scalar | None = Field(default=None, description="The value equals this.")
    any: list[Scalar] | None = Field(
        default=None, min_length=1, max_length=MAX_VALUES, description="The value equals one of these."
    )
    range: RangeBody | None = Field(default=None, description="The value is within these bounds.")
    exists: bool | None = Field(default=None, description="The field is there, or is not.")

    def to_json(self) -> dict[str, Json]:
        """Return the condition as the core parses it."""
        keys: dict[str, Json] = self.model_dump(exclude_unset=True)
        return keys


def _kind_of_part(value: object) -> str:
    return "condition" if isinstance(value, dict) and "key" in value else "filter"


_Part = Annotated[
    Annotated[ConditionBody, Tag("condition")] | Annotated["FilterBody", Tag("filter")], Discriminator(_kind_of_part)
]
_Parts = Annotated[list[_Part], Field(max_length=MAX_CONDITIONS)]


class FilterBody(Body):
    """Conditions on rows, and filters of conditions; at most 64 conditions in all, nested at most 8 deep."""

    must: _Parts = Field(default=[], description="All of these.")
    should: _Parts = Field(default=[], description="At least one of these, if there are any.")
    must_not: _Parts = Field(default=[], description="None of these.")

    def to_json(self) -> dict[str, Json]:
        """Return the filter as the core parses it."""
        groups = ("must", self.must), ("should", self.should), ("must_not", self.must_not)
        return {name: [part.to_json() for part in parts] for name, parts in groups}


def _kind_of_filter(value: object) -> str:
    return "text" if isinstance(value, str) else "filter"


AnyFilter = Annotated[
    Annotated[str, Tag("text")] | Annotated[FilterBody, Tag("filter")], Discriminator(_kind_of_filter)
]
"""A filter, or the text of one."""
