"""The client of a udr service for programs with an event loop."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from functools import partial
from typing import Self, Unpack

import httpx2

from udr.client import requests as calls
from udr.client.batches import SAFE_BATCH, Batches
from udr.client.deadline import Deadline, fetch_async
from udr.client.environment import open_http
from udr.client.problems import Problem
from udr.client.requests import Answer, Call
from udr.client.transport import FAILURES, BaseClient, TransportResult, is_ready, refuse_closed
from udr.data import FilterLike, Task
from udr.errors import RequestError, ServiceError
from udr.prompts import Format, Prompt, PromptOptions
from udr.retrieval import DEFAULT_K, Page, Retrieval, RetrievalOptions, RetrievalRequest, RowLike
from udr.store.live import Outcome
from udr.types import Fields, Json, Row

_OfLoop = tuple[AsyncGenerator[httpx2.AsyncClient, None], httpx2.AsyncClient]


async def _until_the_loop_ends(http: httpx2.AsyncClient) -> AsyncGenerator[httpx2.AsyncClient, None]:
    """Yield a client, and close it with the asynchronous generators of its event loop, as ``asyncio.run`` does."""
    try:
        yield http
    finally:
        await http.aclose()


class AsyncClient(BaseClient):
    """A ``Client`` with awaitable methods, of which ``tasks`` is one: the same arguments, results and errors.

    Use it in an ``async with`` block, or close it: it keeps up to 100 connections open, and further calls wait for one.
    ``transport`` is an asynchronous httpx2 transport.
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
        super().__init__(url, timeout, retries, api_key)
        self._open = partial(open_http, partial(httpx2.AsyncClient, transport=transport), self.url, self._settings)
        self._clients: dict[asyncio.AbstractEventLoop, _OfLoop] = {}
        # Opened at once, so that a wrong setting is found here and not at the first call.
        self._first: httpx2.AsyncClient | None = self._open()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections of this event loop; the client cannot be used in it after that."""
        await (await self._http()).aclose()

    async def _http(self) -> httpx2.AsyncClient:
        """Return the client of the running event loop: connections belong to the loop that opened them."""
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            for ended in [each for each in list(self._clients) if each.is_closed()]:
                self._clients.pop(ended, None)
            first, self._first = self._first, None
            opened = _until_the_loop_ends(first or self._open())
            self._clients[loop] = opened, await anext(opened)
        return self._clients[loop][1]

    async def retrieve(
        self,
        task: str | None = None,
        input: Fields | str | None = None,
        k: int = DEFAULT_K,
        **options: Unpack[RetrievalOptions],
    ) -> Retrieval:
        """Return the k demonstrations nearest to an input, as ``Client.retrieve``."""
        return await self._call(calls.retrieve(RetrievalRequest.of(task, input, k, options)))

    async def retrieve_batch(self, requests: Iterable[RetrievalRequest]) -> list[Retrieval]:
        """Answer several requests, as ``Client.retrieve_batch``."""
        retrievals: list[Retrieval] = []
        async for results in self._batches(requests):
            retrievals += self._retrievals(results, after=len(retrievals))
        return retrievals

    async def answer(self, requests: Iterable[RetrievalRequest]) -> list[Retrieval | RequestError | ServiceError]:
        """Return the results of several requests, as ``retrieve_batch``; one that fails gives its error."""
        results: list[Retrieval | RequestError | ServiceError] = []
        async for part in self._batches(requests):
            results += (item.error(self.url) if isinstance(item, Problem) else item for item in part)
        return results

    # The names in AsyncDemonstrationSource, so that a retriever can replace the client.
    aretrieve = retrieve
    aretrieve_batch = retrieve_batch

    async def prompt(
        self,
        task: str,
        input: Fields | str,
        *,
        k: int = DEFAULT_K,
        budget: int,
        reserve: int = 0,
        format: Format | str = Format.TEXT,
        tokenizer: str | None = None,
        **options: Unpack[PromptOptions],
    ) -> Prompt:
        """Return a prompt with as many of the k nearest demonstrations as fit, as ``Client.prompt``."""
        return await self._call(
            calls.prompt(task, input, k, options, budget=budget, reserve=reserve, format=format, tokenizer=tokenizer)
        )

    async def outcome(self, prompt_id: str, score: float, target: str | None = None) -> None:
        """Report a prompt's outcome; see ``Client.outcome``."""
        await self._call(calls.outcome(prompt_id, score, target))

    async def demonstration(self, task: str, id: str) -> Row:
        """Return one row, as ``Client.demonstration``."""
        return await self._call(calls.demonstration(task, id))

    async def demonstrations(
        self, task: str, *, after: str | None = None, limit: int = 100, filter: FilterLike | None = None
    ) -> Page:
        """Return a page of a task's rows, as ``Client.demonstrations``."""
        return await self._call(calls.demonstrations(task, after, limit, filter))

    async def put(
        self,
        task: str,
        rows: RowLike | Sequence[RowLike],
        *,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> Outcome:
        """Put rows into a task's pool, as ``Client.put``."""
        body = calls.put_body(rows)
        return await self._call(calls.changes(task, body, if_match=if_match, idempotency_key=idempotency_key))

    async def delete(
        self,
        task: str,
        ids: str | Sequence[str] | None = None,
        *,
        filter: FilterLike | None = None,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> Outcome:
        """Delete rows, as ``Client.delete``."""
        body = calls.deletion_body(ids, filter)
        return await self._call(calls.changes(task, body, if_match=if_match, idempotency_key=idempotency_key))

    async def tasks(self) -> Mapping[str, Task]:
        """Return the service's tasks by name."""
        return await self._call(calls.TASKS)

    async def info(self) -> Mapping[str, Json]:
        """Return ``/v1/info``, as ``Client.info``."""
        return await self._call(calls.INFO)

    async def ready(self) -> bool:
        """Return whether the service is ready to answer; does not retry."""
        return is_ready(await self._send(calls.READY, self._deadline()))

    async def _batches(self, requests: Iterable[RetrievalRequest]) -> AsyncIterator[Sequence[Retrieval | Problem]]:
        requests = list(requests)
        if self._max_batch is None and len(requests) > SAFE_BATCH:
            self._max_batch = await self._call(calls.MAX_BATCH)
        batches = Batches(requests, self._max_batch)
        while (call := batches.next) is not None:
            try:
                results = await self._call(call)
            except ServiceError as error:
                if not batches.may_shrink(error):
                    raise
                self._max_batch = await self._call(calls.MAX_BATCH)
                batches.shrink(self._max_batch)
            else:
                yield results
                batches.done()

    async def _call(self, call: Call[Answer]) -> Answer:
        deadline = self._deadline()
        result, attempt = await self._send(call, deadline), 0
        while (pause := self._pause(result, attempt, deadline)) is not None:
            await asyncio.sleep(pause)
            result, attempt = await self._send(call, deadline), attempt + 1
        return self._read(call, result)

    async def _send(self, call: Call[Answer], deadline: Deadline) -> TransportResult:
        http = await self._http()
        refuse_closed(http)
        try:
            return await fetch_async(http, call.request, deadline)
        except FAILURES as error:
            return error
