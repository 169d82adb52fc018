"""The clients against the service: the same call, the same answer and the same error as in process."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from tests.clients import KINDS, Connect, Handler, connecting
from tests.service.conftest import Words
from udr.client import AsyncClient, Client
from udr.errors import RequestError, ServiceError
from udr.prompts import BuildingOptions, Format, Order, PromptBuilder
from udr.retrieval import RetrievalRequest, Retriever
from udr_service import Settings, create_app

URL = "http://testserver"


@pytest.fixture(params=KINDS)
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    with connecting(request.param) as connect:
        yield connect


def forwarding(service: TestClient, paths: list[str] | None = None) -> Handler:
    """A network of one application; ``paths`` gets what was asked for."""

    def forward(request: httpx2.Request) -> httpx2.Response:
        path = request.url.raw_path.decode()
        if paths is not None:
            paths.append(path)
        answer = service.request(request.method, path, content=request.content, headers=dict(request.headers))
        return httpx2.Response(answer.status_code, content=answer.content, headers=answer.headers)

    return forward


@pytest.fixture
def client(service: TestClient, connect: Connect) -> Client:
    """A client that reaches the application without a network."""
    return connect(forwarding(service), URL)


REVIEW = {"thing": "chair", "text": 'fine "{thing}" 🙂\n\t\\'}
ASK: list[dict[str, Any]] = [
    {"task": "reviews", "input": REVIEW, "k": 3},
    {"task": "notes", "input": "a dull day"},
    {"family": "mood", "input": "a dull day", "k": 5, "exclude": ["n01"], "min_similarity": 0.2},
    {"scope": "all", "input": "who owns it", "k": 2},
    {"task": "notes", "input": "a dull day", "k": 4, "balance": True, "explain": True},
    {"task": "notes", "input": "a dull day", "k": 4, "diversity": 0.0, "distinct": 1, "candidates": 9},
    {"family": "mood", "input": "a dull day", "diversity": 0.5, "max_similarity": 0.4, "keep_copies": True},
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
    {"task": "notes", "input": "x", "candidates": 3},
    {"task": "notes", "input": "x" * 100_000},
    {"task": "notes", "input": "x \ud800"},
    {"task": "notes", "family": "mood", "input": "x"},
]


def raised_by(ask: Callable[..., object], *args: Any, **keys: Any) -> tuple[type[RequestError], str]:
    with pytest.raises(RequestError) as raised:
        ask(*args, **keys)
    return type(raised.value), str(raised.value)


@pytest.mark.parametrize("keys", [*BAD, {"task": "notes"}], ids=lambda keys: str(keys)[:40])
def test_a_request_that_cannot_be_answered_raises_as_the_retriever(
    client: Client, retriever: Retriever, keys: dict[str, Any]
) -> None:
    assert raised_by(client.retrieve, **keys) == raised_by(retriever.retrieve, **keys)


REQUESTS = [RetrievalRequest(**keys) for keys in ASK]


def test_a_batch_is_the_retriever_s(client: Client, retriever: Retriever) -> None:
    assert client.retrieve_batch(REQUESTS) == retriever.retrieve_batch(REQUESTS)


@pytest.mark.parametrize("keys", BAD, ids=lambda keys: str(keys)[:40])
def test_a_batch_with_a_request_that_cannot_be_answered_raises_as_the_retriever(
    client: Client, retriever: Retriever, keys: dict[str, Any]
) -> None:
    requests = [*REQUESTS, RetrievalRequest(**keys), RetrievalRequest(task="nowhere either", input="x")]
    ours = raised_by(client.retrieve_batch, requests)
    assert ours == raised_by(retriever.retrieve_batch, requests)
    assert ours[1].startswith(f"request {len(REQUESTS) + 1}: ")


def test_a_batch_above_the_service_s_limit_is_sent_in_pieces(connect: Connect, retriever: Retriever) -> None:
    requests = [RetrievalRequest(task="notes", input=f"a dull day {number}", k=2) for number in range(70)]
    paths: list[str] = []
    with TestClient(create_app(retriever, Settings(max_batch=30), Words())) as service:
        client = connect(forwarding(service, paths), URL)
        # Their similarities may differ in the last decimal, which depends on who is encoded with whom.
        assert [ids(one) for one in client.retrieve_batch(requests)] == [
            ids(one) for one in retriever.retrieve_batch(requests)
        ]
        assert paths == ["/v1/info", *["/v1/retrieve/batch"] * 3]
        bad = [*requests, RetrievalRequest(task="notes", input="x", k=0)]
        assert raised_by(client.retrieve_batch, bad)[1].startswith("request 71: ")


def ids(retrieval: Any) -> list[str]:
    return [found.id for found in retrieval]


@pytest.mark.parametrize("format", Format)
def test_prompt_is_the_builder_s(client: Client, retriever: Retriever, format: Format) -> None:
    prompt = client.prompt("reviews", REVIEW, k=6, budget=60, reserve=4, format=format)
    task, retrieval = retriever.tasks["reviews"], retriever.retrieve("reviews", REVIEW, 6)
    assert prompt == PromptBuilder(Words(), 60, 4).build(task, REVIEW, retrieval, format)


BUILDING: list[dict[str, Any]] = [
    {"order": Order.SHUFFLE, "seed": 3, "list_options": True},
    {"order": "alternate_labels", "layout": "system", "format": "messages", "message_tokens": 2},
    {"truncate": "text", "budget": 25, "reserve": 0},
    {"format": "records", "balance": True, "explain": True, "k": 5},
]


@pytest.mark.parametrize("keys", BUILDING, ids=str)
def test_a_prompt_is_built_as_it_is_asked_for(client: Client, retriever: Retriever, keys: dict[str, Any]) -> None:
    asked = {"k": 6, "budget": 60, "reserve": 4, "format": "text", **keys}
    chosen = {name: asked[name] for name in ("k", "balance", "explain") if name in asked}
    built = {name: asked[name] for name in BuildingOptions.__annotations__ if name in asked}
    review = {"thing": "chair", "text": "a word " * 20}

    prompt = client.prompt("reviews", review, **asked)

    builder = PromptBuilder(Words(), asked["budget"], asked["reserve"], **built)
    retrieval = retriever.retrieve("reviews", review, **chosen)
    assert prompt == builder.build(retriever.tasks["reviews"], review, retrieval, Format(asked["format"]))
    assert prompt.index_version == retriever.index_version
    assert bool(prompt.truncated) == ("truncate" in keys) and bool(prompt.decisions) == ("explain" in keys)


def test_every_demonstration_is_the_retriever_s(client: Client, retriever: Retriever) -> None:
    for name, size in retriever.sizes.items():
        for found in retriever.retrieve(name, dict.fromkeys(retriever.tasks[name].fields, "x"), size):
            assert client.demonstration(name, found.id) == retriever.demonstration(name, found.id)


@pytest.mark.parametrize(("task", "id"), [("nowhere", "n01"), ("notes", "1"), ("notes", ".."), ("notes", "a/b?c#d%")])
def test_a_demonstration_that_is_none_raises_as_the_retriever(
    client: Client, retriever: Retriever, task: str, id: str
) -> None:
    assert raised_by(client.demonstration, task, id) == raised_by(retriever.demonstration, task, id)


def test_tasks_are_the_retriever_s(client: Client, retriever: Retriever) -> None:
    assert client.tasks() == dict(retriever.tasks)


def test_info_and_ready(client: Client, retriever: Retriever) -> None:
    assert client.info()["index_version"] == retriever.index_version
    assert client.ready()


def test_what_is_no_problem_of_the_request_is_a_service_error(client: Client) -> None:
    with pytest.raises(ServiceError, match=r"HTTP 413") as raised:
        client.retrieve("notes", "x" * 3_000_000)
    assert raised.value.type == "urn:udr:problem:body-too-large"


def test_calls_at_once_on_one_event_loop_are_answered_each_with_its_own(retriever: Retriever) -> None:
    texts = [f"a dull {day} with {thing}" for day in ("monday", "friday") for thing in ("lamp", "chair", "kettle")] * 5

    async def ask() -> list[list[str]]:
        app = create_app(retriever, Settings(), Words())
        async with (
            app.router.lifespan_context(app),
            AsyncClient(URL, transport=httpx2.ASGITransport(app=app)) as client,
        ):
            return [ids(one) for one in await asyncio.gather(*(client.retrieve(family="mood", input=t) for t in texts))]

    assert asyncio.run(ask()) == [ids(retriever.retrieve(family="mood", input=text)) for text in texts]
