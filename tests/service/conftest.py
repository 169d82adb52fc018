"""A service in this process: the small collection, the hash encoder, words for tokens."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from udr.retriever import Retriever
from udr_service.app import create_app
from udr_service.settings import Settings


class Words:
    """Counts words."""

    def count(self, text: str) -> int:
        return len(text.split())


@pytest.fixture
def service(retriever: Retriever) -> Iterator[TestClient]:
    with TestClient(create_app(retriever, Settings(), Words())) as client:
        yield client
