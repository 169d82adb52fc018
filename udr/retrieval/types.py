"""Retrieval: what a caller asks for, how it may be chosen, and what comes back; all of it frozen."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypedDict, get_args, overload

from udr.errors import InvalidInputError
from udr.types import Fields, Json, TokenCount

Mode = Literal["dense", "bm25", "hybrid"]
"""What ranks demonstrations; see ``RetrievalRequest``."""

MODES: tuple[Mode, ...] = get_args(Mode)


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrievedDemonstration:
    """A demonstration that a retriever found for a query.

    Attributes:
        id: the row's id, unique within its task.
        task: the name of the task it belongs to.
        similarity: the number that ranks it, the encoder's unless another mode was asked for; rounded to 5 decimals,
            higher is nearer.
        rank: its place in the answer, from 1: the nearest first, unless diversity or balance chose in another order.
        input: its fields by name.
        target: its gold text or label.
        text: input and target as the prompt shows them.
        metadata: as in the row.
        tokens: how many tokens ``text`` is, where the index keeps that.
    """

    id: str
    task: str
    similarity: float
    rank: int
    input: Fields
    target: str
    text: str
    metadata: Mapping[str, Json] = field(default_factory=dict)
    tokens: TokenCount | None = None

    def to_json(self) -> dict[str, Json]:
        """Return it as the service and ``udr retrieve --json`` show it."""
        keys: dict[str, Json] = {
            "id": self.id,
            "task": self.task,
            "similarity": self.similarity,
            "rank": self.rank,
            "input": dict(self.input),
            "target": self.target,
            "text": self.text,
            "metadata": dict(self.metadata),
        }
        if self.tokens is not None:
            keys["tokens"] = {"tokenizer": self.tokens.tokenizer, "count": self.tokens.count}
        return keys


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
        keep_copies: let the query itself come back, and copies of it; else they never do.
        min_similarity: leave out what is less similar than this; then fewer than k may come back, even none.
        max_similarity: leave out what is more similar than this; the next ones take its place.
        mode: what ranks: ``dense`` the encoder's similarity, ``bm25`` the words shared with the input, ``hybrid`` both,
            by reciprocal rank fusion. A demonstration's similarity is the number that ranks it.
        distinct: from 0 to 1: of demonstrations whose vectors have at least this cosine, keep the best; the next ones
            take the others' place.
        diversity: from 0 to 1: choose by maximal marginal relevance, with this much weight on being unlike what is
            chosen; 0 is the nearest, 1 looks at nothing else after the first. Only of mode ``dense``.
        balance: choose in rounds, from each label its best that is left; only for classification tasks.
        candidates: from how many of the nearest diversity chooses, at least k, and how many are explained; None is four
            times k, and at least 50.
        explain: tell what became of each candidate, see ``Retrieval.decisions``.
    """

    input: Fields | str
    task: str | None = None
    family: str | None = None
    scope: str | None = None
    k: int = 8
    exclude: Sequence[str] = ()
    keep_copies: bool = False
    min_similarity: float | None = None
    max_similarity: float | None = None
    mode: Mode = "dense"
    distinct: float | None = None
    diversity: float | None = None
    balance: bool = False
    candidates: int | None = None
    explain: bool = False

    @classmethod
    def of(
        cls, task: str | None, input: Fields | str | None, k: int, options: "SelectionOptions"
    ) -> "RetrievalRequest":
        """Return the request that a call of ``retrieve`` makes.

        Raises:
            InvalidInputError: there is no input.
        """
        if input is None:
            raise InvalidInputError("the input is missing; give fields by name, or plain text")
        return cls(input=input, task=task, k=k, **options)


class SelectionOptions(TypedDict, total=False):
    """How demonstrations may be chosen, beside task, input and k; ``RetrievalRequest`` says what each means."""

    exclude: Sequence[str]
    keep_copies: bool
    min_similarity: float | None
    max_similarity: float | None
    mode: Mode
    distinct: float | None
    diversity: float | None
    balance: bool
    candidates: int | None
    explain: bool


class RetrievalOptions(SelectionOptions, total=False):
    """What a call may say of a retrieval: how to choose, and where from if not from a task."""

    family: str | None
    scope: str | None


Stage = Literal["exclude", "copies", "max_similarity", "min_similarity", "distinct", "choice", "budget"]
"""A stage on the way from the index into a prompt, in their order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision:
    """What became of a candidate.

    Attributes:
        id: the row's id.
        task: the task it belongs to.
        similarity: the number that ranks it.
        stage: the stage that left it out, or the last one, where none did.
        kept: whether none did.
        reason: why, in words.
    """

    id: str
    task: str
    similarity: float
    stage: Stage
    kept: bool
    reason: str

    def to_json(self) -> dict[str, Json]:
        """Return its attributes by name."""
        return {
            "id": self.id,
            "task": self.task,
            "similarity": self.similarity,
            "stage": self.stage,
            "kept": self.kept,
            "reason": self.reason,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Retrieval(Sequence[RetrievedDemonstration]):
    """The answer to one request: the demonstrations, the best first, and what they came from.

    It is itself a sequence: ``for demonstration in retrieval`` and ``retrieval[0]`` work.

    Attributes:
        demonstrations: in the order in which they were chosen: the nearest first, ties by id, unless diversity or
            balance chose in another order.
        index_version: the version of the index that answered.
        model: the name of the encoder.
        decisions: what became of each candidate, the nearest first; empty unless it was asked to explain.
    """

    demonstrations: tuple[RetrievedDemonstration, ...]
    index_version: str
    model: str
    decisions: tuple[Decision, ...] = ()

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
        """Iterate over the demonstrations, the best first."""
        return iter(self.demonstrations)

    def to_json(self) -> dict[str, Json]:
        """Return it as the service and ``udr retrieve --json`` show it."""
        body: dict[str, Json] = {
            "demonstrations": [demonstration.to_json() for demonstration in self.demonstrations],
            "index_version": self.index_version,
            "model": self.model,
        }
        if self.decisions:
            body["decisions"] = [decision.to_json() for decision in self.decisions]
        return body
