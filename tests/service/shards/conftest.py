"""An index in three shards, and the services of them in this process."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from tests.fakes import HashEncoder
from tests.service.conftest import Words
from udr.client.shards import Placements, ShardedClient, read_placements
from udr.retrieval import RetrievalRequest, Retriever
from udr_index.build import BuildConfig
from udr_index.versions import PLACEMENTS, build_shards, place
from udr_service import Settings, create_app
from udr_service.app import create_shards_app

NUMBER = 3


@pytest.fixture(scope="session")
def shards(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection's index in three shards, placed at the hosts ``shard-1`` and so on."""
    out = tmp_path_factory.mktemp("shards")
    config = BuildConfig(tasks=collection, out=out, bm25=False)
    built = list(build_shards(config, NUMBER, encoder=HashEncoder()))
    place(out / PLACEMENTS, {b.path.parent.parent: [f"http://shard-{n}"] for n, b in enumerate(built, start=1)})
    return out


class Services:
    """The services of shards, in this process; those whose host is in ``stopped`` refuse connections.

    Those in ``silent`` accept them and say nothing.
    """

    def __init__(self, root: Path) -> None:
        self.stopped, self.silent = set[str](), set[str]()
        self._retrievers = [
            Retriever.open(root / f"shard-{n}-of-{NUMBER}", encoder=HashEncoder()) for n in range(1, NUMBER + 1)
        ]
        self._apps = {
            f"shard-{n}": httpx2.ASGITransport(create_app(retriever, Settings(), Words()))
            for n, retriever in enumerate(self._retrievers, start=1)
        }

    def serve(self, host: str, retriever: Retriever, **settings: Any) -> None:
        """Serve a retriever, which the caller closes, at a host."""
        self._apps[host] = httpx2.ASGITransport(create_app(retriever, Settings(**settings), Words()))

    def transport(self, url: str) -> httpx2.AsyncBaseTransport:
        """Return what stands for the network."""
        return httpx2.MockTransport(self._handle)

    async def _handle(self, request: httpx2.Request) -> httpx2.Response:
        host = request.url.host
        if host in self.stopped:
            raise httpx2.ConnectError("Connection refused")
        if host in self.silent:
            await asyncio.sleep(60)
        # The service without keys answers its own machine only.
        request.headers["Host"] = "127.0.0.1"
        return await self._apps[host.removesuffix("-too")].handle_async_request(request)

    def close(self) -> None:
        for retriever in self._retrievers:
            retriever.close()


@pytest.fixture
def services(shards: Path) -> Iterator[Services]:
    opened = Services(shards)
    yield opened
    opened.close()


def ask(
    services: Services, placements: Path | Placements, requests: Sequence[RetrievalRequest], seconds: float = 10.0
) -> list[Any]:
    """Return what a sharded client answers."""
    read = read_placements(placements) if isinstance(placements, Path) else placements

    async def answers() -> list[Any]:
        async with ShardedClient(read, timeout=seconds, transport=services.transport) as client:
            return await client.answer(requests)

    return asyncio.run(answers())


@pytest.fixture
def front(shards: Path, services: Services) -> Iterator[TestClient]:
    """The service that asks the others."""
    client = ShardedClient(read_placements(shards / PLACEMENTS), timeout=60.0, transport=services.transport)
    with TestClient(create_shards_app(client, Settings(), {"words": Words()})) as http:
        yield http
