"""The client of a udr service for programs with an event loop."""

import asyncio
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self, Unpack

import httpx2

from udr.client import requests as calls
from udr.client.requests import Answer, Call
from udr.client.transport import FAILURES, LIMITS, ClientProtocol, TransportResult, is_ready
from udr.data import Task
from udr.prompts import Format, Prompt, PromptOptions
from udr.retrieval import Retrieval, RetrievalOptions, RetrievalRequest
from udr.types import Fields, Json, Row


class AsyncClient:
    """A ``Client`` whose methods are awaited: the same names, arguments, answers and errors; belongs to one event loop.

    Use it in an ``async with`` block, or close it: it keeps its connections open from request to request, 100 at most;
    of more calls at once, each waits for its turn.

    Args:
        url: where the service is.
        timeout: seconds, as ``Client`` counts them; waiting for a turn is not counted.
        retries: how often a request is sent again.
        api_key: sent with every request; None takes what ``UDR_API_KEY`` holds.
        transport: an asynchronous httpx2 transport to use in place of the network.

    Attributes:
        url: where the service is.

    Raises:
        ConfigError: as ``Client``.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 10.0,
        retries: int = 2,
        api_key: str | None = None,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._exchange = ClientProtocol(url, timeout, retries)
        self.url = self._exchange.url
        self._max_batch: int | None = None
        self._http = httpx2.AsyncClient(
            base_url=self.url,
            headers=self._exchange.headers(api_key),
            timeout=self._exchange.timeouts,
            limits=LIMITS,
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"AsyncClient({self.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the client is of no use after that."""
        await self._http.aclose()

    async def retrieve(
        self,
        task: str | None = None,
        input: Fields | str | None = None,
        k: int = 8,
        **options: Unpack[RetrievalOptions],
    ) -> Retrieval:
        """Return the k demonstrations nearest to an input, as ``Client.retrieve``."""
        return await self._ask(calls.retrieve(RetrievalRequest.of(task, input, k, options)))

    async def retrieve_batch(self, requests: Sequence[RetrievalRequest]) -> list[Retrieval]:
        """Answer several requests, as many at once as the service takes, as ``Client.retrieve_batch``."""
        if self._max_batch is None and len(requests) > calls.SURE_BATCH:
            self._max_batch = await self._ask(calls.MAX_BATCH)
        retrievals: list[Retrieval] = []
        for call in calls.batches(requests, self._max_batch or calls.SURE_BATCH):
            retrievals += self._exchange.retrievals(await self._ask(call), after=len(retrievals))
        return retrievals

    # The names by which an index in process is asked from an event loop, so that either can take the other's place.
    aretrieve = retrieve
    aretrieve_batch = retrieve_batch

    async def prompt(
        self,
        task: str,
        input: Fields | str,
        *,
        k: int = 8,
        budget: int,
        reserve: int = 0,
        format: Format | str = Format.TEXT,
        **options: Unpack[PromptOptions],
    ) -> Prompt:
        """Return a prompt with those of the k nearest demonstrations that fit, as ``Client.prompt``."""
        return await self._ask(calls.prompt(task, input, k, options, budget=budget, reserve=reserve, format=format))

    async def demonstration(self, task: str, id: str) -> Row:
        """Return one row, as ``Client.demonstration``."""
        return await self._ask(calls.demonstration(task, id))

    async def tasks(self) -> Mapping[str, Task]:
        """Return the tasks that are served, by name, as ``Client.tasks``."""
        return await self._ask(calls.TASKS)

    async def info(self) -> Mapping[str, Json]:
        """Return what ``/v1/info`` says, as ``Client.info``."""
        return await self._ask(calls.INFO)

    async def ready(self) -> bool:
        """Say whether the service is there and answers; asks once."""
        return is_ready(await self._send(calls.READY))

    async def _ask(self, call: Call[Answer]) -> Answer:
        """Send a call, and again as long as that may help."""
        outcome, attempt = await self._send(call), 0
        while (pause := self._exchange.pause(outcome, attempt)) is not None:
            await asyncio.sleep(pause)
            outcome, attempt = await self._send(call), attempt + 1
        return self._exchange.answer(call, outcome)

    async def _send(self, call: Call[Answer]) -> TransportResult:
        try:
            return await self._http.request(call.method, call.path, content=call.content, headers=call.headers)
        except FAILURES as error:
            return error
