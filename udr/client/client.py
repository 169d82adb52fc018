"""The client of a udr service."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Self, Unpack

import httpx2

from udr.client import requests as calls
from udr.client.batches import SAFE_BATCH, Batches
from udr.client.deadline import Deadline, fetch
from udr.client.environment import open_http
from udr.client.problems import Problem
from udr.client.requests import Answer, Call
from udr.client.transport import FAILURES, BaseClient, TransportResult, is_ready, refuse_closed
from udr.data import FilterLike, Task
from udr.errors import ServiceError
from udr.prompts import Format, Prompt, PromptOptions
from udr.retrieval import (
    DEFAULT_K,
    DemonstrationSource,
    Page,
    Retrieval,
    RetrievalOptions,
    RetrievalRequest,
    RowLike,
)
from udr.store.live import Outcome
from udr.types import Fields, Json, Row


class Client(BaseClient, DemonstrationSource):
    """Retrieves from a service as ``Retriever`` does from an index; threads can share it.

    Use it in a ``with`` block, or close it: it keeps up to 100 connections open.

    Args:
        url: the service's URL, such as ``http://127.0.0.1:8000``.
        timeout: seconds that a call may take, its retries included; with ``retrieve_batch``, each batch that is sent.
            The service receives it, and drops work that has not started by then. The wait for one of the client's own
            connections does not count.
        retries: how often a request is sent again if the service is full or still loading, a connection broke, or a
            proxy lost the service.
        api_key: sent with every request; None reads the environment variable ``UDR_API_KEY``.
        transport: an httpx2 transport to use in place of the network.

    Attributes:
        url: the service's URL.

    Raises:
        ConfigError: the URL is invalid, a number is out of range, a header cannot hold the key, or an environment
            variable names a proxy or a certificate file that cannot be used.
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
        super().__init__(url, timeout, retries, api_key)
        self._open = partial(open_http, partial(httpx2.Client, transport=transport), self.url, self._settings)
        self._http, self._process = self._open(), os.getpid()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client cannot be used after that."""
        self._http.close()

    def retrieve(
        self,
        task: str | None = None,
        input: Fields | str | None = None,
        k: int = DEFAULT_K,
        **options: Unpack[RetrievalOptions],
    ) -> Retrieval:
        """Return the k demonstrations nearest to an input; ``RetrievalRequest`` describes the arguments.

        Raises:
            UnknownTaskError: the service has no such task or family.
            InvalidInputError: the input does not fit the task, or k is out of range.
            TooLongError: the input exceeds the service's limit.
            OverloadedError: the service was full or loading at every attempt.
            DeadlineError: no answer arrived within the timeout.
            AccessError: the API key is missing or unknown, or lacks a scope.
            ConfigError: there is no such option.
            ServiceError: there is no service at the URL, or the call failed.
        """
        return self._call(calls.retrieve(RetrievalRequest.of(task, input, k, options)))

    def retrieve_batch(self, requests: Iterable[RetrievalRequest]) -> list[Retrieval]:
        """Answer several requests, in batches of at most 1 MB that the service accepts, each within the timeout.

        The service is asked for its limit if there are more than 64 requests, or if it refuses a batch as too large.

        Raises:
            RequestError: the first request that cannot be answered; the message gives its position, from 1.
            ServiceError: as ``retrieve``.
        """
        retrievals: list[Retrieval] = []
        for results in self._batches(requests):
            retrievals += self._retrievals(results, after=len(retrievals))
        return retrievals

    def prompt(
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
        """Return a prompt with as many of the k nearest demonstrations as fit; see ``udr.PromptBuilder``.

        Args:
            task: the task of the input.
            input: the fields by name; plain text if the task has one field.
            k: how many demonstrations to choose from.
            budget: tokens of prompt and answer together, counted by one of the service's tokenizers.
            reserve: tokens of the budget that are kept for the answer.
            format: ``text``, ``messages`` or ``records``.
            tokenizer: the name of the tokenizer; None uses the service's first.
            options: how demonstrations are chosen (see ``RetrievalRequest``), and how the prompt is built.

        Raises:
            TooLongError: the prompt does not fit, even without demonstrations.
            UdrError: as ``retrieve``.
        """
        return self._call(
            calls.prompt(task, input, k, options, budget=budget, reserve=reserve, format=format, tokenizer=tokenizer)
        )

    def outcome(self, prompt_id: str, score: float, target: str | None = None) -> None:
        """Report a prompt's outcome, so that the service learns which demonstrations help.

        Args:
            prompt_id: that of the ``Prompt``, or of the answer's header ``X-Udr-Prompt-Id``.
            score: how good the answer was, from 0 to 1; a later score of a prompt replaces an earlier one.
            target: what the answer should have been, if that is known.

        Raises:
            UnknownPromptError: the service does not know the prompt, or not any more.
            UdrError: as ``retrieve``.
        """
        self._call(calls.outcome(prompt_id, score, target))

    def demonstration(self, task: str, id: str) -> Row:
        """Return one row; ``UnknownTaskError`` if there is no such task or row, other errors as ``retrieve``."""
        return self._call(calls.demonstration(task, id))

    def demonstrations(
        self, task: str, *, after: str | None = None, limit: int = 100, filter: FilterLike | None = None
    ) -> Page:
        """Return a page of a task's rows, as ``Retriever.demonstrations``; raises as ``retrieve``."""
        return self._call(calls.demonstrations(task, after, limit, filter))

    def put(
        self,
        task: str,
        rows: RowLike | Sequence[RowLike],
        *,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> Outcome:
        """Put rows into a task's pool, all or none, as ``Retriever.put``.

        Raises:
            ConflictError: the row has another version than ``if_match``.
            AccessError: the API key lacks the scope ``write``.
            ServiceError: another service writes to the index (409), or its disk is full (507).
            UdrError: as ``retrieve``.
        """
        body = calls.put_body(rows)
        return self._call(calls.changes(task, body, if_match=if_match, idempotency_key=idempotency_key))

    def delete(
        self,
        task: str,
        ids: str | Sequence[str] | None = None,
        *,
        filter: FilterLike | None = None,
        if_match: str | None = None,
        idempotency_key: str | None = None,
    ) -> Outcome:
        """Delete rows by id, or those that pass a filter, as ``Retriever.delete``; raises as ``put``."""
        body = calls.deletion_body(ids, filter)
        return self._call(calls.changes(task, body, if_match=if_match, idempotency_key=idempotency_key))

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The service's tasks, by name; each access asks it, and raises as ``retrieve``."""
        return self._call(calls.TASKS)

    def info(self) -> Mapping[str, Json]:
        """Return ``/v1/info``: versions, model, limits and the size of each task; raises as ``retrieve``."""
        return self._call(calls.INFO)

    def ready(self) -> bool:
        """Return whether the service is ready to answer; does not retry."""
        return is_ready(self._send(calls.READY, self._deadline()))

    def _batches(self, requests: Iterable[RetrievalRequest]) -> Iterator[Sequence[Retrieval | Problem]]:
        requests = list(requests)
        if self._max_batch is None and len(requests) > SAFE_BATCH:
            self._max_batch = self._call(calls.MAX_BATCH)
        batches = Batches(requests, self._max_batch)
        while (call := batches.next) is not None:
            try:
                results = self._call(call)
            except ServiceError as error:
                if not batches.may_shrink(error):
                    raise
                self._max_batch = self._call(calls.MAX_BATCH)
                batches.shrink(self._max_batch)
            else:
                yield results
                batches.done()

    def _call(self, call: Call[Answer]) -> Answer:
        deadline = self._deadline()
        result, attempt = self._send(call, deadline), 0
        while (pause := self._pause(result, attempt, deadline)) is not None:
            time.sleep(pause)
            result, attempt = self._send(call, deadline), attempt + 1
        return self._read(call, result)

    def _send(self, call: Call[Answer], deadline: Deadline) -> TransportResult:
        if self._process != os.getpid():
            # A fork shares its parent's connections, and would read the parent's answers.
            self._http, self._process = self._open(), os.getpid()
        refuse_closed(self._http)
        try:
            return fetch(self._http, call.request, deadline)
        except FAILURES as error:
            return error
