"""Where demonstrations come from: one protocol for an index in process and for a service."""

from collections.abc import Sequence
from typing import Protocol, Unpack

from udr.retrieval import Retrieval, RetrievalOptions, RetrievalRequest
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
    """What ``Retriever`` and ``Client`` have in common."""

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
