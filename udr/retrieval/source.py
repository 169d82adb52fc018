"""Sources of demonstrations: one protocol for an index in process and for a service."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, Unpack

from udr.data import Task
from udr.retrieval.types import DEFAULT_K, Retrieval, RetrievalOptions, RetrievalRequest
from udr.types import Fields, Row


class AsyncDemonstrationSource(Protocol):
    """What ``Retriever``, ``Client`` and ``AsyncClient`` have in common; neither method blocks the event loop."""

    async def aretrieve(
        self,
        task: str | None = None,
        input: Fields | str | None = None,
        k: int = DEFAULT_K,
        **options: Unpack[RetrievalOptions],
    ) -> Retrieval:
        """Return k demonstrations for an input; ``RetrievalRequest`` documents the arguments.

        Raises:
            RequestError: the request is invalid.
        """

    async def aretrieve_batch(self, requests: Sequence[RetrievalRequest]) -> list[Retrieval]:
        """Return the results of several requests, in their order.

        Raises:
            RequestError: a request is invalid; the message gives the number of the first, from 1.
        """


class DemonstrationSource(AsyncDemonstrationSource, Protocol):
    """What ``Retriever`` and ``Client`` have in common; a base class whose asynchronous methods use a thread."""

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks, by name."""

    def demonstration(self, task: str, id: str) -> Row:
        """Return one row; ``UnknownTaskError`` if there is no such task or row."""

    def retrieve(
        self,
        task: str | None = None,
        input: Fields | str | None = None,
        k: int = DEFAULT_K,
        **options: Unpack[RetrievalOptions],
    ) -> Retrieval:
        """Return k demonstrations for an input, as ``aretrieve``."""

    def retrieve_batch(self, requests: Sequence[RetrievalRequest]) -> list[Retrieval]:
        """Return the results of several requests, as ``aretrieve_batch``."""

    async def aretrieve(
        self,
        task: str | None = None,
        input: Fields | str | None = None,
        k: int = DEFAULT_K,
        **options: Unpack[RetrievalOptions],
    ) -> Retrieval:
        """Call ``retrieve`` in a thread."""
        return await asyncio.to_thread(self.retrieve, task, input, k, **options)

    async def aretrieve_batch(self, requests: Iterable[RetrievalRequest]) -> list[Retrieval]:
        """Call ``retrieve_batch`` in a thread."""
        return await asyncio.to_thread(self.retrieve_batch, list(requests))
