"""The service: its parts, and how they answer one request."""

import asyncio
import functools
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import TypeVar, cast

from starlette.requests import Request

from udr.client import TIMEOUT
from udr.data import Filter, Task, formatting
from udr.errors import (
    DeadlineError,
    InvalidInputError,
    RequestError,
    UdrError,
    UnknownPromptError,
    UnknownTaskError,
    brief,
)
from udr.prompts import BuildingOptions, PromptBuilder
from udr.retrieval import DefaultK, Partitions, Plan, Retrieval, RetrievalRequest, Stopped, never
from udr.search import Vectors
from udr.store.live import Change, Outcome
from udr.store.usage import FLUSH_SECONDS, Count, PromptOutcome, Usage, UsageLevel
from udr.types import Fields, Json, Row
from udr_service.errors import ForbiddenError, KTooLargeError, VersionMismatchError
from udr_service.observability import Metrics
from udr_service.serving.active_version import ActiveVersion, Current
from udr_service.serving.record import Record, record_of
from udr_service.serving.reloader import Reloader
from udr_service.serving.room import Room
from udr_service.serving.team import Team
from udr_service.serving.work import Embedding, EncodeJob, FieldReader, JobResult, Preparer, Worker
from udr_service.settings import Settings

Answer = Retrieval | UdrError
"""The answer to a request of a batch; errors are returned, so that one does not affect the others."""

INDEX_VERSION = "X-Udr-Index-Version"
"""In an answer, the header with the version that answered; in a request, a precondition."""

OVERLAY_POSITION = "X-Udr-Overlay-Position"
"""In an answer, the header with the number of the last write that it knows of."""

_INLINE_CHARACTERS, _INLINE_REQUESTS = 8192, 4
"""What is planned on the event loop; handing so little to a thread would take longer."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of the service."""

    settings: Settings
    current: Current
    worker: Worker
    preparer: Preparer
    field_reader: FieldReader
    room: Room
    reloader: Reloader
    metrics: Metrics
    usage: Usage
    team: Team | None = None

    @property
    def workers(self) -> int:
        """How many processes answer."""
        return 1 if self.team is None else self.team.shares.workers

    @asynccontextmanager
    async def context(self, request: Request) -> AsyncIterator["RequestContext"]:
        """Answer a request from one version, from beginning to end.

        Raises:
            NotReadyError: no version is open yet.
            InvalidInputError: the timeout header is not a number of seconds.
            VersionMismatchError: the request asks for another version.
        """
        record = record_of(request.scope)
        with self.current.answering() as active:
            retriever = active.retriever
            # Others' writes are read in a thread: there may be many.
            partitions = retriever.at_hand()
            if partitions is None:
                partitions = await asyncio.to_thread(retriever.partitions)
            record.index_version, record.overlay_position = active.version, partitions.view.position
            expected = request.headers.get(INDEX_VERSION)
            if expected not in (None, active.version):
                raise VersionMismatchError(
                    f"the header {INDEX_VERSION} asks for version {expected[:40]!r}, but {active.version!r} answers; "
                    "send the request without the header, or fetch again what you keep of the other version"
                )
            expires = record.started + timeout_of(request, self.settings.timeout_seconds)
            yield RequestContext(self, active, partitions, record, expires)


def timeout_of(request: Request, limit: float) -> float:
    """Return how many seconds a request may take: its header may lower the limit.

    Raises:
        InvalidInputError: the header is not a number of seconds.
    """
    header = request.headers.get(TIMEOUT)
    if header is None:
        return limit
    try:
        seconds = float(header)
    except ValueError:
        seconds = 0.0
    # False for "nan", too.
    if not seconds > 0:
        raise InvalidInputError(f"the header {TIMEOUT} must be a number of seconds above 0; found {header[:40]!r}")
    return min(seconds, limit)


@asynccontextmanager
async def before(expires: float, record: Record) -> AsyncIterator[None]:
    """Raise a ``DeadlineError`` if the block has not ended when a request expires, by ``time.perf_counter``."""
    try:
        async with asyncio.timeout(expires - time.perf_counter()):
            yield
    except TimeoutError as error:
        raise DeadlineError(
            f"no answer within {expires - record.started:g} seconds; raise the header {TIMEOUT}, or send fewer requests"
        ) from error


def within_limits(request: RetrievalRequest, settings: Settings) -> RetrievalRequest:
    """Return a request whose default number of demonstrations is within the limits.

    Raises:
        KTooLargeError: it asks for more.
    """
    if isinstance(request.k, DefaultK):
        request = replace(request, k=DefaultK(min(request.k, settings.max_k)))
    for name, value, limit in (
        ("k", request.k, settings.max_k),
        ("candidates", request.candidates or 0, settings.max_candidates),
    ):
        if value > limit:
            raise KTooLargeError(f"{name} must be at most {limit}, the limit of this service; found {value}")
    return request


def refuse_foreign(record: Record, tasks: Mapping[str, Task], task: str | None, family: str | None) -> None:
    """Raise a ``ForbiddenError`` if a request's key is not for a task, a family or, without either, all tasks."""
    pools = record.pools
    if pools.all:
        return
    if task is not None:
        included = pools.include(task, tasks[task].family if task in tasks else None)
    else:
        included = family in pools.families
    if not included:
        name = f"the task {brief(task)}" if task else f"the family {brief(family)}" if family else "all tasks"
        raise ForbiddenError(f"the key {record.key!r} is for {pools}; the request is for {name}")


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One request while it is answered, before it expires (by ``time.perf_counter``).

    It sees one version, and what was written to it until the request began: ``partitions``.
    """

    service: Service
    active: ActiveVersion
    partitions: Partitions
    record: Record
    expires: float

    @property
    def room(self) -> Room:
        """The room for large answers."""
        return self.service.room

    def _deadline(self) -> AbstractAsyncContextManager[None]:
        return before(self.expires, self.record)

    async def prepare(self, work: Callable[[Stopped], _T]) -> _T:
        """Return what work returns that would hold the event loop; it runs in a thread, before the deadline.

        Raises:
            OverloadedError: too much of such work waits.
            DeadlineError: the deadline has passed; the work stops.
        """
        async with self._deadline():
            return await self.service.preparer.do(self.record.client.name, work)

    async def share(self, made: "asyncio.Future[_T]") -> _T:
        """Return what is made for others, too, before the deadline; it goes on when this request ends.

        Raises:
            DeadlineError: the deadline has passed.
        """
        async with self._deadline():
            return await asyncio.shield(made)

    async def do(self, jobs: Sequence[EncodeJob], *, reserved: bool = False) -> list[JobResult]:
        """Run jobs before the deadline; return their results, in order. ``reserved`` is for the probe.

        Raises:
            CostError: the jobs cost more than the queue ever takes.
            OverloadedError: the queue is too full, the deadline too near, or the client above its limits.
            DeadlineError: the deadline has passed; the jobs stop.
        """
        worker = self.service.worker
        self.record.queue_size = worker.waiting
        async with self._deadline():
            left = self.expires - time.perf_counter()
            results = await worker.do(self.active.retriever, jobs, left, client=self.record.client, reserved=reserved)
        self.record.add(results)
        return results

    async def answer(self, requests: Sequence[RetrievalRequest], *, reserved: bool = False) -> list[Answer]:
        """Return the answers, in order; invalid requests do not affect the others. Raises what ``do`` raises."""
        return await self.answers(await self.plans(requests), reserved=reserved)

    async def answers(self, plans: Sequence[Plan | UdrError], *, reserved: bool = False) -> list[Answer]:
        """Return the answers to what was planned, in order. Raises what ``do`` raises."""
        self.record.tasks += [plan.request.task for plan in plans if isinstance(plan, Plan)]
        jobs = [plan for plan in plans if isinstance(plan, Plan)]
        results = iter(await self.do(jobs, reserved=reserved))
        answers = [cast("Retrieval", next(results).result) if isinstance(plan, Plan) else plan for plan in plans]
        for answer in answers:
            if isinstance(answer, Retrieval):
                self.saw(answer.overlay_position)
                if not reserved:
                    self.service.usage.retrieved([(item.task, item.id) for item in answer])
        return answers

    async def retrieve(self, request: RetrievalRequest, *, reserved: bool = False) -> Retrieval:
        """Return the answer to one request; raise what is wrong with it, or what ``do`` raises."""
        (answer,) = await self.answer([request], reserved=reserved)
        if isinstance(answer, UdrError):
            raise answer
        return answer

    async def put(
        self, change: Change, rows: Sequence[Mapping[str, Json]], key: str | None
    ) -> tuple[Outcome, Sequence[Row]]:
        """Put rows; return the outcome, and the rows. Raises what ``do`` and ``Retriever.put`` raise."""
        retriever = self.active.retriever
        draft = await self.prepare(lambda _: retriever.draft(change, rows, self.own_key(key)))
        results = await self.do([Embedding(text, "demonstration") for text in draft.texts]) if draft.texts else []
        whole = draft.complete(cast("Vectors", item.result) for item in results)
        return await self.write(whole), whole.rows

    async def write(self, change: Change) -> Outcome:
        """Write a change; raises what ``Retriever.write`` raises. It is written even if the client disconnects."""
        if self.service.team is not None:
            await self.service.team.take_writer_lock()
        outcome = await asyncio.shield(asyncio.to_thread(self.active.retriever.write, change))
        self.saw(outcome.position)
        return outcome

    def shown(self, task: Task, ids: Sequence[str], input: Fields | str) -> str | None:
        """Count a prompt and the demonstrations that it shows; return the prompt's name, or None without counts."""
        usage = self.service.usage
        kept = formatting.check_input(task, input) if usage.level is UsageLevel.INPUTS else None
        return usage.prompt(task.name, ids, kept, self.record.key)

    async def tell(self, outcomes: Sequence[PromptOutcome]) -> int:
        """Keep the outcomes of prompts, all or none; return how many replaced an earlier one.

        Raises:
            InvalidInputError: the service keeps no prompts.
            UnknownPromptError: the key has asked for no such prompt, or it is kept no more.
            StorageError: they cannot be stored.
        """
        usage = self._usage()
        tell = functools.partial(usage.tell, outcomes, self._may_tell)
        try:
            return await asyncio.to_thread(tell)
        except UnknownPromptError:
            if self.service.workers == 1:
                raise
        # Another worker answered the prompt, and has it in memory until it flushes.
        await asyncio.sleep(1.5 * FLUSH_SECONDS)
        return await asyncio.to_thread(tell)

    async def counts(self, task: str, ids: Sequence[str]) -> dict[str, Count]:
        """Return the counts of demonstrations; raise an ``InvalidInputError`` if the service counts nothing."""
        return await asyncio.to_thread(self._usage().counts, task, ids)

    def _usage(self) -> Usage:
        if not self.service.usage.counts_usage:
            raise InvalidInputError("this service keeps nothing of its use; start it with --usage counts")
        return self.service.usage

    def _may_tell(self, task: str, owner: str | None) -> bool:
        """Return whether the key may tell of a prompt: if it is for all rows of the task, or asked for the prompt."""
        return task in self.tasks and (self.record.filter is None or owner == self.record.key)

    def own_key(self, key: str | None) -> str | None:
        """Return a client's ``Idempotency-Key``, apart from those of other API keys."""
        return None if key is None else f"{self.record.key or ''}/{key}"

    @property
    def position(self) -> int:
        """The number of the last write that the answer knows of, as far as known."""
        return self.record.overlay_position or 0

    def saw(self, position: int) -> int:
        """Remember that the answer knows of the writes up to a position; return it."""
        self.record.overlay_position = max(position, self.position)
        return position

    def builder(
        self, budget: int, reserve: int, options: BuildingOptions, tokenizer: str | None = None
    ) -> PromptBuilder:
        """Return a prompt builder, by default with the service's first tokenizer.

        Raises:
            InvalidInputError: the budget is above the limit, or not above the reserve; the service has no tokenizer of
                that name.
        """
        limit = self.service.settings.max_budget
        if budget > limit:
            raise InvalidInputError(
                f"the budget must be at most {limit} tokens, the limit of this service; found {budget}"
            )
        return PromptBuilder(self.active.counter(tokenizer), budget, reserve, **options)

    async def plans(self, requests: Sequence[RetrievalRequest]) -> list[Plan | UdrError]:
        """Return the plans; in a thread if planning would hold the event loop."""
        characters = sum(map(self.active.retriever.planning_characters, requests))
        # A filter reads fields of all rows, at least the first time.
        filtered = self.record.filter is not None or any(request.filter is not None for request in requests)
        if characters <= _INLINE_CHARACTERS and len(requests) <= _INLINE_REQUESTS and not filtered:
            return [self._plan(request) for request in requests]

        def plan(stopped: Stopped) -> list[Plan | UdrError]:
            return [self._plan(request, stopped) for request in requests]

        if not filtered:
            return await self.prepare(plan)
        found = await self.prepare(lambda stopped: self._unread(requests) or plan(stopped))
        if isinstance(found, list):
            return found
        await self._read(found)
        return await self.prepare(plan)

    def _unread(self, requests: Sequence[RetrievalRequest]) -> Mapping[str, frozenset[str]]:
        """Return which fields must be read before these requests can be planned, by task."""
        unread: dict[str, frozenset[str]] = {}
        retriever = self.active.retriever
        for request in requests:
            filters = [self.record.filter]
            # What is wrong with a filter is told when it is planned.
            with suppress(InvalidInputError):
                filters.append(None if request.filter is None else Filter.of(request.filter))
            for wanted in filters:
                if wanted is not None:
                    for task, keys in retriever.unread_fields(wanted, retriever.searched(request)).items():
                        unread[task] = unread.get(task, frozenset()) | keys
        return unread

    async def read_fields(self, task: str, wanted: Filter | None) -> None:
        """Return once the fields of a task are read that a filter and that of the request's key name."""
        for each in (wanted, self.record.filter):
            if each is not None:
                await self._read(self.active.retriever.unread_fields(each, [task]))

    async def _read(self, fields: Mapping[str, frozenset[str]]) -> None:
        if fields:
            async with self._deadline():
                await self.service.field_reader.read(self.active.retriever, fields)

    def _plan(self, request: RetrievalRequest, stopped: Stopped = never) -> Plan | UdrError:
        try:
            request = within_limits(request, self.service.settings)
            self.require(request.task, request.family)
            own = self.record.filter
            return self.active.retriever.plan(request, stopped=stopped, partitions=self.partitions, within=own)
        except (RequestError, ForbiddenError) as error:
            return error

    @property
    def tasks(self) -> dict[str, Task]:
        """The tasks that the request's key is for, by name."""
        pools = self.record.pools
        return {name: task for name, task in self.active.retriever.tasks.items() if pools.include(name, task.family)}

    def require_known(self, task: str) -> None:
        """Raise as ``require``, and an ``UnknownTaskError`` if there is no such task."""
        self.require(task)
        if task not in self.active.retriever.tasks:
            raise UnknownTaskError(f"unknown task {task!r}; GET /v1/tasks lists them")

    def require(self, task: str | None = None, family: str | None = None) -> None:
        """Raise a ``ForbiddenError`` if the request's key is not for a task, a family or, without either, all tasks."""
        refuse_foreign(self.record, self.active.retriever.tasks, task, family)
