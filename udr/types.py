"""The values that flow from stage to stage; all of them frozen."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args, overload

Value: TypeAlias = "str | int | float | bool | Sequence[Value] | None"
"""What an input field may hold: text, a number, a truth value, nothing, or a list of these."""

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"
"""Anything that JSON can say."""

Fields: TypeAlias = Mapping[str, Value]
"""A task's input: its fields by name."""

Mode = Literal["dense", "bm25", "hybrid"]
"""What ranks demonstrations; see ``RetrievalRequest``."""

MODES: tuple[Mode, ...] = get_args(Mode)

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
class RetrievedDemonstration:
    """A demonstration that a retriever found for a query.

    Attributes:
        id: the row's id, unique within its task.
        task: the name of the task it belongs to.
        similarity: the number that ranks it, the encoder's unless another mode was asked for; rounded to 5 decimals,
            higher is nearer.
        rank: 1 for the nearest.
        input: its fields by name.
        target: its gold text or label.
        text: input and target as the prompt shows them.
        metadata: as in the row.
    """

    id: str
    task: str
    similarity: float
    rank: int
    input: Fields
    target: str
    text: str
    metadata: Mapping[str, Json] = field(default_factory=dict)

    def to_json(self) -> dict[str, Json]:
        """Return it as the service and ``udr retrieve --json`` show it."""
        return {
            "id": self.id,
            "task": self.task,
            "similarity": self.similarity,
            "rank": self.rank,
            "input": dict(self.input),
            "target": self.target,
            "text": self.text,
            "metadata": dict(self.metadata),
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrievalRequest:
    """What a caller asks a retriever for: exactly one of ``task``, ``family`` and ``scope="all"``.

    Attributes:
        input: the fields by name; plain text where the task has one field, or the scope is wider than a task.
        task: search this task's pool.
        family: search the pools of this family.
        scope: ``"all"`` searches every pool.
        k: how many demonstrations; at least 1, at most the size of what is searched.
        exclude: ids that must not come back.
        min_similarity: leave out what is less similar than this; then fewer than k may come back, even none.
        mode: what ranks: ``dense`` the encoder's similarity, ``bm25`` the words shared with the input, ``hybrid`` both,
            by reciprocal rank fusion. A demonstration's similarity is the number that ranks it.
    """

    input: Fields | str
    task: str | None = None
    family: str | None = None
    scope: str | None = None
    k: int = 8
    exclude: Sequence[str] = ()
    min_similarity: float | None = None
    mode: Mode = "dense"


@dataclass(frozen=True, kw_only=True, slots=True)
class Retrieval(Sequence[RetrievedDemonstration]):
    """The answer to one request: the demonstrations, nearest first, and what they came from.

    It is itself a sequence: ``for demonstration in retrieval`` and ``retrieval[0]`` work.

    Attributes:
        demonstrations: nearest first, ties by id.
        index_version: the version of the index that answered.
        model: the name of the encoder.
    """

    demonstrations: tuple[RetrievedDemonstration, ...]
    index_version: str
    model: str

    @overload
    def __getitem__(self, position: int) -> RetrievedDemonstration: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[RetrievedDemonstration, ...]: ...
    def __getitem__(self, position: int | slice) -> RetrievedDemonstration | tuple[RetrievedDemonstration, ...]:
        """Return the demonstration or demonstrations at ``position``."""
        return self.demonstrations[position]

    def __len__(self) -> int:
        """Return how many demonstrations came back."""
        return len(self.demonstrations)

    def __iter__(self) -> Iterator[RetrievedDemonstration]:
        """Iterate over the demonstrations, nearest first."""
        return iter(self.demonstrations)

    def to_json(self) -> dict[str, Json]:
        """Return it as the service and ``udr retrieve --json`` show it."""
        return {
            "demonstrations": [demonstration.to_json() for demonstration in self.demonstrations],
            "index_version": self.index_version,
            "model": self.model,
        }
