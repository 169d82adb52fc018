"""Retrieval requests, the options they take, and their results; all frozen."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field
from functools import cache
from operator import attrgetter
from typing import Any, ClassVar, Literal, TypedDict, cast, get_args, overload

from udr.data import FilterLike
from udr.errors import ConfigError, InvalidInputError
from udr.types import Fields, Json, TokenCount, Value, plain_number

Mode = Literal["dense", "bm25", "hybrid"]
"""What ranks demonstrations; see ``RetrievalRequest``."""

MODES: tuple[Mode, ...] = get_args(Mode)

CHOOSING = ("balance", "coverage", "distinct", "diversity", "explain", "fill", "max_copy", "max_similarity")
"""The options of a request that choose among candidates, of which there are more than k, or show them."""

Stage = Literal["exclude", "copies", "max_similarity", "min_similarity", "distinct", "choice", "budget"]
"""A stage between the index and a prompt, in their order."""


class DefaultK(int):
    """The number of demonstrations if a request names none: fewer if a service allows fewer."""


DEFAULT_K = DefaultK(8)


class JsonObject:
    """A dataclass that is a JSON object: its fields by name, in order, without those that equal their default."""

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def to_json(self) -> dict[str, Json]:
        """Return the object as the service and ``--json`` show it."""
        return cast("dict[str, Json]", _json(self))


_PLAIN = frozenset({str, int, float, bool, type(None)})


def _json(value: object) -> Json:
    if isinstance(value, (JsonObject, TokenCount)):
        kind: Any = type(value)
        names, optional, read = _layout(kind)
        found = dict(zip(names, read(value), strict=True))
        for name, default in optional:
            if found[name] == default:
                del found[name]
        for name, item in found.items():
            if type(item) not in _PLAIN:
                found[name] = _json(item)
        return found
    if isinstance(value, tuple):
        return [_json(item) for item in value]
    # The test of a type is many times as fast as that of a protocol.
    return dict(value) if type(value) is dict or isinstance(value, Mapping) else cast("Json", value)


# To look up a dataclass's fields takes longer than to read them, and answers are many.
@cache
def _layout(kind: Any) -> tuple[tuple[str, ...], tuple[tuple[str, object], ...], Callable[[object], tuple[Any, ...]]]:  # noqa: ANN401
    """Return the names of a dataclass's fields, the defaults of those that have one, and what reads all values."""
    fields = kind.__dataclass_fields__.values()
    names = tuple(field.name for field in fields)
    optional = tuple((field.name, field.default) for field in fields if field.default is not MISSING)
    return names, optional, attrgetter(*names)


class Ranked(JsonObject):
    """A JSON object with a similarity, and a number that ranks it if that is another."""

    __slots__ = ()
    similarity: float
    ranking_score: float | None

    @property
    def ranked_by(self) -> float:
        """The number that ranks it: ``ranking_score`` if there is one, else ``similarity``."""
        return self.similarity if self.ranking_score is None else self.ranking_score


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrievedDemonstration(Ranked):
    """A demonstration that a retriever returns for a query.

    Attributes:
        id: the row's id, unique within its task.
        task: the name of the task it belongs to.
        similarity: the encoder's unless the request has another mode; rounded to 5 decimals, higher is nearer.
        rank: its position in the result, from 1: the nearest first, unless diversity or balance reorder.
        input: its fields by name.
        target: its gold text or label.
        text: input and target as a prompt shows them.
        metadata: as in the row.
        tokens: how many tokens ``text`` has, if the index stores that.
        ranking_score: the number that ranks it, if that is not its similarity: with a label head, similarity and what
            the head adds; rounded to 5 decimals.
        choices: the options of a multiple-choice row.
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
    ranking_score: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def fields(self) -> dict[str, Value]:
        """Its fields as the task's template has them: ``choices`` are the row's, unless a field of the input is."""
        return {**({"choices": list(self.choices)} if self.choices else {}), **self.input}


@dataclass(frozen=True, kw_only=True, slots=True)
class RetrievalRequest:
    """A request for demonstrations, with exactly one of ``task``, ``family`` and ``scope="all"``.

    Attributes:
        input: the fields by name; or plain text if the task has one field, or for a family or ``scope``.
        task: search this task's pool.
        family: search the pools of this family.
        scope: ``"all"`` searches every pool.
        k: how many demonstrations, at least 1; all if the pools searched have fewer. By default 8.
        exclude: ids to exclude, at most 4,096.
        filter: search only the rows that pass, as if the pools had no others: a ``udr.Filter``, its JSON, or a text
            such as ``site = "imdb" and stars >= 3``.
        keep_copies: allow the query itself and copies of it in the result; by default they are excluded.
        max_copy: from 0 to 1: in every mode, exclude near copies of the query: demonstrations whose cosine with the
            query, read as a demonstration, is above this; the next ones replace them.
        min_similarity: exclude demonstrations less similar than this; the result may then have fewer than k, or none.
        max_similarity: exclude demonstrations more similar than this; the next ones replace them.
        mode: what ranks: ``dense`` the encoder's similarity, ``bm25`` the words shared with the input, ``hybrid`` both,
            by reciprocal rank fusion. A demonstration's similarity is the number that ranks it, if no label head does.
        weight: from 0 to 1: how much the encoder's ranking counts in mode ``hybrid``; the words' counts the rest. None
            is the weight that the index keeps for the task (``udr feedback weigh``), or 0.5: both count alike.
        distinct: from 0 to 1: of demonstrations whose vectors have at least this cosine, keep only the best; the next
            ones replace the others.
        diversity: from 0 to 1: choose by maximal marginal relevance, with this weight on being unlike those already
            chosen; 0 chooses the nearest. Only for mode ``dense``.
        coverage: from 0 to 1: choose a set that covers the query, with this weight on what a demonstration adds to
            those chosen: words of the query that none of them has, and a label that the label head finds likely and few
            of them have; see ``choose``. It can go with diversity and balance. Only for mode ``dense``, on an index
            with BM25 whose encoder compares by cosine.
        balance: choose in rounds, each taking the best one left of each label; only for classification tasks.
        candidates: how many of the nearest the options balance, coverage, distinct, diversity, explain, fill, max_copy
            and max_similarity start from; at least k, and only with one of them. None is four times k, and at least 50.
        explain: report the outcome for each candidate; see ``Retrieval.decisions``.
        fill: return more than k, up to ``candidates``, so that a prompt with room left can show them, too.
        label_head: in the modes ``dense`` and ``hybrid``, rank by the similarity plus what the task's label head adds:
            alpha times the probability that the query has the demonstration's label. None uses the head if a task is
            searched that has one, True refuses to search without, False searches without. Bounds and comparisons with
            other demonstrations use the similarity alone.
    """

    input: Fields | str
    task: str | None = None
    family: str | None = None
    scope: str | None = None
    k: int = DEFAULT_K
    exclude: Sequence[str] = ()
    filter: FilterLike | None = None
    keep_copies: bool = False
    max_copy: float | None = None
    min_similarity: float | None = None
    max_similarity: float | None = None
    mode: Mode = "dense"
    weight: float | None = None
    distinct: float | None = None
    diversity: float | None = None
    coverage: float | None = None
    balance: bool = False
    candidates: int | None = None
    explain: bool = False
    fill: bool = False
    label_head: bool | None = None

    def __post_init__(self) -> None:
        for name, each in self.__dataclass_fields__.items():
            value = getattr(self, name)
            if value is None and each.default is not MISSING:
                # As in JSON, where null means absent.
                object.__setattr__(self, name, each.default)
            elif (number := plain_number(value)) is not value:
                object.__setattr__(self, name, number)

    @property
    def chooses(self) -> bool:
        """Whether an option of ``CHOOSING`` is given, so that more than the k nearest are searched for."""
        values = (getattr(self, name) for name in CHOOSING)
        return any(value is not None and value is not False for value in values)

    @property
    def weighs(self) -> bool:
        """Whether the choice depends on what is chosen before, so that it is made among more candidates than k."""
        return bool(self.diversity or self.coverage)

    @classmethod
    def of(
        cls, task: str | None, input: Fields | str | None, k: int, options: "SelectionOptions"
    ) -> "RetrievalRequest":
        """Return the request for the arguments of ``retrieve``.

        Raises:
            InvalidInputError: there is no input.
            ConfigError: there is no such option.
        """
        check_names(options, RetrievalOptions)
        if input is None:
            raise InvalidInputError("the input is missing; give fields by name, or plain text")
        return cls(input=input, task=task, k=k, **options)


def check_names(options: Mapping[str, object], known: type) -> None:
    """Raise a ``ConfigError`` that lists the options of a ``TypedDict`` if one that is given is not among them."""
    for name in options:
        if name not in known.__annotations__:
            raise ConfigError(f"unknown option {name!r}; the options are {', '.join(known.__annotations__)}")


class SelectionOptions(TypedDict, total=False):
    """Options of ``RetrievalRequest`` that choose among the demonstrations of a scope; a test compares the two."""

    exclude: Sequence[str]
    filter: FilterLike | None
    keep_copies: bool
    max_copy: float | None
    min_similarity: float | None
    max_similarity: float | None
    mode: Mode
    weight: float | None
    distinct: float | None
    diversity: float | None
    coverage: float | None
    balance: bool
    candidates: int | None
    explain: bool
    fill: bool
    label_head: bool | None


class RetrievalOptions(SelectionOptions, total=False):
    """All options of ``RetrievalRequest``, besides task, input and k."""

    family: str | None
    scope: str | None


Scale = Literal["cosine", "dot", "bm25", "reciprocal_ranks"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Decision(Ranked):
    """The outcome for a candidate.

    Attributes:
        id: the row's id.
        task: the task it belongs to.
        similarity: higher is nearer.
        stage: the stage that dropped it, or the last stage.
        kept: whether no stage dropped it.
        reason: the reason, in words.
        ranking_score: the number that ranks it, if that is not its similarity.
    """

    id: str
    task: str
    similarity: float
    stage: Stage
    kept: bool
    reason: str
    ranking_score: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Retrieval(JsonObject, Sequence[RetrievedDemonstration]):
    """The result of one request, a sequence of demonstrations, best first.

    Attributes:
        demonstrations: in the order of choice: the best first, ties by id, unless diversity or balance reorder.
        index_version: the version of the index they are from.
        model: the name of the encoder.
        scale: what the similarities are: ``cosine`` or ``dot`` of vectors; ``bm25``, scores without an upper bound; or
            ``reciprocal_ranks``, sums of 1 / (60 + rank) over the fused rankings, each times its weight (two weights
            add up to 2), at most 0.033.
        copies: how many demonstrations are left out as copies of the query, near ones included.
        k: how many were requested, if the request fills; the others follow for a prompt with room left.
        overlay_position: the number of the last write to the index that the answer knows of; 0 if there was none.
        decisions: the outcome for each candidate, nearest first; empty unless the request explains.
        missing_shards: of pools in several services, the shards that did not answer: their rows are not in the result.
    """

    demonstrations: tuple[RetrievedDemonstration, ...]
    index_version: str
    model: str
    scale: Scale = "cosine"
    copies: int = 0
    k: int | None = None
    overlay_position: int = 0
    decisions: tuple[Decision, ...] = ()
    missing_shards: tuple[str, ...] = ()

    @overload
    def __getitem__(self, position: int) -> RetrievedDemonstration: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[RetrievedDemonstration, ...]: ...
    def __getitem__(self, position: int | slice) -> RetrievedDemonstration | tuple[RetrievedDemonstration, ...]:
        return self.demonstrations[position]

    def __len__(self) -> int:
        return len(self.demonstrations)

    def __iter__(self) -> Iterator[RetrievedDemonstration]:
        return iter(self.demonstrations)
