"""The client against the service: the same call, the same answer and the same error as in process."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from tests.service.conftest import Words
from udr.client import Client
from udr.errors import RequestError, ServiceError
from udr.prompt import Format, PromptBuilder
from udr.retriever import Retriever


@pytest.fixture
def client(service: TestClient) -> Iterator[Client]:
    """A client that reaches the application without a network."""

    def forward(request: httpx2.Request) -> httpx2.Response:
        path = request.url.raw_path.decode()
        answer = service.request(request.method, path, content=request.content, headers=dict(request.headers))
        return httpx2.Response(answer.status_code, content=answer.content, headers=answer.headers)

    with Client("http://testserver", transport=httpx2.MockTransport(forward)) as client:
        yield client


REVIEW = {"thing": "chair", "text": 'fine "{thing}" 🙂\n\t\\'}
ASK: list[dict[str, Any]] = [
    {"task": "reviews", "input": REVIEW, "k": 3},
    {"task": "notes", "input": "a dull day"},
    {"family": "mood", "input": "a dull day", "k": 5, "exclude": ["n01"], "min_similarity": 0.2},
    {"scope": "all", "input": "who owns it", "k": 2},
]


@pytest.mark.parametrize("keys", ASK, ids=str)
def test_retrieve_is_the_retriever_s(client: Client, retriever: Retriever, keys: dict[str, Any]) -> None:
    assert client.retrieve(**keys) == retriever.retrieve(**keys)


BAD: list[dict[str, Any]] = [
    {"task": "nowhere", "input": "x"},
    {"task": "reviews", "input": "x"},
    {"task": "notes", "input": {"text": "x", "y": 1}},
    {"task": "notes", "input": "x", "k": 21},
    {"task": "notes", "input": "x", "mode": "hybrid"},
    {"task": "notes", "input": "x" * 100_000},
    {"task": "notes", "input": "x \ud800"},
    {"task": "notes", "family": "mood", "input": "x"},
]


@pytest.mark.parametrize("keys", BAD, ids=[str(keys)[:40] for keys in BAD])
def test_a_request_that_cannot_be_answered_raises_as_the_retriever(
    client: Client, retriever: Retriever, keys: dict[str, Any]
) -> None:
    def raised_by(retrieve: Callable[..., object]) -> RequestError:
        with pytest.raises(RequestError) as raised:
            retrieve(**keys)
        return raised.value

    ours, theirs = raised_by(client.retrieve), raised_by(retriever.retrieve)
    assert (type(ours), str(ours)) == (type(theirs), str(theirs))


@pytest.mark.parametrize("format", Format)
def test_prompt_is_the_builder_s(client: Client, retriever: Retriever, format: Format) -> None:
    prompt = client.prompt("reviews", REVIEW, k=6, budget=60, reserve=4, format=format)
    task, retrieval = retriever.tasks["reviews"], retriever.retrieve("reviews", REVIEW, 6)
    assert prompt == PromptBuilder(Words(), 60, 4).build(task, REVIEW, retrieval, format)


def test_tasks_are_the_retriever_s(client: Client, retriever: Retriever) -> None:
    assert client.tasks() == dict(retriever.tasks)


def test_info_and_ready(client: Client, retriever: Retriever) -> None:
    assert client.info()["index_version"] == retriever.index_version
    assert client.ready()


def test_what_is_no_problem_of_the_request_is_a_service_error(client: Client) -> None:
    with pytest.raises(ServiceError, match=r"HTTP 413") as raised:
        client.retrieve("notes", "x" * 3_000_000)
    assert raised.value.type == "urn:udr:problem:body-too-large"
