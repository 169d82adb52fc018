"""Planning: what a request asks for, checked against what the index holds, before anything is computed."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from udr.data import Kind, Task, Wording, check_input, copy_key, encoder_query, plain_inputs
from udr.errors import InvalidInputError, TooLongError, UnknownTaskError
from udr.retrieval.types import MODES, RetrievalRequest
from udr.store import Manifest, Partition
from udr.types import Fields

MAX_CHARACTERS = 32_768
"""How long a query's worded input may be. Encoders read far less; this keeps one request from blocking others."""

ALL = "all"
"""The scope that is every task."""

_MOST_NAMES = 12
_CANDIDATES_A_PLACE, _CANDIDATES = 4, 50


@dataclass(frozen=True, slots=True)
class Plan:
    """A request that can be answered.

    Attributes:
        request: as it came.
        text: what the encoder reads.
        words: what BM25 reads.
        copy_keys: for each task to search, the copy keys of rows that are the query itself.
    """

    request: RetrievalRequest
    text: str
    words: str
    copy_keys: Mapping[str, Collection[bytes]]

    @property
    def encoded(self) -> bool:
        """Whether the text is encoded: what words alone rank needs no encoder."""
        return self.request.mode != "bm25"

    @property
    def candidates(self) -> int:
        """How many demonstrations are looked at, at least: where similarity alone chooses, k."""
        asked = self.request
        if asked.max_similarity is asked.distinct is asked.diversity is None and not asked.balance | asked.explain:
            return asked.k
        return asked.candidates or max(_CANDIDATES_A_PLACE * asked.k, _CANDIDATES)


def plan(manifest: Manifest, request: RetrievalRequest) -> Plan:
    """Return how to answer a request.

    Raises:
        UnknownTaskError: the index has no such task or family.
        InvalidInputError: the input does not fit the task, or another value makes no sense.
        TooLongError: the input has more than ``MAX_CHARACTERS`` characters.
    """
    tasks, wording = _scope(manifest, request)
    _check_k(request, sum(manifest.partitions[task.name].count for task in tasks))
    _check_exclude(request.exclude)
    _check_numbers(request)
    _check_mode(request.mode, [manifest.partitions[task.name] for task in tasks])
    _check_choice(request, tasks)
    if not isinstance(request.input, str | Mapping):
        raise InvalidInputError(f"the input must be fields by name, or plain text; found {request.input!r}")
    text = wording.input(request.input)
    _check_text(text)
    plain = wording.task is None
    keys = {
        task.name: frozenset[bytes]() if request.keep_copies else _copy_keys(task, request.input, plain=plain)
        for task in tasks
    }
    return Plan(request, encoder_query(wording.instruction, text), wording.words(request.input), keys)


def unknown(what: str, name: str, known: Collection[str]) -> UnknownTaskError:
    """Return the error for a name that is not among the known ones; it lists some of these."""
    listed = ", ".join(sorted(known)[:_MOST_NAMES])
    more = f" and {len(known) - _MOST_NAMES} more" if len(known) > _MOST_NAMES else ""
    return UnknownTaskError(f"unknown {what} {name!r}; there are {listed}{more}")


def _scope(manifest: Manifest, request: RetrievalRequest) -> tuple[list[Task], Wording]:
    given = [name for name in ("task", "family", "scope") if getattr(request, name) is not None]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        raise InvalidInputError(f"give exactly one of task, family and scope; found {found}")
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
        raise InvalidInputError(f"scope must be {ALL!r}, found {request.scope!r}; for less, give a task or a family")
    return list(tasks.values()), Wording.of_families(list(manifest.families.values()))


def _check_k(request: RetrievalRequest, size: int) -> None:
    if not isinstance(request.k, int) or isinstance(request.k, bool):
        raise InvalidInputError(f"k must be a whole number, found {request.k!r}")
    if not 1 <= request.k <= size:
        searched = request.task or request.family or ALL
        raise InvalidInputError(
            f"k must be from 1 to {size}, the number of demonstrations in {searched!r}; found {request.k}"
        )


def _check_exclude(exclude: object) -> None:
    ids = exclude if isinstance(exclude, Collection) and not isinstance(exclude, str) else [None]
    if not all(isinstance(id, str) for id in ids):
        raise InvalidInputError(f"exclude must be a list of ids, found {exclude!r}")


def _check_numbers(request: RetrievalRequest) -> None:
    for name in ("min_similarity", "max_similarity", "distinct", "diversity"):
        value = getattr(request, name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InvalidInputError(f"{name} must be a number, found {value!r}")
        if name in ("distinct", "diversity") and not 0 <= value <= 1:
            raise InvalidInputError(f"{name} must be from 0 to 1, found {value!r}")
    for name in ("keep_copies", "balance", "explain"):
        if not isinstance(getattr(request, name), bool):
            raise InvalidInputError(f"{name} must be true or false, found {getattr(request, name)!r}")
    number = request.candidates
    if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < request.k):
        raise InvalidInputError(f"candidates must be a whole number, not below k ({request.k}); found {number!r}")


def _check_choice(request: RetrievalRequest, tasks: Collection[Task]) -> None:
    if request.diversity is not None and request.mode != "dense":
        raise InvalidInputError(
            f"diversity weighs the encoder's similarities; it goes with mode 'dense', found {request.mode!r}"
        )
    if request.balance:
        others = [task.name for task in tasks if task.kind is not Kind.CLASSIFICATION]
        if others:
            raise InvalidInputError(f"balance needs labels, and these are no classification tasks: {', '.join(others)}")


def _check_mode(mode: object, partitions: Collection[Partition]) -> None:
    if mode not in MODES:
        raise InvalidInputError(f"mode must be one of {', '.join(MODES)}; found {mode!r}")
    if mode != "dense" and not all(partition.lexical for partition in partitions):
        raise InvalidInputError(f"mode {mode!r} needs an index with BM25; run: udr index build --bm25")


def _check_text(text: str) -> None:
    if len(text) > MAX_CHARACTERS:
        raise TooLongError(f"the input has {len(text)} characters; the limit is {MAX_CHARACTERS}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(
            f"the input is not valid text: character {error.start + 1}, {text[error.start]!r}, is half a surrogate pair"
        ) from error


def _copy_keys(task: Task, input: Fields | str, *, plain: bool) -> frozenset[bytes]:
    inputs = plain_inputs(task, str(input)) if plain else [check_input(task, input)]
    return frozenset(copy_key(task, fields) for fields in inputs)
