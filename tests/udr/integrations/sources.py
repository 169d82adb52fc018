"""A source whose answers a test gives."""

import asyncio
from collections.abc import Sequence
from typing import Unpack

from udr.retrieval import Retrieval, RetrievalOptions, RetrievalRequest, RetrievedDemonstration
from udr.types import Fields


def found(input: Fields, target: str, rank: int = 1, id: str | None = None) -> RetrievedDemonstration:
    """A demonstration that was found, the nearer the smaller its rank."""
    return RetrievedDemonstration(
        id=id or f"d{rank}",
        task="task",
        similarity=1 - rank / 100,
        rank=rank,
        input=input,
        target=target,
        text=f"{input}\n{target}",
    )


class Source:
    """Answers every request with the same demonstrations, ``slow`` seconds later if it is awaited.

    Attributes:
        asked: task, input, k and options of each call.
    """

    def __init__(self, *demonstrations: RetrievedDemonstration, slow: float = 0) -> None:
        self.retrieval = Retrieval(demonstrations=demonstrations, index_version="0" * 16, model="none")
        self._slow = slow
        self.asked: list[tuple[str | None, Fields | str | None, int, RetrievalOptions]] = []

    def retrieve(
        self,
        task: str | None = None,
        input: Fields | str | None = None,
        k: int = 8,
        **options: Unpack[RetrievalOptions],
    ) -> Retrieval:
        self.asked.append((task, input, k, options))
        return self.retrieval

    async def aretrieve(
        self,
        task: str | None = None,
        input: Fields | str | None = None,
        k: int = 8,
        **options: Unpack[RetrievalOptions],
    ) -> Retrieval:
        await asyncio.sleep(self._slow)
        return self.retrieve(task, input, k, **options)

    def retrieve_batch(self, requests: Sequence[RetrievalRequest]) -> list[Retrieval]:
        return [self.retrieval for _ in requests]

    async def aretrieve_batch(self, requests: Sequence[RetrievalRequest]) -> list[Retrieval]:
        return self.retrieve_batch(requests)
