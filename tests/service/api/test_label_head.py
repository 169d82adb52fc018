"""The service ranks with the label head of an index, as the core does."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from tests.fakes import HashEncoder
from tests.index.builds import build_index, write_moods
from tests.service.conftest import Words, served
from udr.prompts import PromptBuilder
from udr.retrieval import Retriever

QUERY = {"task": "notes", "input": "a merry castle", "k": 4}


@pytest.fixture(scope="module")
def retriever(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Retriever]:
    folder = tmp_path_factory.mktemp("moods")
    build_index(write_moods(folder / "tasks"), folder / "index")
    with Retriever.open(folder / "index", encoder=HashEncoder()) as opened:
        yield opened


@pytest.fixture
def service(retriever: Retriever) -> Iterator[TestClient]:
    with served(retriever) as client:
        yield client


def test_answers_have_the_number_that_ranks(service: TestClient, retriever: Retriever) -> None:
    answer = service.post("/v1/retrieve", json={**QUERY, "explain": True}).json()
    assert answer == retriever.retrieve("notes", "a merry castle", 4, explain=True).to_json()
    for item in (*answer["demonstrations"], *answer["decisions"]):
        assert item["ranking_score"] > item["similarity"]


def test_a_request_can_do_without(service: TestClient, retriever: Retriever) -> None:
    answer = service.post("/v1/retrieve", json={**QUERY, "label_head": False}).json()
    assert answer == retriever.retrieve("notes", "a merry castle", 4, label_head=False).to_json()
    assert all("ranking_score" not in item for item in answer["demonstrations"])
    default = service.post("/v1/retrieve", json={**QUERY, "label_head": None}).json()
    assert default == service.post("/v1/retrieve", json=QUERY).json() != answer


def test_a_head_over_all_tasks_is_refused(service: TestClient) -> None:
    answer = service.post("/v1/retrieve", json={"scope": "all", "input": "x", "label_head": True})
    assert answer.status_code == 422 and "it needs a task" in answer.json()["detail"]


def test_prompts_show_the_number_that_ranks(service: TestClient, retriever: Retriever) -> None:
    answer = service.post("/v1/prompt", json={**QUERY, "budget": 1000}).json()
    retrieval = retriever.retrieve("notes", "a merry castle", 4)
    prompt = PromptBuilder(Words(), 1000).build(retriever.tasks["notes"], "a merry castle", retrieval)
    assert answer["demonstrations"] == prompt.to_json()["demonstrations"]
    assert [item["ranking_score"] for item in answer["demonstrations"]] == [d.ranking_score for d in retrieval][::-1]
