"""The frozen values that flow from stage to stage."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias

Value: TypeAlias = "str | int | float | bool | Sequence[Value] | None"
"""The value of an input field: a string, a number, a boolean, None, or a list of these."""

VALUES = "a string, number, true, false, null or a list (a whole number has at most 4,300 digits)"
"""The types of an input field, in words."""

# Python refuses to write numbers of more digits.
_BEYOND = 10**4300

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"
"""Any JSON value."""

Fields: TypeAlias = Mapping[str, Value]
"""A task's input: its fields by name."""

Role = Literal["query", "demonstration"]
"""The role of a text for an encoder."""


def is_value(value: object, depth: int = 16) -> bool:
    """Return whether ``value`` is a valid input field: one of ``VALUES``, with lists nested at most ``depth`` deep."""
    if isinstance(value, list | tuple):
        return depth > 0 and all(is_value(item, depth - 1) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return -_BEYOND < value < _BEYOND
    return value is None or isinstance(value, str)


def plain_number(value: Any) -> Any:  # noqa: ANN401
    """Return a number as Python's own, such as one of numpy, which JSON does not take; anything else as it is."""
    if isinstance(value, int | float | str) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def plain(value: Any, depth: int = 20) -> Any:  # noqa: ANN401
    """Return a value with ``plain_number`` of all that it holds, in lists and objects nested at most ``depth`` deep."""
    if isinstance(value, str) or depth == 0:
        return value
    if isinstance(value, Mapping):
        return {key: plain(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [plain(item, depth - 1) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return plain_number(value)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One labelled row of a task: a demonstration in a pool, or a query if its target is hidden.

    Attributes:
        id: unique within the task.
        input: the fields by name.
        target: the gold text or label.
        choices: the options of a multiple-choice row, else empty.
        references: all gold texts if there are several, else empty.
        metadata: any other data, passed through unchanged.
    """

    id: str
    input: Fields
    target: str
    choices: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    metadata: Mapping[str, Json] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """Return the row as a JSON object; empty keys are omitted."""
        keys: dict[str, Json] = {"id": self.id, "input": dict(self.input), "target": self.target}
        optional = ("choices", list(self.choices)), ("references", list(self.references)), ("metadata", self.metadata)
        keys.update((name, value) for name, value in optional if value)
        return keys


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenCount:
    """The tokens of a demonstration's text, without added special tokens ([CLS], BOS), by a tokenizer's fingerprint."""

    tokenizer: str
    count: int
