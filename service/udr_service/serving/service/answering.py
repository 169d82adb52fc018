"""What every request has while it is answered: a deadline, the tasks of its key, and what large answers need."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from udr.client import TIMEOUT
from udr.data import Task
from udr.errors import DeadlineError, UnknownTaskError, brief
from udr.retrieval import Stopped
from udr_service.errors import ForbiddenError
from udr_service.serving.record import Record
from udr_service.serving.room import Room
from udr_service.serving.work import Preparer

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class AnswerContext:
    """One request while it is answered.

    Attributes:
        record: what is logged of it; it names the key.
        seconds: how long it may take.
        limit: how long any request may take, at most.
        known: all tasks that are served, by name.
        room: the room for large answers.
        preparer: does what would hold the event loop.
    """

    record: Record
    seconds: float
    limit: float
    known: Mapping[str, Task]
    room: Room
    preparer: Preparer

    @asynccontextmanager
    async def deadline(self) -> AsyncIterator[None]:
        """Raise a ``DeadlineError`` if the block has not ended when the request expires."""
        try:
            async with asyncio.timeout(self.expires - time.perf_counter()):
                yield
        except TimeoutError as error:
            lowered = self.seconds < self.limit
            why = f"; raise the header {TIMEOUT}, or" if lowered else ", the limit of this service (timeout_seconds);"
            raise DeadlineError(f"no answer within {self.seconds:g} seconds{why} send fewer requests") from error

    @property
    def expires(self) -> float:
        """When it expires, by ``time.perf_counter``."""
        return self.record.started + self.seconds

    async def prepare(self, work: Callable[[Stopped], _T]) -> _T:
        """Return what work returns that would hold the event loop; it runs in a thread, before the deadline.

        Raises:
            OverloadedError: too much of such work waits.
            DeadlineError: the deadline has passed; the work stops.
        """
        async with self.deadline():
            return await self.preparer.do(self.record.client.name, work)

    @property
    def tasks(self) -> dict[str, Task]:
        """The tasks that the request's key is for, by name."""
        pools = self.record.pools
        return {name: task for name, task in self.known.items() if pools.include(name, task.family)}

    def require_known(self, task: str) -> None:
        """Raise as ``require``, and an ``UnknownTaskError`` if there is no such task."""
        self.require(task)
        if task not in self.known:
            raise UnknownTaskError(f"unknown task {task!r}; GET /v1/tasks lists them")

    def require(self, task: str | None = None, family: str | None = None) -> None:
        """Raise a ``ForbiddenError`` if the request's key is not for a task, a family or, without either, all tasks."""
        pools = self.record.pools
        if pools.all:
            return
        if task is not None:
            included = pools.include(task, self.known[task].family if task in self.known else None)
        else:
            included = family in pools.families
        if not included:
            name = f"the task {brief(task)}" if task else f"the family {brief(family)}" if family else "all tasks"
            raise ForbiddenError(f"the key {self.record.key!r} is for {pools}; the request is for {name}")
