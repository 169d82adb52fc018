"""Conditions: a test of one field of a row."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any, Literal, TypeAlias, TypeGuard

from udr.errors import InvalidInputError, brief
from udr.types import Json, Row, plain, plain_number

Scalar: TypeAlias = str | int | float | bool
"""What a condition compares a field with."""

ScalarKind = Literal["text", "number", "boolean"]

TASK, TARGET, ID = "$task", "$target", "$id"
OWN = (TASK, TARGET, ID)
"""The keys of what a row has besides metadata."""

MAX_CONDITIONS, MAX_DEPTH, MAX_VALUES, MAX_KEY = 64, 8, 1024, 256
"""Limits of a parsed filter: its conditions, its levels, the values of one ``any``, the characters of a key."""

_TESTS = ("match", "any", "range", "exists")
_BOUNDS = {"gt": gt, "gte": ge, "lt": lt, "lte": le}


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """Bounds, at least one, all numbers or all texts; texts compare by code point, as ISO dates do."""

    gt: float | str | None = None
    gte: float | str | None = None
    lt: float | str | None = None
    lte: float | str | None = None

    def __post_init__(self) -> None:
        for name in _BOUNDS:
            object.__setattr__(self, name, plain_number(getattr(self, name)))
        kinds = {kind_of(value) if is_scalar(value) else None for value in self.bounds().values()}
        if kinds not in ({"number"}, {"text"}):
            raise InvalidInputError(
                f"a range needs at least one of {', '.join(_BOUNDS)}, all numbers or all texts; "
                f"found {brief(self.bounds())}"
            )

    @classmethod
    def of(cls, value: object) -> "Range":
        """Return the range that JSON describes."""
        return cls(**json_object(value, "a range", tuple(_BOUNDS)))

    def bounds(self) -> dict[str, float | str]:
        """Return the bounds by name."""
        return {name: value for name in _BOUNDS if (value := getattr(self, name)) is not None}

    def holds(self, value: Scalar) -> bool:
        """Return whether a value of the same kind is within the bounds."""
        return all(_BOUNDS[name](value, bound) for name, bound in self.bounds().items())


@dataclass(frozen=True, kw_only=True, slots=True)
class Condition:
    """A condition on one field, with exactly one test.

    A list passes if one of its values does. An absent field, a null and an empty list pass no test but
    ``exists=False``. Values compare only with values of their kind: text, number, or boolean.

    Attributes:
        key: a field of the metadata, or one of ``OWN``.
        match: the value equals this.
        any: the value equals one of these.
        range: the value is within these bounds.
        exists: the field is there, or is not.

    Raises:
        InvalidInputError: a part is missing or invalid.
    """

    key: str
    match: Scalar | None = None
    any: tuple[Scalar, ...] | None = None
    range: Range | None = None
    exists: bool | None = None

    def __post_init__(self) -> None:
        for name in ("match", "any"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        if not isinstance(self.key, str) or not self.key:
            raise InvalidInputError(f"a filter's key must be the name of a field, found {brief(self.key)}")
        if len(self.key) > MAX_KEY:
            raise InvalidInputError(f"a filter's key has at most {MAX_KEY} characters, found {len(self.key)}")
        if self.key.startswith("$") and self.key not in OWN:
            raise InvalidInputError(
                f"unknown key {brief(self.key)} of a filter; those that begin with $ are {', '.join(OWN)}"
            )
        if len([name for name in _TESTS if getattr(self, name) is not None]) != 1:
            raise InvalidInputError(f"the condition on {brief(self.key)} needs one of match, any, range and exists")
        if self.exists is not None:
            _require(isinstance(self.exists, bool), self.key, "exists must be true or false", self.exists)
        elif self.range is not None:
            _require(isinstance(self.range, Range), self.key, "range must have bounds", self.range)
        else:
            if self.any is not None:
                rule = "any must be a tuple of values, or in JSON a list, and not empty"
                _require(isinstance(self.any, tuple) and len(self.any) > 0, self.key, rule, self.any)
            values: object = (self.match,) if self.any is None else self.any
            valid = isinstance(values, tuple) and all(map(is_scalar, values))
            _require(valid, self.key, "values must be text, finite numbers or booleans", values)

    @classmethod
    def of(cls, value: object) -> "Condition":
        """Return the condition that JSON describes."""
        keys = json_object(value, "a condition", ("key", *_TESTS))
        if "any" in keys:
            if not isinstance(keys["any"], list | tuple):
                raise InvalidInputError(f"any of a condition must be a list of values, found {brief(keys['any'])}")
            if len(keys["any"]) > MAX_VALUES:
                raise InvalidInputError(f"a condition has at most {MAX_VALUES} values, found {len(keys['any'])}")
            keys["any"] = tuple(keys["any"])
        if "range" in keys:
            keys["range"] = Range.of(keys["range"])
        return cls(**{"key": "", **keys})

    def kinds(self) -> set[ScalarKind]:
        """Return the kinds of values that can pass; none for ``exists``."""
        if self.range is not None:
            return {kind_of(value) for value in self.range.bounds().values()}
        return set(map(kind_of, self.values()))

    def values(self) -> tuple[Scalar, ...]:
        """Return the values of ``match`` or ``any``."""
        return self.any or (() if self.match is None else (self.match,))

    def matches(self, task: str, row: Row) -> bool:
        """Return whether a row of a task passes."""
        value = field_value(task, row, self.key)
        if self.exists is not None:
            return is_present(value) is self.exists
        found = field_values(value)
        if self.range is not None:
            (kind,) = self.kinds()
            return any(kind_of(item) == kind and self.range.holds(item) for item in found)
        wanted = {(kind_of(item), item) for item in self.values()}
        return any((kind_of(item), item) in wanted for item in found)

    def to_json(self) -> dict[str, Json]:
        """Return the condition as JSON."""
        keys: dict[str, Json] = {"key": self.key}
        if self.exists is not None:
            return {**keys, "exists": self.exists}
        if self.range is not None:
            return {**keys, "range": dict(self.range.bounds())}
        return {**keys, "any": list(self.any)} if self.any is not None else {**keys, "match": self.match}


def _require(valid: bool, key: str, rule: str, found: object) -> None:
    if not valid:
        raise InvalidInputError(f"the condition on {brief(key)}: {rule}; found {brief(found)}")


def field_value(task: str, row: Row, key: str) -> Json:
    """Return the value of a row's field, or of its task, target or id; None if it is absent."""
    if key in OWN:
        return {TASK: task, TARGET: row.target, ID: row.id}[key]
    return row.metadata.get(key)


def field_values(value: Json) -> list[Scalar]:
    """Return what conditions compare of a field's value: itself, or the values of a list; not objects."""
    if is_scalar(value):
        return [value]
    return list(filter(is_scalar, value)) if isinstance(value, Sequence) and not isinstance(value, str) else []


def is_present(value: Json) -> bool:
    """Return whether a field with this value exists: it is neither null nor an empty list."""
    return value is not None and not (isinstance(value, list | tuple) and not value)


def is_scalar(value: object) -> TypeGuard[Scalar]:
    """Return whether a condition can compare this value."""
    return isinstance(value, str | bool | int) or (isinstance(value, float) and math.isfinite(value))


def kind_of(value: Scalar) -> ScalarKind:
    """Return the kind of a value; true is not the number 1."""
    return "text" if isinstance(value, str) else "boolean" if isinstance(value, bool) else "number"


def json_object(value: object, what: str, known: Sequence[str]) -> dict[str, Any]:
    """Return a JSON object without its nulls; ``InvalidInputError`` if it is not an object, or has unknown keys."""
    if not isinstance(value, Mapping):
        raise InvalidInputError(f"{what} must be an object with {', '.join(known)}; found {brief(value)}")
    if unknown := [key for key in value if key not in known]:
        raise InvalidInputError(f"{what} has no key {brief(unknown[0])}; the keys are {', '.join(known)}")
    return {key: item for key, item in value.items() if item is not None}
