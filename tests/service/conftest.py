"""A service in this process: the small collection, the hash encoder, words for tokens."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.tiny_models import save_encoder
from udr.retrieval import Retriever
from udr_index.build import BuildConfig, build
from udr_service import Settings, create_app


class Words:
    """Counts words."""

    def count(self, text: str) -> int:
        return len(text.split())


@pytest.fixture
def service(retriever: Retriever) -> Iterator[TestClient]:
    with TestClient(create_app(retriever, Settings(), Words())) as client:
        yield client


@pytest.fixture(scope="session")
def tiny(collection: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index by a tiny random BERT, which it carries."""
    root = tmp_path_factory.mktemp("tiny")
    encoder = save_encoder(root / "encoder")
    build(BuildConfig(tasks=collection, out=root / "index", model=str(encoder)))
    return root / "index"
