"""The service: what its parts are, and how one request is answered by them."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from starlette.requests import Request

from udr.client import TIMEOUT
from udr.errors import DeadlineError, InvalidInputError, RequestError
from udr.prompts import BuildingOptions, PromptBuilder
from udr.retrieval import Retrieval, RetrievalRequest
from udr_service.errors import KTooLargeError
from udr_service.observability import Metrics
from udr_service.serving.active_version import ActiveVersion, Current
from udr_service.serving.jobs import EncodeJob, JobResult
from udr_service.serving.reloader import CHECK, Reloader
from udr_service.serving.request_record import Record, record_of
from udr_service.serving.worker import Worker
from udr_service.settings import Settings

Answer = Retrieval | RequestError
"""What a request of a batch gets; an error is returned, not raised, so that it stays with its request."""


@dataclass(frozen=True, slots=True)
class Service:
    """What is served, and by what.

    Attributes:
        settings: the limits.
        current: the version that answers.
        worker: encodes and searches, off the event loop.
        reloader: switches to another version.
        metrics: count and time.
    """

    settings: Settings
    current: Current
    worker: Worker
    reloader: Reloader
    metrics: Metrics

    @contextmanager
    def asking(self, request: Request) -> Iterator["RequestContext"]:
        """Answer a request by one version, from its beginning to its end.

        Raises:
            NotReadyError: no version is open yet.
            InvalidInputError: the header of the deadline is no number of seconds.
        """
        record = record_of(request.scope)
        with self.current.lease() as served:
            record.index_version = served.version
            yield RequestContext(self, served, record, self._expires(request, record))

    def _expires(self, request: Request, record: Record) -> float:
        limit = self.settings.timeout_seconds
        said = request.headers.get(TIMEOUT)
        if said is None:
            return record.started + limit
        try:
            seconds = float(said)
        except ValueError:
            seconds = 0.0
        # Not so for "nan" either.
        if not seconds > 0:
            raise InvalidInputError(f"the header {TIMEOUT} must be a number of seconds above 0; found {said[:40]!r}")
        return record.started + min(seconds, limit)


@dataclass(frozen=True, slots=True)
class RequestContext:
    """One request, while it is answered.

    Attributes:
        service: what answers.
        served: the version that answers.
        record: takes down what it cost.
        expires: until when, by ``time.perf_counter``.
    """

    service: Service
    served: ActiveVersion
    record: Record
    expires: float

    async def do(self, works: Sequence[EncodeJob]) -> list[JobResult]:
        """Have work done in the time that is left, in order.

        Raises:
            OverloadedError: the queue is full, or too long for the time that is left.
            DeadlineError: the time was up; what was not begun was dropped.
        """
        worker = self.service.worker
        self.record.queue_size = worker.waiting
        try:
            left = self.expires - time.perf_counter()
            async with asyncio.timeout(left):
                done = await worker.do(self.served.retriever, works, left)
        except TimeoutError as error:
            raise DeadlineError(
                f"no answer within {self.expires - self.record.started:g} seconds; "
                f"ask for more with the header {TIMEOUT}, or less often"
            ) from error
        self.record.add(done)
        return done

    async def answer(self, requests: Sequence[RetrievalRequest]) -> list[Answer]:
        """Return the answers, in order; a request that cannot be answered leaves the others alone.

        Raises:
            OverloadedError: the queue is full.
            DeadlineError: the time was up.
        """
        plans = [self._plan(request) for request in requests]
        done = iter(await self.do([plan for plan in plans if not isinstance(plan, RequestError)]))
        return [plan if isinstance(plan, RequestError) else _retrieval(next(done)) for plan in plans]

    async def retrieve(self, request: RetrievalRequest) -> Retrieval:
        """Return the answer to one request.

        Raises:
            RequestError: it cannot be answered.
            OverloadedError: the queue is full.
            DeadlineError: the time was up.
        """
        (answer,) = await self.answer([request])
        if isinstance(answer, RequestError):
            raise answer
        return answer

    async def check(self) -> None:
        """Encode and search once, as for any request.

        Raises:
            Exception: whatever keeps the retriever from answering.
        """
        await self.retrieve(CHECK)

    def builder(self, budget: int, reserve: int, options: BuildingOptions) -> PromptBuilder:
        """Return a builder of prompts.

        Raises:
            InvalidInputError: the budget is above the limit, or the reserve leaves nothing of it.
        """
        limit = self.service.settings.max_budget
        if budget > limit:
            raise InvalidInputError(
                f"the budget must be at most {limit} tokens, the limit of this service; found {budget}"
            )
        return PromptBuilder(self.served.tokenizer, budget, reserve, **options)

    def _plan(self, request: RetrievalRequest) -> EncodeJob | RequestError:
        settings = self.service.settings
        for name, asked, limit in (
            ("k", request.k, settings.max_k),
            ("candidates", request.candidates or 0, settings.max_candidates),
        ):
            if asked > limit:
                return KTooLargeError(f"{name} must be at most {limit}, the limit of this service; found {asked}")
        try:
            plan = self.served.retriever.plan(request)
        except RequestError as error:
            return error
        self.record.tasks.append(request.task)
        return plan


def _retrieval(done: JobResult) -> Retrieval:
    assert isinstance(done.result, Retrieval)
    return done.result
