"""The client of a udr service."""

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self, Unpack

import httpx2

from udr.client import requests as calls
from udr.client.requests import Answer, Call
from udr.client.transport import FAILURES, LIMITS, ClientProtocol, TransportResult, is_ready
from udr.data import Task
from udr.prompts import Format, Prompt, PromptOptions
from udr.retrieval import DemonstrationSource, Retrieval, RetrievalOptions, RetrievalRequest
from udr.types import Fields, Json, Row


class Client(DemonstrationSource):
    """Speaks to a service as ``Retriever`` speaks to an index; may be shared between threads.

    Use it in a ``with`` block, or close it: it keeps its connections open from request to request, 100 at most.

    Args:
        url: where the service is, such as ``http://127.0.0.1:8000``.
        timeout: seconds to wait for a connection or for an answer, and the longest pause before a retry. The service
            is told, and drops what it has not begun by then.
        retries: how often a request is sent again when the service is full or still loading, or a connection broke.
        api_key: sent with every request; None takes what the environment variable ``UDR_API_KEY`` holds, if it does.
        transport: an httpx2 transport to use in place of the network.

    Attributes:
        url: where the service is.

    Raises:
        ConfigError: the URL is none, a number makes no sense, or a header cannot hold the key.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 10.0,
        retries: int = 2,
        api_key: str | None = None,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._exchange = ClientProtocol(url, timeout, retries)
        self.url = self._exchange.url
        self._max_batch: int | None = None
        self._http = httpx2.Client(
            base_url=self.url,
            headers=self._exchange.headers(api_key),
            timeout=self._exchange.timeouts,
            limits=LIMITS,
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client is of no use after that."""
        self._http.close()

    def retrieve(
        self,
        task: str | None = None,
        input: Fields | str | None = None,
        k: int = 8,
        **options: Unpack[RetrievalOptions],
    ) -> Retrieval:
        """Return the k demonstrations nearest to an input; ``RetrievalRequest`` says what the arguments mean.

        Raises:
            UnknownTaskError: the task or family is not served.
            InvalidInputError: the input does not fit the task, or k is out of range.
            TooLongError: the input is longer than the service takes.
            OverloadedError: the service was full or loading, each time it was asked.
            DeadlineError: no answer came within the timeout.
            AccessError: the service wants an API key, or one that may do more.
            ServiceError: there is no service, or it did not answer as one.
        """
        return self._ask(calls.retrieve(RetrievalRequest.of(task, input, k, options)))

    def retrieve_batch(self, requests: Sequence[RetrievalRequest]) -> list[Retrieval]:
        """Answer several requests, as many at once as the service takes.

        Raises:
            RequestError: the first request that cannot be answered; the message gives its place, from 1.
            ServiceError: as ``retrieve``.
        """
        if self._max_batch is None and len(requests) > calls.SURE_BATCH:
            self._max_batch = self._ask(calls.MAX_BATCH)
        retrievals: list[Retrieval] = []
        for call in calls.batches(requests, self._max_batch or calls.SURE_BATCH):
            retrievals += self._exchange.retrievals(self._ask(call), after=len(retrievals))
        return retrievals

    def prompt(
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
        """Return a prompt with those of the k nearest demonstrations that fit; see ``udr.prompt.PromptBuilder``.

        Args:
            task: the task that the input belongs to.
            input: the fields by name; plain text where the task has one field.
            k: how many demonstrations to choose from.
            budget: tokens of prompt and answer together, as the service's encoder counts tokens.
            reserve: tokens of the budget that are kept for the answer.
            format: ``text`` or ``messages``.
            options: how demonstrations are chosen (``udr.retrieval.RetrievalRequest``), and how the prompt is built.

        Raises:
            TooLongError: the prompt does not fit, even without demonstrations.
            UdrError: as ``retrieve``.
        """
        return self._ask(calls.prompt(task, input, k, options, budget=budget, reserve=reserve, format=format))

    def demonstration(self, task: str, id: str) -> Row:
        """Return one row.

        Raises:
            UnknownTaskError: there is no such task, or it has no such row.
            UdrError: as ``retrieve``.
        """
        return self._ask(calls.demonstration(task, id))

    def tasks(self) -> Mapping[str, Task]:
        """Return the tasks that are served, by name.

        Raises:
            ServiceError: as ``retrieve``.
        """
        return self._ask(calls.TASKS)

    def info(self) -> Mapping[str, Json]:
        """Return what ``/v1/info`` says: versions, model, limits, and how many demonstrations each task has.

        Raises:
            ServiceError: as ``retrieve``.
        """
        return self._ask(calls.INFO)

    def ready(self) -> bool:
        """Say whether the service is there and answers; asks once."""
        return is_ready(self._send(calls.READY))

    def _ask(self, call: Call[Answer]) -> Answer:
        """Send a call, and again as long as that may help."""
        outcome, attempt = self._send(call), 0
        while (pause := self._exchange.pause(outcome, attempt)) is not None:
            time.sleep(pause)
            outcome, attempt = self._send(call), attempt + 1
        return self._exchange.answer(call, outcome)

    def _send(self, call: Call[Answer]) -> TransportResult:
        try:
            return self._http.request(call.method, call.path, content=call.content, headers=call.headers)
        except FAILURES as error:
            return error
