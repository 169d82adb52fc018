"""The services that hold one shard: asked in turn, until one answers."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from udr.client.async_client import AsyncClient
from udr.client.shards.placements import Placement, Placements
from udr.errors import DeadlineError, RequestError, ServiceError
from udr.retrieval import Retrieval, RetrievalRequest

_T = TypeVar("_T")

_PAUSE_SECONDS = 1.0
"""How long a service that could not be reached, or did not answer, is left alone."""


class Replicas:
    """The services of one shard. Used on one event loop.

    Args:
        placement: the shard.
        placements: all shards.
        connect: returns a client of a service, by its URL.
    """

    def __init__(self, placement: Placement, placements: Placements, connect: Callable[[str], AsyncClient]) -> None:
        self._definition = placements.definition(placement)
        # Whether a version is one of this shard.
        self._own = {shard.version: shard is placement for shard in placements.shards}
        self._clients = deque(map(connect, placement.urls))
        self._silent_until: dict[AsyncClient, float] = {}

    async def ask(self, call: Callable[[AsyncClient], Awaitable[_T]], seconds: float) -> _T:
        """Return what a call of one of the services returns, in so many seconds.

        A service that is silent costs its part of the time once; until it answers again, one call a second tries it.

        Raises:
            RequestError: the request is invalid.
            ServiceError: none of them answered.
        """
        failure: ServiceError = DeadlineError("it did not answer a moment ago, and is tried again in a second")
        self._clients.rotate(-1)
        until, now = time.monotonic() + seconds, time.monotonic()
        due = [client for client in self._clients if self._silent_until.get(client, now) <= now]
        for number, client in enumerate(due):
            left = (until - time.monotonic()) / (len(due) - number)
            if client in self._silent_until:
                # Others do not wait for it meanwhile.
                self._silent_until[client] = time.monotonic() + max(left, _PAUSE_SECONDS)
            try:
                async with asyncio.timeout(left):
                    answer = await call(client)
            except TimeoutError:
                failure = DeadlineError(f"{client.url}: no answer within {left:.1f} seconds")
            except ServiceError as error:
                failure = error
            except RequestError:
                self._silent_until.pop(client, None)
                raise
            else:
                self._silent_until.pop(client, None)
                return answer
            if failure.status is None:
                self._silent_until[client] = time.monotonic() + _PAUSE_SECONDS
            else:
                self._silent_until.pop(client, None)
        raise failure

    async def answer(
        self, requests: Sequence[RetrievalRequest], seconds: float
    ) -> list[Retrieval | RequestError | ServiceError]:
        """Return the results of requests, from a service that has a version of the shard; raises as ``ask``."""

        async def call(client: AsyncClient) -> list[Retrieval | RequestError | ServiceError]:
            results = await client.answer(requests)
            for result in results:
                if isinstance(result, Retrieval) and not await self._serves(client, result.index_version):
                    raise ServiceError(
                        f"{client.url}: serves version {result.index_version}, which is of another shard, or has "
                        "another encoder, wording or tasks than the shard; make a new manifest of placements",
                        status=412,
                    )
            return results

        return await self.ask(call, seconds)

    async def _serves(self, client: AsyncClient, version: str | None = None) -> bool:
        """Return whether a version is one of this shard, by default the one that a service has now.

        A new one, made by a compaction or of other rows, is asked about once. It counts if it has the same definition.
        """
        if version not in self._own:
            info = await client.info()
            serves = str(info["index_version"])
            self._own.setdefault(serves, info.get("definition") == self._definition)
            version = version or serves
        return self._own.get(version, False)

    async def _ready(self, client: AsyncClient) -> bool:
        try:
            return await client.ready() and await self._serves(client)
        except (RequestError, ServiceError):
            return False

    async def ready(self, seconds: float) -> bool:
        """Return whether one of the services, in so many seconds, is ready with a version of the shard."""
        asked = [asyncio.ensure_future(self._ready(client)) for client in self._clients]
        try:
            for answer in asyncio.as_completed(asked, timeout=seconds):
                if await answer:
                    return True
        except TimeoutError:
            return False
        finally:
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
        return False

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            await client.close()
