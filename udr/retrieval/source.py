"""Where demonstrations come from: one protocol for an index in process and for a service."""

import asyncio
from collections.abc import Sequence
from typing import Protocol, Unpack

from udr.retrieval.types import Retrieval, RetrievalOptions, RetrievalRequest
from udr.types import Fields


class AsyncDemonstrationSource(Protocol):
    """What ``Retriever``, ``Client`` and ``AsyncClient`` have in common: asked from an event loop, none blocks it."""

    async def aretrieve(
        self,
        task: str | None = None,
        input: Fields | str | None = None,
        k: int = 8,
        **options: Unpack[RetrievalOptions],
    ) -> Retrieval:
        """Return k demonstrations for an input; ``RetrievalRequest`` says what the arguments mean.

        Raises:
            RequestError: the request cannot be answered.
        """

    async def aretrieve_batch(self, requests: Sequence[RetrievalRequest]) -> list[Retrieval]:
        """Answer several requests, in their order.

        Raises:
            RequestError: the first request that cannot be answered; the message gives its place, from 1.
        """


class DemonstrationSource(AsyncDemonstrationSource, Protocol):
    """What ``Retriever`` and ``Client`` have in common; as a base it asks from an event loop through a thread."""

    def retrieve(
        self,
        task: str | None = None,
        input: Fields | str | None = None,
        k: int = 8,
        **options: Unpack[RetrievalOptions],
    ) -> Retrieval:
        """Return k demonstrations for an input, as ``aretrieve``."""

    def retrieve_batch(self, requests: Sequence[RetrievalRequest]) -> list[Retrieval]:
        """Answer several requests, in their order, as ``aretrieve_batch``."""

    async def aretrieve(
        self,
        task: str | None = None,
        input: Fields | str | None = None,
        k: int = 8,
        **options: Unpack[RetrievalOptions],
    ) -> Retrieval:
        """Return what ``retrieve`` does, from a thread: the event loop goes on meanwhile."""
        return await asyncio.to_thread(self.retrieve, task, input, k, **options)

    async def aretrieve_batch(self, requests: Sequence[RetrievalRequest]) -> list[Retrieval]:
        """Return what ``retrieve_batch`` does, from a thread: the event loop goes on meanwhile."""
        return await asyncio.to_thread(self.retrieve_batch, requests)
