"""The service: its parts, and how they answer one request."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import cast

from starlette.requests import Request
from starlette.types import Scope

from udr.client import TIMEOUT
from udr.errors import DeadlineError, InvalidInputError, RequestError
from udr.prompts import BuildingOptions, PromptBuilder
from udr.retrieval import DefaultK, Retrieval, RetrievalRequest
from udr_service.errors import KTooLargeError, VersionMismatchError
from udr_service.observability import Metrics
from udr_service.serving.active_version import ActiveVersion, Current
from udr_service.serving.jobs import EncodeJob, JobResult
from udr_service.serving.reloader import Reloader
from udr_service.serving.worker import Worker
from udr_service.settings import Settings

Answer = Retrieval | RequestError
"""The answer to a request of a batch; errors are returned, so that one does not affect the others."""

INDEX_VERSION = "X-Udr-Index-Version"
"""In an answer, the header with the version that answered; in a request, a precondition."""

_RECORD = "udr.record"


@dataclass(slots=True)
class Record:
    """What is known about a request while it is answered, for its headers, the log and the metrics.

    Attributes:
        request_id: the client's id or a new one.
        started: when it arrived, by ``time.perf_counter``.
        index_version: the version that answers it.
        key: the name of its API key, never the key.
        queue_size: how many texts waited when it arrived.
        batch_size: how many texts were encoded together with its own.
        stages: seconds by stage: ``queue``, ``encode``, ``search``, as far as it went through them.
        tasks: the task of each retrieval; None is a family, or all tasks.
    """

    request_id: str
    started: float = field(default_factory=time.perf_counter)
    index_version: str | None = None
    key: str | None = None
    queue_size: int | None = None
    batch_size: int | None = None
    stages: dict[str, float] = field(default_factory=dict)
    tasks: list[str | None] = field(default_factory=list)

    def enter(self, scope: Scope) -> None:
        """Become the record of this request."""
        scope[_RECORD] = self

    def add(self, results: Sequence[JobResult]) -> None:
        """Add the cost of its jobs; they run at the same time, so the longest counts."""
        for result in results:
            batch = result.batch
            self.batch_size = max(batch.size, self.batch_size or 0)
            for stage, seconds in (("queue", result.waited), ("encode", batch.encode), ("search", batch.search)):
                self.stages[stage] = max(seconds, self.stages.get(stage, 0.0))

    def timings(self) -> dict[str, float]:
        """Return the seconds of each stage, and of all so far as ``total``."""
        return {**self.stages, "total": time.perf_counter() - self.started}


def record_of(scope: Scope) -> Record:
    """Return the record of a request."""
    return cast("Record", scope[_RECORD])


@dataclass(frozen=True, slots=True)
class Service:
    """The parts of the service."""

    settings: Settings
    current: Current
    worker: Worker
    reloader: Reloader
    metrics: Metrics

    @contextmanager
    def context(self, request: Request) -> Iterator["RequestContext"]:
        """Answer a request from one version, from beginning to end.

        Raises:
            NotReadyError: no version is open yet.
            InvalidInputError: the timeout header is not a number of seconds.
            VersionMismatchError: the request asks for another version.
        """
        record = record_of(request.scope)
        with self.current.lease() as active:
            record.index_version = active.version
            expected = request.headers.get(INDEX_VERSION)
            if expected not in (None, active.version):
                raise VersionMismatchError(
                    f"the header {INDEX_VERSION} asks for version {expected[:40]!r}, but {active.version!r} answers; "
                    "send the request without the header, or fetch again what you keep of the other version"
                )
            yield RequestContext(self, active, record, record.started + self._timeout(request))

    def _timeout(self, request: Request) -> float:
        limit = self.settings.timeout_seconds
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


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One request while it is answered, from one version, before it expires (by ``time.perf_counter``)."""

    service: Service
    active: ActiveVersion
    record: Record
    expires: float

    async def do(self, jobs: Sequence[EncodeJob]) -> list[JobResult]:
        """Run jobs before the deadline; return their results, in order.

        Raises:
            OverloadedError: the queue is too full, or the deadline too near.
            DeadlineError: the deadline has passed; jobs that had not started were dropped.
        """
        worker = self.service.worker
        self.record.queue_size = worker.waiting
        try:
            left = self.expires - time.perf_counter()
            async with asyncio.timeout(left):
                results = await worker.do(self.active.retriever, jobs, left)
        except TimeoutError as error:
            raise DeadlineError(
                f"no answer within {self.expires - self.record.started:g} seconds; "
                f"raise the header {TIMEOUT}, or send fewer requests"
            ) from error
        self.record.add(results)
        return results

    async def answer(self, requests: Sequence[RetrievalRequest]) -> list[Answer]:
        """Return the answers, in order; invalid requests do not affect the others. Raises what ``do`` raises."""
        plans = [self._plan(request) for request in requests]
        results = iter(await self.do([plan for plan in plans if not isinstance(plan, RequestError)]))
        return [plan if isinstance(plan, RequestError) else cast("Retrieval", next(results).result) for plan in plans]

    async def retrieve(self, request: RetrievalRequest) -> Retrieval:
        """Return the answer to one request; raise a ``RequestError``, or what ``do`` raises."""
        (answer,) = await self.answer([request])
        if isinstance(answer, RequestError):
            raise answer
        return answer

    def builder(self, budget: int, reserve: int, options: BuildingOptions) -> PromptBuilder:
        """Return a prompt builder.

        Raises:
            InvalidInputError: the budget is above the limit, or not above the reserve.
        """
        limit = self.service.settings.max_budget
        if budget > limit:
            raise InvalidInputError(
                f"the budget must be at most {limit} tokens, the limit of this service; found {budget}"
            )
        return PromptBuilder(self.active.tokenizer, budget, reserve, **options)

    def _plan(self, request: RetrievalRequest) -> EncodeJob | RequestError:
        settings = self.service.settings
        if isinstance(request.k, DefaultK):
            request = replace(request, k=DefaultK(min(request.k, settings.max_k)))
        for name, value, limit in (
            ("k", request.k, settings.max_k),
            ("candidates", request.candidates or 0, settings.max_candidates),
        ):
            if value > limit:
                return KTooLargeError(f"{name} must be at most {limit}, the limit of this service; found {value}")
        try:
            plan = self.active.retriever.plan(request)
        except RequestError as error:
            return error
        self.record.tasks.append(request.task)
        return plan
