"""Plans: requests checked against the contents of the index, before anything is computed."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from udr.data import Kind, Task, Wording, check_input, copy_key, encoder_query, plain_inputs
from udr.errors import InvalidInputError, TooLongError, UnknownTaskError
from udr.retrieval.types import MODES, DefaultK, RetrievalRequest
from udr.store import Manifest

MAX_CHARACTERS = 32_768
"""The maximum length of a query's formatted input: encoders read far less, and one request must not block others."""

ALL = "all"
"""The scope of all tasks."""

_NAMES_LISTED = 12


@dataclass(frozen=True, slots=True)
class Plan:
    """A valid request.

    Attributes:
        request: the request.
        text: what the encoder reads.
        words: what BM25 reads.
        copy_keys: for each task to search, the copy keys of rows that equal the query.
        size: how many demonstrations these tasks have.
        copy_text: what the encoder reads as a demonstration, to find near copies; None without ``max_copy``.
    """

    request: RetrievalRequest
    text: str
    words: str
    copy_keys: Mapping[str, Collection[bytes]]
    size: int
    copy_text: str | None = None

    @property
    def encoded(self) -> bool:
        """Whether the text must be encoded."""
        return self.request.mode != "bm25"

    @property
    def num_chosen(self) -> int:
        """How many demonstrations to choose: k, or as many as there are candidates for a prompt with room left."""
        return min(self.size, self._considered) if self.request.fill else self.request.k

    @property
    def candidates(self) -> int:
        """How many hits to search for at first: k if similarity alone chooses."""
        request = self.request
        if not (request.balance or request.explain or request.fill) and (
            request.max_similarity is request.distinct is request.diversity is request.max_copy is None
        ):
            return request.k
        return self._considered

    @property
    def _considered(self) -> int:
        return self.request.candidates or max(4 * self.request.k, 50)


def plan(manifest: Manifest, request: RetrievalRequest) -> Plan:
    """Return the plan for a request.

    Raises:
        UnknownTaskError: the index has no such task or family.
        InvalidInputError: the input does not fit the task, or another value is invalid.
        TooLongError: the input has more than ``MAX_CHARACTERS`` characters.
    """
    tasks, wording = _scope(manifest, request)
    size = sum(manifest.partitions[task.name].count for task in tasks)
    if isinstance(request.k, DefaultK):
        request = replace(request, k=min(request.k, size))
    _check_k(request, size)
    _check_options(request)
    _check_support(request, tasks, lexical=all(manifest.partitions[task.name].lexical for task in tasks))
    if not isinstance(request.input, str | Mapping):
        raise InvalidInputError(f"the input must be fields by name, or plain text; found {request.input!r}")
    text = wording.input(request.input)
    _check_text(text)
    keys = {task.name: _copy_keys(task, request, plain=wording.task is None) for task in tasks}
    copy_text = None if request.max_copy is None else wording.demonstration(request.input)
    return Plan(request, encoder_query(wording.instruction, text), wording.words(request.input), keys, size, copy_text)


def unknown(kind: Literal["task", "family"], name: str, known: Collection[str]) -> UnknownTaskError:
    """Return the error for an unknown name; it lists some of the known ones."""
    kinds = "tasks" if kind == "task" else "families"
    listed = ", ".join(sorted(known)[:_NAMES_LISTED])
    more = f" and {len(known) - _NAMES_LISTED} more" if len(known) > _NAMES_LISTED else ""
    return UnknownTaskError(f"unknown {kind} {name!r}; the {kinds} are {listed}{more}")


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
            f"scope must be {ALL!r}, found {request.scope!r}; to search less, give a task or a family"
        )
    return list(tasks.values()), Wording.of_families(list(manifest.families.values()))


def _check_k(request: RetrievalRequest, size: int) -> None:
    if not isinstance(request.k, int) or isinstance(request.k, bool):
        raise InvalidInputError(f"k must be a whole number, found {request.k!r}")
    if not 1 <= request.k <= size:
        searched = request.task or request.family or ALL
        limits = f"from 1 to {size}, the number of demonstrations in {searched!r}"
        raise InvalidInputError(f"k must be {limits}; found {request.k}")


def _check_options(request: RetrievalRequest) -> None:
    exclude: object = request.exclude
    ids = exclude if isinstance(exclude, Collection) and not isinstance(exclude, str) else [None]
    if not all(isinstance(id, str) for id in ids):
        raise InvalidInputError(f"exclude must be a list of ids, found {exclude!r}")
    for name in ("min_similarity", "max_similarity", "max_copy", "distinct", "diversity"):
        value = getattr(request, name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InvalidInputError(f"{name} must be a number, found {value!r}")
        if name in ("max_copy", "distinct", "diversity") and not 0 <= value <= 1:
            raise InvalidInputError(f"{name} must be from 0 to 1, found {value!r}")
    for name in ("keep_copies", "balance", "explain", "fill"):
        if not isinstance(getattr(request, name), bool):
            raise InvalidInputError(f"{name} must be true or false, found {getattr(request, name)!r}")
    number = request.candidates
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < request.k):
        raise InvalidInputError(f"candidates must be a whole number, not below k ({request.k}); found {number!r}")


def _check_support(request: RetrievalRequest, tasks: Collection[Task], *, lexical: bool) -> None:
    """Check that the tasks support the request's mode and selection."""
    mode = request.mode
    if mode not in MODES:
        raise InvalidInputError(f"mode must be one of {', '.join(MODES)}; found {mode!r}")
    if mode != "dense" and not lexical:
        raise InvalidInputError(f"mode {mode!r} needs an index with BM25; run: udr index build --bm25")
    if request.diversity is not None and mode != "dense":
        raise InvalidInputError(f"diversity weighs the encoder's similarities, so mode must be 'dense'; found {mode!r}")
    others = [task.name for task in tasks if task.kind is not Kind.CLASSIFICATION]
    if request.balance and others:
        raise InvalidInputError(f"balance needs classification tasks, but these are not: {', '.join(others)}")


def _check_text(text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise TooLongError(f"the input has {len(text)} characters; the limit is {MAX_CHARACTERS}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = f"character {error.start + 1}, {text[error.start]!r}, is half a surrogate pair"
        raise InvalidInputError(f"the input is not valid text: {half}") from error


def _copy_keys(task: Task, request: RetrievalRequest, *, plain: bool) -> frozenset[bytes]:
    if request.keep_copies:
        return frozenset()
    inputs = plain_inputs(task, str(request.input)) if plain else [check_input(task, request.input)]
    return frozenset(copy_key(task, fields) for fields in inputs)
