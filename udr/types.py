"""The values that flow from stage to stage; all of them frozen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Value: TypeAlias = "str | int | float | bool | Sequence[Value] | None"
"""What an input field may hold: text, a number, a truth value, nothing, or a list of these."""

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"
"""Anything that JSON can say."""

Fields: TypeAlias = Mapping[str, Value]
"""A task's input: its fields by name."""

Role = Literal["query", "demonstration"]
"""What an encoder reads a text as."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One labelled row of a task.

    As a member of a pool it is a demonstration; with its target held back it is a query.

    Attributes:
        id: unique within the task.
        input: the fields by name.
        target: the gold text or label.
        choices: the options of a multiple-choice row, else empty.
        references: all gold texts, where there are several; else empty.
        metadata: anything else, carried along untouched.
    """

    id: str
    input: Fields
    target: str
    choices: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    metadata: Mapping[str, Json] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """Return the keys of a line of JSONL that holds this row; empty ones are left out."""
        keys: dict[str, Json] = {"id": self.id, "input": dict(self.input), "target": self.target}
        if self.choices:
            keys["choices"] = list(self.choices)
        if self.references:
            keys["references"] = list(self.references)
        if self.metadata:
            keys["metadata"] = dict(self.metadata)
        return keys


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenCount:
    """How many tokens a demonstration's text is, by one tokenizer.

    Attributes:
        tokenizer: its fingerprint.
        count: tokens of ``text`` alone, without those that are added around a text ([CLS], BOS).
    """

    tokenizer: str
    count: int
