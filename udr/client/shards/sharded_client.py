"""Retrieval from pools whose rows lie in several services, each of which holds a shard."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Self, Unpack

import httpx2

from udr.client.async_client import AsyncClient
from udr.client.shards.merging import ShardedPlan, merge, plan
from udr.client.shards.placements import Placements
from udr.client.shards.replicas import Replicas
from udr.data import Task
from udr.errors import RequestError, ServiceError, ShardsError, UnknownTaskError
from udr.retrieval import DEFAULT_K, AsyncDemonstrationSource, Retrieval, RetrievalOptions, RetrievalRequest
from udr.types import Fields, Row

_LOG = logging.getLogger(__name__)

_SHARE = 0.8
"""The part of a call's time that the shards have; the rest is for the answer without those that did not answer."""

_READY_SECONDS = 2.0
"""The most that a shard has to say whether it is ready: probes of this service, who ask for all, wait for 4 seconds."""

Result = Retrieval | RequestError | ServiceError
"""The outcome of a request."""


class ShardedClient(AsyncDemonstrationSource):
    """Asks all shards that hold rows of a request's tasks, and merges their answers into that of one index.

    If a shard does not answer in time, or refuses what others answer, the answer is that of the others, and names it:
    ``Retrieval.missing_shards``.
    Use it on one event loop, in an ``async with`` block, or close it.

    Args:
        placements: where the shards are.
        timeout: seconds that a call may take.
        api_key: sent to all services; None reads the environment variable ``UDR_API_KEY``.
        transport: returns an httpx2 transport for a service's URL, in place of the network.

    Raises:
        ConfigError: as ``Client``.
    """

    def __init__(
        self,
        placements: Placements,
        *,
        timeout: float = 10.0,
        api_key: str | None = None,
        transport: Callable[[str], httpx2.AsyncBaseTransport] | None = None,
    ) -> None:
        self.placements, self._timeout = placements, timeout

        def connect(url: str) -> AsyncClient:
            own = None if transport is None else transport(url)
            return AsyncClient(url, timeout=timeout, retries=1, api_key=api_key, transport=own)

        self._lost = frozenset[str]()
        self._replicas = {shard.name: Replicas(shard, placements, connect) for shard in placements.shards}

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks, by name."""
        return self.placements.tasks

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        for replicas in self._replicas.values():
            await replicas.close()

    async def aretrieve(
        self,
        task: str | None = None,
        input: Fields | str | None = None,
        k: int = DEFAULT_K,
        **options: Unpack[RetrievalOptions],
    ) -> Retrieval:
        """Return the k demonstrations nearest to an input, as ``Client.retrieve``; see ``answer``."""
        (result,) = await self.answer([RetrievalRequest.of(task, input, k, options)])
        if not isinstance(result, Retrieval):
            raise result
        return result

    async def aretrieve_batch(self, requests: Iterable[RetrievalRequest]) -> list[Retrieval]:
        """Return the results of several requests, as ``Client.retrieve_batch``."""
        retrievals: list[Retrieval] = []
        for number, result in enumerate(await self.answer(requests), start=1):
            if isinstance(result, ServiceError):
                raise result
            if isinstance(result, RequestError):
                raise type(result)(f"request {number}: {result}") from result
            retrievals.append(result)
        return retrievals

    def plan(self, request: RetrievalRequest) -> ShardedPlan | RequestError:
        """Return the plan for a request, or what is wrong with it; see ``answer``."""
        try:
            return plan(self.placements, request)
        except RequestError as error:
            return error

    async def answer(self, requests: Iterable[RetrievalRequest], seconds: float | None = None) -> list[Result]:
        """Return the results of several requests in so many seconds; one that fails gives its error.

        Errors are those of ``Client.retrieve``; and an ``InvalidInputError`` if an option needs all rows of the request
        in one shard: another mode than dense, ``distinct``, ``diversity``, ``coverage``, ``explain``, ``label_head``.
        """
        return await self.answers(list(map(self.plan, requests)), seconds)

    async def answers(self, plans: Sequence[ShardedPlan | RequestError], seconds: float | None = None) -> list[Result]:
        """Return the results of what was planned, in order; an error stays as it is."""
        asked: dict[str, list[int]] = {}
        for number, each in enumerate(plans):
            if isinstance(each, ShardedPlan):
                for shard in each.shards:
                    asked.setdefault(shard.name, []).append(number)
        seconds = _SHARE * (self._timeout if seconds is None else seconds)
        parts = await asyncio.gather(
            *(
                self._ask(shard, [each.asked for n in numbers if isinstance(each := plans[n], ShardedPlan)], seconds)
                for shard, numbers in asked.items()
            )
        )
        found: list[dict[str, Result]] = [{} for _ in plans]
        for (shard_name, numbers), results in zip(asked.items(), parts, strict=True):
            for number, result in zip(numbers, results, strict=True):
                found[number][shard_name] = result
        merged = zip(plans, found, strict=True)
        return [self._merged(each, own) if isinstance(each, ShardedPlan) else each for each, own in merged]

    async def demonstration(self, task: str, id: str, seconds: float | None = None) -> Row:
        """Return one row, in so many seconds.

        Raises:
            UnknownTaskError: no shard has it.
            ShardsError: no shard that answered has it, and the ones it names did not answer, or refused.
        """
        seconds = _SHARE * (self._timeout if seconds is None else seconds)
        holding = [shard.name for shard in self.placements.shards if task in shard.sizes]
        calls = (self._replicas[name].ask(lambda client: client.demonstration(task, id), seconds) for name in holding)
        results = dict(zip(holding, await asyncio.gather(*calls, return_exceptions=True), strict=True))
        failed: dict[str, ServiceError] = {}
        for name, result in results.items():
            if isinstance(result, Row):
                return result
            if isinstance(result, ServiceError):
                failed[name] = result
            elif not isinstance(result, UnknownTaskError):
                raise result
        if failed:
            self._tell(results.keys() - failed.keys(), failed)
            lacking = f"no shard that answered has demonstration {id!r} of task {task!r}"
            raise _error(f"{lacking}; these did not answer", failed)
        raise UnknownTaskError(f"task {task!r} has no demonstration {id!r}")

    async def unready(self) -> list[str]:
        """Return the names of the shards of which no service is ready with a version that is merged."""
        seconds = min(_READY_SECONDS, _SHARE * self._timeout)
        ready = await asyncio.gather(*(each.ready(seconds) for each in self._replicas.values()))
        return [name for name, answers in zip(self._replicas, ready, strict=True) if not answers]

    async def _ask(self, shard: str, requests: Sequence[RetrievalRequest], seconds: float) -> Sequence[Result]:
        try:
            return await self._replicas[shard].answer(requests, seconds)
        except (RequestError, ServiceError) as error:
            return [error] * len(requests)

    def _merged(self, plan: ShardedPlan, results: Mapping[str, Result]) -> Result:
        """Return the answer of the shards that answered; if none did, what one says is wrong, or why they did not."""
        found = {name: result for name, result in results.items() if isinstance(result, Retrieval)}
        # One that refuses what others answer has another version, or lower limits.
        missing = {name: result for name, result in results.items() if not isinstance(result, Retrieval)}
        counts = Counter(result.index_version for result in found.values())
        for name, result in list(found.items()):
            if counts[result.index_version] > 1:
                # The rows of one would be there twice, those of the other not at all.
                why = f"serves version {result.index_version}, as another shard does; correct the addresses"
                missing[name] = ServiceError(why, status=412)
                del found[name]
        if not found:
            if refused := [error for error in missing.values() if isinstance(error, RequestError)]:
                return refused[0]
            self._tell((), missing)
            return _error("no shard answered", missing)
        self._tell(found, missing)
        return merge(self.placements, plan, found, sorted(missing))

    def _tell(self, found: Collection[str], missing: Mapping[str, Exception]) -> None:
        """Log which shards answer no more, or again: not each answer without one, since these are many."""
        for name in self._lost.intersection(found):
            _LOG.warning("shard %s answers again", name)
        for name in missing.keys() - self._lost:
            _LOG.warning("answers lack shard %s: %s", name, missing[name])
        self._lost = self._lost.difference(found).union(missing)


def _error(problem: str, errors: Mapping[str, Exception]) -> ShardsError:
    reasons = "; ".join(f"shard {name}: {error}" for name, error in errors.items())
    return ShardsError(f"{problem}: {reasons}", status=503, summary=f"{problem}: {', '.join(errors)}")
