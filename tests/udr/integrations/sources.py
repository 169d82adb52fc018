"""A source with fixed answers."""

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx2

from tests.clients import Service
from udr.retrieval import Retrieval, RetrievalRequest, RetrievedDemonstration
from udr.types import Fields


def retrieved(input: Fields, target: str) -> RetrievedDemonstration:
    """A retrieved demonstration."""
    text = f"{input}\n{target}"
    return RetrievedDemonstration(id="d", task="task", similarity=0.9, rank=1, input=input, target=target, text=text)


def retrieval_of(*demonstrations: RetrievedDemonstration) -> Retrieval:
    return Retrieval(demonstrations=demonstrations, index_version="0" * 16, model="none")


class Source:
    """Answers every request with the same demonstrations; awaited requests wait for ``release`` if it is set.

    Attributes:
        calls: task, input, k and options of each call.
    """

    def __init__(self, *demonstrations: RetrievedDemonstration) -> None:
        self.retrieval = retrieval_of(*demonstrations)
        self.release: asyncio.Event | None = None
        self.calls: list[tuple[str | None, Fields | str | None, int, Any]] = []

    def retrieve(
        self, task: str | None = None, input: Fields | str | None = None, k: int = 8, **options: Any
    ) -> Retrieval:
        self.calls.append((task, input, k, options))
        return self.retrieval

    async def aretrieve(
        self, task: str | None = None, input: Fields | str | None = None, k: int = 8, **options: Any
    ) -> Retrieval:
        if self.release is not None:
            await self.release.wait()
        return self.retrieve(task, input, k, **options)

    async def aretrieve_batch(self, requests: Sequence[RetrievalRequest]) -> list[Retrieval]:
        return [self.retrieval for _ in requests]


def service_of(*demonstrations: RetrievedDemonstration) -> Service:
    """A service with the same answer for every request."""
    return Service(httpx2.Response(200, json=retrieval_of(*demonstrations).to_json()))
