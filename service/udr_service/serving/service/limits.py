"""What a request may ask for: its time, its numbers, and the tasks of its key."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

from starlette.requests import Request

from udr.client import TIMEOUT
from udr.data import Task
from udr.errors import DeadlineError, InvalidInputError, brief
from udr.retrieval import DefaultK, RetrievalRequest
from udr_service.errors import ForbiddenError, KTooLargeError
from udr_service.serving.record import Record
from udr_service.settings import Settings


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
