"""The parts of a service of shards, and how they answer one request."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace

from starlette.requests import Request

from udr.client.shards import Placements, ShardedClient, ShardedPlan
from udr.data import Filter, FilterLike
from udr.errors import InvalidInputError, RequestError, UdrError, brief
from udr.models import TokenCounter
from udr.retrieval import Retrieval, RetrievalRequest
from udr.types import Row
from udr_service.api.answers import INLINE_CHARACTERS
from udr_service.api.retrieval import most_characters
from udr_service.auth import KeyFile
from udr_service.errors import ForbiddenError, NotReadyError, VersionMismatchError
from udr_service.observability import Audit, Event, Metrics, Reload
from udr_service.serving import (
    INDEX_VERSION,
    AnswerContext,
    Current,
    Preparer,
    Room,
    record_changes,
    record_of,
    refuse_costly,
    refuse_overload,
    timeout_of,
    within_limits,
)
from udr_service.settings import Settings

_LOG = logging.getLogger(__name__)

_READY_SECONDS = 1.0
"""How long the shards are known to be ready, or not: the probe needs no key, and asks all of them."""


@dataclass(slots=True)
class ShardsService:
    """The parts of the service, and what waits for the shards, in plain queries. Used on the event loop only."""

    settings: Settings
    shards: ShardedClient
    preparer: Preparer
    room: Room
    metrics: Metrics
    current: Current
    tokenizers: Mapping[str, TokenCounter]
    keys: KeyFile | None
    audit: Audit
    waiting: int = 0
    _ready: tuple[float, Sequence[str]] = (0.0, ())
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def placements(self) -> Placements:
        """Where the shards are."""
        return self.shards.placements

    def refuse_if_full(self) -> None:
        """Raise an ``OverloadedError`` if not even a plain query may wait for the shards."""
        refuse_overload(self.waiting, 1, self.settings.queue_size)

    @contextmanager
    def wait(self, cost: int, excess: int = 0) -> Iterator[None]:
        """Wait for the shards with what costs so much; ``excess`` of it keeps no others out.

        Raises:
            CostError: it costs more than may ever wait.
            OverloadedError: too much waits already.
        """
        refuse_costly(cost, self.settings.queue_size)
        refuse_overload(self.waiting, cost, self.settings.queue_size)
        self.waiting += cost - excess
        try:
            yield
        finally:
            self.waiting -= cost - excess

    @asynccontextmanager
    async def context(self, request: Request) -> AsyncIterator["ShardsContext"]:
        """Answer a request, from beginning to end.

        Raises:
            InvalidInputError: the timeout header is not a number of seconds.
            VersionMismatchError: the request asks for another version.
        """
        record, version = record_of(request.scope), self.placements.version
        record.index_version = version
        expected = request.headers.get(INDEX_VERSION)
        if expected not in (None, version):
            raise VersionMismatchError(
                f"the header {INDEX_VERSION} asks for version {expected[:40]!r}, but {version!r} answers; send the "
                "request without the header"
            )
        limit = self.settings.timeout_seconds
        seconds = timeout_of(request, limit)
        yield ShardsContext(record, seconds, limit, self.placements.tasks, self.room, self.preparer, self)

    async def reload(self, read: Callable[[], object]) -> None:
        """Read the keys again, then what ``read`` reads and uses, in a thread, as at SIGHUP. A refusal is logged."""
        version, keys = self.placements.version, self.keys
        before = keys.ring if keys else None
        try:
            if keys:
                await asyncio.to_thread(keys.read_again)
            await asyncio.to_thread(read)
        except (UdrError, OSError) as error:
            _LOG.error("reload refused", exc_info=error)
            self.metrics.reloaded(Reload.REFUSED)
            self.audit.record(Event.RELOAD_REFUSED, by="SIGHUP", index_version=version, why=str(error))
            return
        finally:
            if keys and before:
                record_changes(self.audit, before, keys.ring, "SIGHUP")
        self.metrics.reloaded(Reload.UNCHANGED)
        self.audit.record(Event.RELOADED, by="SIGHUP", index_version=version, previous=version)
        _LOG.warning("SIGHUP: read the keys again")

    async def missing(self) -> Sequence[str]:
        """Return the names of the shards that are not ready, asked at most once a second."""
        async with self._asking:
            until, missing = self._ready
            if time.monotonic() >= until:
                missing = await self.shards.unready()
                self._ready = time.monotonic() + _READY_SECONDS, missing
        if len(missing) == len(self.placements.shards):
            raise NotReadyError("none of the shards is ready; the services that hold them say why")
        return missing

    def counter(self, name: str | None) -> tuple[str, TokenCounter]:
        """Return the tokenizer of a name, or the one of requests that name none, with its name.

        Raises:
            InvalidInputError: the service has no such tokenizer.
        """
        name = next(iter(self.tokenizers), None) if name is None else name
        if name is None:
            raise InvalidInputError(
                "a service of shards counts tokens only by tokenizers that it is given; start it with --tokenizer"
            )
        if name not in self.tokenizers:
            names = ", ".join(self.tokenizers) or "none"
            raise InvalidInputError(f"this service has no tokenizer {brief(name)}; it was started with {names}")
        return name, self.tokenizers[name]


@dataclass(frozen=True, slots=True)
class ShardsContext(AnswerContext):
    """One request of a service of shards while it is answered."""

    service: ShardsService

    async def answer(self, requests: Sequence[RetrievalRequest]) -> list[Retrieval | UdrError]:
        """Return the answers, in order; one that fails does not affect the others.

        Raises:
            BusyError: other large answers leave no room for what the shards may return.
            CostError: the requests cost more than may ever wait.
            OverloadedError: too much waits already, or the client is above a limit.
            DeadlineError: the deadline has passed.
        """
        plans = [self._plan(request) for request in requests]
        valid = [plan for plan in plans if isinstance(plan, ShardedPlan)]
        self.record.tasks += [plan.request.task for plan in valid]
        with self._waiting(valid):
            async with self.deadline():
                results = iter(await self.service.shards.answers(valid, self.expires - time.perf_counter()))
        answers = [next(results) if isinstance(plan, ShardedPlan) else plan for plan in plans]
        for answer in answers:
            if isinstance(answer, Retrieval):
                self.record.overlay_position = max(answer.overlay_position, self.record.overlay_position or 0)
                self.service.metrics.shards_missed(answer.missing_shards)
        return answers

    async def retrieve(self, request: RetrievalRequest) -> Retrieval:
        """Return the answer to one request; raise what is wrong with it."""
        (answer,) = await self.answer([request])
        if not isinstance(answer, Retrieval):
            raise answer
        return answer

    async def demonstration(self, task: str, id: str) -> Row:
        """Return one row before the deadline; raises what ``ShardedClient.demonstration`` raises."""
        with self.service.wait(1):
            async with self.deadline():
                left = self.expires - time.perf_counter()
                return await self.service.shards.demonstration(task, id, left)

    @contextmanager
    def _waiting(self, plans: Sequence[ShardedPlan]) -> Iterator[None]:
        """Wait for the shards within the limits, with room for all that they may return."""
        cost = sum(plan.whole.cost for plan in plans)
        characters = sum(len(plan.shards) * most_characters(plan.whole) for plan in plans)
        limit = self.service.settings.queue_size
        with self.record.client.queue(len(plans), cost, limit) as excess, self.service.wait(cost, excess):
            if characters <= INLINE_CHARACTERS:
                # Nor is room held for so small an answer.
                yield
                return
            self.room.hold(characters)
            try:
                yield
            finally:
                self.room.free(characters)

    def _plan(self, request: RetrievalRequest) -> ShardedPlan | UdrError:
        """Return the plan for a request, within the limits and the rows of its key."""
        try:
            request = within_limits(request, self.service.settings)
            self.require(request.task, request.family)
            if (own := self.record.filter) is not None:
                request = replace(request, filter=_narrowed(own, request.filter))
        except (RequestError, ForbiddenError) as error:
            return error
        return self.service.shards.plan(request)


def _narrowed(own: Filter, wanted: FilterLike | None) -> Filter:
    """Return the filter of a key and of its request as one, which the shards take only within the limits of one."""
    both = own.narrowed(None if wanted is None else Filter.of(wanted))
    try:
        return Filter.of(both.to_json())
    except InvalidInputError as error:
        raise InvalidInputError(f"together with the filter of the API key: {error}; give a simpler filter") from error
