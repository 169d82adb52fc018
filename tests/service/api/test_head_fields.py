"""The service answers as the core does where a label head reads two fields apart, and counts what it encodes."""

from collections import Counter
from collections.abc import Iterator
from unittest.mock import Mock

import pytest
from fastapi.testclient import TestClient

from tests.fakes import HashEncoder
from tests.index.builds import build_index, write_moods, write_pairs
from tests.service.conftest import served
from udr.retrieval import Retriever
from udr.store import open_version
from udr_service.serving import CachingEncoder

INPUT = {"first": "river mill tower lake castle", "second": "castle river lake mill"}
QUERY = {"task": "pairs", "input": INPUT, "k": 4}


@pytest.fixture
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Retriever]:
    folder = tmp_path_factory.mktemp("pairs")
    build_index(write_moods(write_pairs(folder / "tasks")), folder / "index")
    with Retriever.open(folder / "index", encoder=HashEncoder()) as opened:
        yield opened


@pytest.fixture
def service(retriever: Retriever) -> Iterator[TestClient]:
    with served(retriever) as client:
        yield client


def test_answers_are_those_of_the_core(service: TestClient, retriever: Retriever) -> None:
    expected = retriever.retrieve("pairs", INPUT, 4, explain=True, max_copy=0.99).to_json()
    assert service.post("/v1/retrieve", json={**QUERY, "explain": True, "max_copy": 0.99}).json() == expected
    requests = [QUERY, {**QUERY, "label_head": False}, {"task": "notes", "input": "a merry day", "k": 2}]
    answers = service.post("/v1/retrieve/batch", json={"requests": requests}).json()["results"]
    alone = [service.post("/v1/retrieve", json=request).json() for request in requests]
    assert answers == alone and alone[0]["demonstrations"] != alone[1]["demonstrations"]


def test_the_cache_counts_each_text(retriever: Retriever) -> None:
    lookups: Counter[str] = Counter()
    metrics = Mock(cache_looked_up=lambda **counts: lookups.update(counts))
    with (
        Retriever.of_version(
            open_version(retriever.path.parents[1]), encoder=CachingEncoder(HashEncoder(), 64, metrics)
        ) as cached,
        served(cached) as service,
    ):
        lookups.clear()
        for second in (INPUT["second"], "a field"):
            service.post("/v1/retrieve", json={**QUERY, "input": {**INPUT, "second": second}})
    # The first field of the second query is cached.
    assert +lookups == {"hit": 1, "miss": 5}


def test_a_costly_pair_is_counted_as_three_queries(retriever: Retriever) -> None:
    for size, status in ((2, 413), (3, 200)):
        with served(retriever, queue_size=size, max_batch=1) as service:
            assert service.post("/v1/retrieve", json=QUERY).status_code == status
            assert service.post("/v1/retrieve", json={**QUERY, "label_head": False}).status_code == 200


def test_info_tells_the_passes(service: TestClient) -> None:
    tasks = service.get("/v1/info").json()["tasks"]
    assert {task["name"]: task["encoder_passes"] for task in tasks} == {"notes": 1, "pairs": 3}
