"""How a request becomes a plan: it is checked against the contents of the index."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Literal

from udr.data import Kind, PlainText, Task, Wording, check_input, copy_key, encoder_query
from udr.errors import InvalidInputError, UnknownTaskError, brief, listed
from udr.retrieval.planning.length import checked_text, num_characters
from udr.retrieval.planning.options import check_options
from udr.retrieval.planning.plan import Plan
from udr.retrieval.stopping import Stopped, never, refuse_stopped
from udr.retrieval.types import RetrievalRequest
from udr.store import LabelHeadStamp, Manifest

ALL = "all"
"""The scope of all tasks."""


def make_plan(
    manifest: Manifest, request: RetrievalRequest, stopped: Stopped = never, sizes: Mapping[str, int] | None = None
) -> Plan:
    """Return the plan for a request; ``stopped`` is looked at between tasks.

    ``sizes`` are how many rows the tasks have now, which is the most that k then is; None for as many as the version
    was built with, to which rows may have been added since.

    Raises:
        UnknownTaskError: the index has no such task or family.
        InvalidInputError: the input does not fit the task, or another value is invalid.
        TooLongError: the input has more than ``MAX_CHARACTERS`` characters.
        StoppedError: nobody waits for the plan any more.
    """
    tasks, wording = _scope(manifest, request)
    size = sum(manifest.partitions[task.name].count if sizes is None else sizes[task.name] for task in tasks)
    _check_k(request)
    if sizes is not None:
        # All may have been deleted.
        request = replace(request, k=min(request.k, max(1, size)))
    filter = check_options(request)
    _check_support(manifest, request, tasks)
    if not isinstance(request.input, str | Mapping):
        raise InvalidInputError(f"the input must be fields by name, or plain text; found {brief(request.input)}")
    text = checked_text(wording, request.input)
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


def _check_k(request: RetrievalRequest) -> None:
    if not isinstance(request.k, int) or isinstance(request.k, bool):
        raise InvalidInputError(f"k must be a whole number, found {brief(request.k)}")
    if request.k < 1:
        raise InvalidInputError(f"k must be at least 1, found {brief(request.k)}")


def _check_support(manifest: Manifest, request: RetrievalRequest, tasks: Collection[Task]) -> None:
    """Check that the index and the tasks support the request's mode and selection."""
    lexical = all(manifest.partitions[task.name].lexical for task in tasks)
    if request.mode != "dense" and not lexical:
        raise InvalidInputError(f"mode {request.mode!r} needs an index with BM25; build it again: udr index build")
    if request.coverage is not None and not lexical:
        raise InvalidInputError("coverage reads words, so it needs an index with BM25; build it again: udr index build")
    if request.coverage is not None and manifest.encoder.metric != "cosine":
        raise InvalidInputError(
            "coverage is weighed against similarities up to 1, so it needs an encoder that compares by cosine; that of "
            "this index compares by dot product; omit coverage, or choose by diversity"
        )
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
