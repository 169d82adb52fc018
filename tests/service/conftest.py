"""A service in this process: the small collection, the hash encoder, words for tokens."""

import asyncio
import functools
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec

import pytest
from fastapi.testclient import TestClient

from tests.fakes import HashEncoder
from tests.tiny_models import save_encoder
from udr.retrieval import Retriever
from udr.search import Vectors
from udr.store import open_version, read_current
from udr_index.build import BuildConfig, build
from udr_service import Settings, create_app
from udr_service.serving import ActiveVersion

P = ParamSpec("P")
BODY: dict[str, Any] = {"task": "notes", "input": "a dull day", "k": 1}


def on_event_loop(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """Run an asynchronous test, for at most 240 seconds."""

    @functools.wraps(test)
    def run(*args: P.args, **keywords: P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **keywords), 240))

    return run


class Words:
    """Counts words."""

    def count(self, text: str) -> int:
        return len(text.split())


class HeldEncoder(HashEncoder):
    """Encodes queries once ``go`` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.started = threading.Event(), threading.Event()

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        self.started.set()
        assert self.go.wait(120)
        return super().encode_queries(texts)


class Source:
    """An index directory, opened with the hash encoder once ``go`` is set; remembers what it opened."""

    def __init__(self, index: Path) -> None:
        self.index, self.opened = index, list[Retriever]()
        self.go = threading.Event()
        self.go.set()

    def current(self) -> str:
        return read_current(self.index)

    def load(self, metrics: object, name: str | None = None) -> ActiveVersion:
        assert self.go.wait(120)
        self.opened.append(Retriever.of_version(open_version(self.index), encoder=HashEncoder()))
        return ActiveVersion(self.opened[-1], Words())


@contextmanager
def served(retriever: Retriever, **settings: Any) -> Iterator[TestClient]:
    """Serve an open retriever in this process."""
    with TestClient(create_app(retriever, Settings(**settings), Words())) as client:
        yield client


@pytest.fixture
def service(retriever: Retriever) -> Iterator[TestClient]:
    with served(retriever) as client:
        yield client


@pytest.fixture
def held(index: Path) -> Iterator[tuple[Retriever, HeldEncoder]]:
    """The index, opened with an encoder that waits."""
    encoder = HeldEncoder()
    with Retriever.open(index, encoder=encoder) as retriever:
        yield retriever, encoder


@pytest.fixture(scope="session")
def tiny(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index by a tiny random BERT, which it carries."""
    root = tmp_path_factory.mktemp("tiny")
    build(BuildConfig(tasks=collection, out=root / "index", model=str(save_encoder(root / "encoder"))))
    return root / "index"
