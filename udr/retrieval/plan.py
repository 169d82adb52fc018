"""Plans: requests checked against the contents of the index, before anything is computed."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Literal

import numpy as np

from udr.data import Filter, Kind, PlainText, Task, Wording, check_input, copy_key, encoder_query
from udr.errors import InvalidInputError, TooLongError, UnknownTaskError, brief, listed
from udr.retrieval.cost import cost
from udr.retrieval.stopping import Stopped, never, refuse_stopped
from udr.retrieval.types import MODES, DefaultK, RetrievalRequest
from udr.search import Mask
from udr.store import LabelHeadStamp, Manifest

if TYPE_CHECKING:
    from udr.retrieval.partitions import Partitions

MAX_CHARACTERS = 32_768
"""The maximum length of a query's formatted input: encoders read far less, and one request must not block others."""

MAX_EXCLUDED = 4096
"""The maximum number of ids to exclude."""

EVEN = 0.5
"""The weight in mode ``hybrid`` by which both rankings count alike."""

ALL = "all"
"""The scope of all tasks."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A valid request.

    Attributes:
        request: the request.
        text: what the encoder reads.
        words: what BM25 reads.
        copy_keys: for each task to search, the copy keys of rows that equal the query.
        size: how many demonstrations these tasks have, of those that pass the filter.
        copy_text: what the encoder reads as a demonstration, to find near copies; None without ``max_copy``.
        row_bytes: about how many bytes a demonstration of these tasks has, at most.
        label_head: whether the task's label head ranks.
        field_texts: what the encoder reads besides, each alone: the fields that this head reads apart.
        weight: how much the encoder's ranking counts in mode ``hybrid``, from 0 to 1.
        filter: the request's filter, parsed.
        within: a filter of the only rows that it sees, for a tenant.
        rows: for each task, which rows may be returned; all, if it has none.
        partitions: what it is to be searched in: the rows as they were when it was made.
    """

    request: RetrievalRequest
    text: str
    words: str
    copy_keys: Mapping[str, Collection[bytes]]
    size: int
    copy_text: str | None = None
    row_bytes: int = 0
    label_head: bool = False
    field_texts: tuple[str, ...] = ()
    weight: float = EVEN
    filter: Filter | None = None
    within: Filter | None = None
    rows: Mapping[str, Mask] = field(default_factory=dict)
    partitions: "Partitions | None" = field(default=None, repr=False, compare=False)

    def among(self, rows: Mapping[str, Mask]) -> "Plan":
        """Return the plan that searches only these rows of each task."""
        return replace(self, rows=rows, size=sum(int(np.count_nonzero(mask)) for mask in rows.values()))

    @property
    def filtered(self) -> bool:
        """Whether a filter leaves rows out."""
        return self.filter is not None or self.within is not None

    @property
    def encoded(self) -> bool:
        """Whether the text must be encoded."""
        return self.request.mode != "bm25"

    @property
    def query_texts(self) -> tuple[str, ...]:
        """All that the encoder reads as queries: the text, and the fields after it; nothing in mode ``bm25``."""
        return (self.text, *self.field_texts) if self.encoded else ()

    @property
    def num_chosen(self) -> int:
        """How many demonstrations to choose: k, or as many as there are candidates for a prompt with room left."""
        return min(self.size, self._considered) if self.request.fill else self.request.k

    @property
    def candidates(self) -> int:
        """How many hits to search for at first: k if similarity alone chooses."""
        request = self.request
        bounds = request.max_similarity, request.max_copy, request.distinct, request.diversity, request.coverage
        if not (request.balance or request.explain or request.fill) and all(bound is None for bound in bounds):
            return request.k
        return self._considered

    @property
    def cost(self) -> int:
        """About how many plain queries it costs to encode, search and select, at least 1."""
        return cost(self)

    @property
    def _considered(self) -> int:
        return self.request.candidates or max(4 * self.request.k, 50)


def make_plan(
    manifest: Manifest, request: RetrievalRequest, stopped: Stopped = never, sizes: Mapping[str, int] | None = None
) -> Plan:
    """Return the plan for a request; ``stopped`` is looked at between tasks.

    ``sizes`` are how many rows the tasks have now; None for as many as the version was built with.

    Raises:
        UnknownTaskError: the index has no such task or family.
        InvalidInputError: the input does not fit the task, or another value is invalid.
        TooLongError: the input has more than ``MAX_CHARACTERS`` characters.
        StoppedError: nobody waits for the plan any more.
    """
    tasks, wording = _scope(manifest, request)
    size = sum(manifest.partitions[task.name].count if sizes is None else sizes[task.name] for task in tasks)
    if isinstance(request.k, DefaultK):
        # All may have been deleted.
        request = replace(request, k=min(request.k, max(1, size)))
    _check_k(request, size)
    filter = check_options(request)
    _check_support(request, tasks, lexical=all(manifest.partitions[task.name].lexical for task in tasks))
    if not isinstance(request.input, str | Mapping):
        raise InvalidInputError(f"the input must be fields by name, or plain text; found {brief(request.input)}")
    if (length := num_characters(request.input)) > MAX_CHARACTERS and not isinstance(request.input, str):
        raise TooLongError(f"the input has at least {length} characters; the limit is {MAX_CHARACTERS}")
    text = wording.input(request.input)
    _check_text(text)
    keys = _copy_keys(tasks, request, wording, stopped)
    copy_text = None if request.max_copy is None else wording.demonstration(request.input)
    query, words = encoder_query(wording.instruction, text), wording.words(request.input)
    head = _label_head(manifest, request)
    plan = Plan(request, query, words, keys, size, copy_text, label_head=head is not None, filter=filter)
    return plan if head is None else replace(plan, field_texts=tuple(wording.fields(request.input, head.fields)))


def planning_characters(manifest: Manifest, request: RetrievalRequest) -> int:
    """Return about how many characters ``make_plan`` reads: the input's, by each task; also of an invalid request."""
    partitions = manifest.partitions.values()
    tasks = 1 if request.task is not None else len(partitions)
    if request.scope is None and request.family is not None:
        tasks = sum(partition.task.family == request.family for partition in partitions)
    return num_characters(request.input) * max(1, tasks)


def num_characters(value: object) -> int:
    """Return how many characters the text of an input has at least; stops counting above ``MAX_CHARACTERS``."""
    count, values = 0, [value]
    for _ in range(2 * MAX_CHARACTERS):
        if not values or count > MAX_CHARACTERS:
            break
        item = values.pop()
        if isinstance(item, Mapping):
            values += islice(item.values(), MAX_CHARACTERS)
        elif isinstance(item, list | tuple):
            # A comma and a space follow each value but the last.
            count += 2 * max(0, len(item) - 1)
            values += item[:MAX_CHARACTERS]
        elif item is not None:
            count += len(item) if isinstance(item, str) else 1
    return count


def unknown(kind: Literal["task", "family"], name: str, known: Collection[str]) -> UnknownTaskError:
    """Return the error for an unknown name; it lists some of the known ones."""
    kinds = "tasks" if kind == "task" else "families"
    return UnknownTaskError(f"unknown {kind} {brief(name)}; the {kinds} are {listed(sorted(known), len(known))}")


def _scope(manifest: Manifest, request: RetrievalRequest) -> tuple[list[Task], Wording]:
    given = [name for name in ("task", "family", "scope") if getattr(request, name) is not None]
    if len(given) != 1:
        names = " and ".join(given) or "none of them"
        raise InvalidInputError(f"give exactly one of task, family and scope; found {names}")
    tasks = {name: partition.task for name, partition in manifest.partitions.items()}
    if request.task is not None:
        if request.task not in tasks:
            raise unknown("task", request.task, tasks)
        return [tasks[request.task]], Wording.of_task(tasks[request.task])
    if request.family is not None:
        if request.family not in manifest.families:
            raise unknown("family", request.family, manifest.families)
        family = manifest.families[request.family]
        return [task for task in tasks.values() if task.family == family.name], Wording.of_families([family])
    if request.scope != ALL:
        raise InvalidInputError(
            f"scope must be {ALL!r}, found {brief(request.scope)}; to search less, give a task or a family"
        )
    return list(tasks.values()), Wording.of_families(list(manifest.families.values()))


def _check_k(request: RetrievalRequest, size: int) -> None:
    if not isinstance(request.k, int) or isinstance(request.k, bool):
        raise InvalidInputError(f"k must be a whole number, found {brief(request.k)}")
    if not 1 <= request.k <= max(1, size):
        searched = request.task or request.family or ALL
        limits = f"from 1 to {size}, the number of demonstrations in {searched!r}"
        raise InvalidInputError(f"k must be {limits}; found {brief(request.k)}")


def check_options(request: RetrievalRequest) -> Filter | None:
    """Return a request's filter, parsed; ``InvalidInputError`` if an option is invalid, whatever the index."""
    if request.mode not in MODES:
        raise InvalidInputError(f"mode must be one of {', '.join(MODES)}; found {brief(request.mode)}")
    exclude: object = request.exclude
    if isinstance(exclude, str) or not isinstance(exclude, Collection):
        raise InvalidInputError(f"exclude must be a list of ids, found {brief(exclude)}")
    if len(exclude) > MAX_EXCLUDED:
        raise InvalidInputError(f"exclude must have at most {MAX_EXCLUDED} ids, found {len(exclude)}")
    if not all(isinstance(id, str) for id in exclude):
        raise InvalidInputError(f"exclude must be a list of ids, found {brief(exclude)}")
    filter = None if request.filter is None else Filter.of(request.filter)
    for name in ("min_similarity", "max_similarity", "max_copy", "distinct", "diversity", "coverage", "weight"):
        value = getattr(request, name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InvalidInputError(f"{name} must be a number, found {brief(value)}")
        if name not in ("min_similarity", "max_similarity") and not 0 <= value <= 1:
            raise InvalidInputError(f"{name} must be from 0 to 1, found {brief(value)}")
    for name in ("keep_copies", "balance", "explain", "fill"):
        if not isinstance(getattr(request, name), bool):
            raise InvalidInputError(f"{name} must be true or false, found {brief(getattr(request, name))}")
    if not isinstance(request.label_head, bool | None):
        raise InvalidInputError(f"label_head must be true, false or absent, found {brief(request.label_head)}")
    number = request.candidates
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < request.k):
        raise InvalidInputError(f"candidates must be a whole number, not below k ({request.k}); found {brief(number)}")
    if request.weight is not None and request.mode != "hybrid":
        raise InvalidInputError(f"weight fuses two rankings, so mode must be 'hybrid'; found {brief(request.mode)}")
    for name in ("diversity", "coverage"):
        if getattr(request, name) is not None and request.mode != "dense":
            raise InvalidInputError(
                f"{name} weighs the encoder's similarities, so mode must be 'dense'; found {brief(request.mode)}"
            )
    return filter


def _check_support(request: RetrievalRequest, tasks: Collection[Task], *, lexical: bool) -> None:
    """Check that the tasks support the request's mode and selection."""
    if request.mode != "dense" and not lexical:
        raise InvalidInputError(f"mode {request.mode!r} needs an index with BM25; build it again: udr index build")
    if request.coverage is not None and not lexical:
        raise InvalidInputError("coverage reads words, so it needs an index with BM25; build it again: udr index build")
    others = [task.name for task in tasks if task.kind is not Kind.CLASSIFICATION]
    if request.balance and others:
        raise InvalidInputError(f"balance needs classification tasks, but these are not: {', '.join(others)}")


def _label_head(manifest: Manifest, request: RetrievalRequest) -> LabelHeadStamp | None:
    """Return the label head that ranks, if any; ``InvalidInputError`` if the request asks for one that cannot."""
    if request.label_head is False:
        return None
    problem, head = None, manifest.partitions[request.task].label_head if request.task is not None else None
    if request.mode == "bm25":
        problem = "mode 'bm25' does not use one"
    elif request.task is None:
        problem = "heads of different tasks share no scale, so it needs a task"
    elif head is None:
        problem = f"task {request.task!r} has none; run: udr index build --label-head"
    if problem is not None and request.label_head:
        raise InvalidInputError(f"label_head asks to rank by a label head, but {problem}")
    return head if problem is None else None


def _check_text(text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise TooLongError(f"the input has {len(text)} characters; the limit is {MAX_CHARACTERS}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"character {error.start + 1}, {text[error.start]!r}, is half a surrogate pair"
        raise InvalidInputError(f"the input is not valid text: {half}") from error


def _copy_keys(
    tasks: Collection[Task], request: RetrievalRequest, wording: Wording, stopped: Stopped
) -> dict[str, Collection[bytes]]:
    if request.keep_copies:
        return {task.name: () for task in tasks}
    if wording.task is not None:
        return {wording.task.name: {copy_key(wording.task, check_input(wording.task, request.input))}}
    text, keys = PlainText(str(request.input)), dict[str, Collection[bytes]]()
    for task in tasks:
        refuse_stopped(stopped)
        keys[task.name] = text.copy_keys(task)
    return keys
