"""The clients against the service: calls give the answers and errors that they give in process."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from tests.clients import KINDS, Connect, Handler, connecting
from tests.service.conftest import Words, served
from udr.client import Client
from udr.data import Condition, Filter
from udr.errors import ConfigError, RequestError, ServiceError
from udr.prompts import BuildingOptions, Format, Order, PromptBuilder
from udr.retrieval import Retrieval, RetrievalOptions, RetrievalRequest, Retriever

URL = "http://testserver"


@pytest.fixture(params=KINDS)
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    with connecting(request.param) as connect:
        yield connect


def forwarding(service: TestClient, paths: list[str] | None = None) -> Handler:
    """A network of one application; ``paths`` collects the requested paths."""

    def forward(request: httpx2.Request) -> httpx2.Response:
        path = request.url.raw_path.decode()
        if paths is not None:
            paths.append(path)
        answer = service.request(request.method, path, content=request.content, headers=dict(request.headers))
        return httpx2.Response(answer.status_code, content=answer.content, headers=answer.headers)

    return forward


@pytest.fixture
def client(service: TestClient, connect: Connect) -> Client:
    return connect(forwarding(service), URL)


REVIEW = {"thing": "chair", "text": 'fine "{thing}" 🙂\n\t\\'}
VALID: list[dict[str, Any]] = [
    {"task": "notes", "input": "a dull day", "k": 21},
    {"task": "reviews", "input": REVIEW, "k": 3},
    {"task": "notes", "input": "a dull day"},
    {"family": "mood", "input": "a dull day", "k": 5, "exclude": ["n01"], "min_similarity": 0.2},
    {"scope": "all", "input": "who owns it", "k": 2},
    {"task": "notes", "input": "a dull day", "k": 4, "balance": True, "explain": True},
    {"task": "notes", "input": "a dull day", "k": 4, "diversity": 0.0, "distinct": 1, "candidates": 9},
    {"family": "mood", "input": "a dull day", "diversity": 0.5, "max_similarity": 0.4, "keep_copies": True},
    {"scope": "all", "input": "a dull day", "filter": 'n < 7 and $task != "notes" or $id in ["n03", "q07"]'},
    {"task": "reviews", "input": REVIEW, "filter": {"must_not": [{"key": "n", "range": {"gte": 2}}]}},
    {"task": "notes", "input": "a dull day", "filter": Filter(must=(Condition(key="$target", match="sad"),))},
]
REQUESTS = [RetrievalRequest(**options) for options in VALID]
INVALID: list[dict[str, Any]] = [
    {"task": "nowhere", "input": "x"},
    {"task": "reviews", "input": "x"},
    {"task": "notes", "input": {"text": "x", "y": 1}},
    {"task": "notes", "input": "x", "mode": "hybrid"},
    {"task": "notes", "input": "x", "candidates": 3},
    {"task": "notes", "input": "x", "candidates": 9},
    {"task": "notes", "input": "x" * 100_000},
    {"task": "notes", "input": "x \ud800"},
    {"task": "notes", "family": "mood", "input": "x"},
    {"task": "reviews", "input": REVIEW, "filter": "n = true"},
    {"task": "reviews", "input": REVIEW, "filter": "n = x"},
]


def test_retrieve_and_batch_answer_like_the_retriever(client: Client, retriever: Retriever) -> None:
    for options in VALID:
        assert client.retrieve(**options) == retriever.retrieve(**options)
    assert client.retrieve_batch(REQUESTS) == retriever.retrieve_batch(REQUESTS)
    expected = retriever.retrieve("notes", "a dull day")
    absent: dict[str, Any] = dict.fromkeys(("k", *RetrievalOptions.__annotations__))
    for source in (client, retriever):
        assert source.retrieve("notes", "a dull day", **absent) == expected
        assert source.retrieve_batch(request for request in REQUESTS) == retriever.retrieve_batch(REQUESTS)


def test_unknown_options_are_refused_with_a_list_of_those_that_there_are(client: Client, retriever: Retriever) -> None:
    misspelt: dict[str, Any] = {"divresity": 0.2}
    for call in (client.retrieve, retriever.retrieve):
        with pytest.raises(ConfigError, match=r"^unknown option 'divresity'; the options are .*diversity, .*scope$"):
            call("notes", "x", **misspelt)
    with pytest.raises(ConfigError, match=r"^unknown option 'divresity'; the options are .*diversity, .*truncate$"):
        client.prompt("notes", "x", budget=99, **misspelt)


def error_of(call: Callable[..., object], *args: Any, **options: Any) -> tuple[type[RequestError], str]:
    with pytest.raises(RequestError) as raised:
        call(*args, **options)
    return type(raised.value), str(raised.value)


@pytest.mark.parametrize("options", INVALID, ids=lambda options: str(options)[:40])
def test_invalid_requests_raise_like_the_retriever(
    client: Client, retriever: Retriever, options: dict[str, Any]
) -> None:
    assert error_of(client.retrieve, **options) == error_of(retriever.retrieve, **options)
    requests = [*REQUESTS, RetrievalRequest(**options), RetrievalRequest(task="nowhere either", input="x")]
    error = error_of(client.retrieve_batch, requests)
    assert error == error_of(retriever.retrieve_batch, requests)
    assert error[1].startswith(f"request {len(REQUESTS) + 1}: ")


def test_other_errors(client: Client, retriever: Retriever) -> None:
    assert error_of(client.retrieve, task="notes") == error_of(retriever.retrieve, task="notes")
    for task, id in (("nowhere", "n01"), ("notes", "1"), ("notes", ".."), ("notes", "a/b?c#d%")):
        assert error_of(client.demonstration, task, id) == error_of(retriever.demonstration, task, id)
    with pytest.raises(ServiceError, match=r"HTTP 413") as raised:
        client.retrieve("notes", "x" * 3_000_000)
    assert raised.value.type == "urn:udr:problem:body-too-large"


def ids(retrieval: Retrieval) -> list[str]:
    return [demonstration.id for demonstration in retrieval]


def test_a_batch_above_the_service_s_limit_is_sent_in_parts(connect: Connect, retriever: Retriever) -> None:
    requests = [RetrievalRequest(task="notes", input=f"a dull day {number}", k=2) for number in range(70)]
    paths: list[str] = []
    with served(retriever, max_batch=30) as service:
        client = connect(forwarding(service, paths), URL)
        # The last decimal of a similarity depends on what is encoded together.
        assert list(map(ids, client.retrieve_batch(requests))) == list(map(ids, retriever.retrieve_batch(requests)))
        assert paths == ["/v1/info", *["/v1/retrieve/batch"] * 3]
        invalid = [*requests, RetrievalRequest(task="notes", input="x", k=0)]
        assert error_of(client.retrieve_batch, invalid)[1].startswith("request 71: ")


BUILDING: list[dict[str, Any]] = [
    *({"format": format} for format in Format),
    {"order": Order.SHUFFLE, "seed": 3, "list_options": True},
    {"order": "alternate_labels", "layout": "system", "format": "messages", "message_tokens": 2},
    {"truncate": "text", "budget": 25, "reserve": 0},
    {"format": "records", "balance": True, "explain": True, "k": 5},
]


@pytest.mark.parametrize("options", BUILDING, ids=str)
def test_prompt_answers_like_the_builder(client: Client, retriever: Retriever, options: dict[str, Any]) -> None:
    options = {"k": 6, "budget": 60, "reserve": 4, "format": "text", **options}
    selection = {name: options[name] for name in ("k", "balance", "explain") if name in options}
    building = {name: options[name] for name in BuildingOptions.__annotations__ if name in options}
    review = {"thing": "chair", "text": "a word " * 20}

    prompt = client.prompt("reviews", review, **options)

    builder = PromptBuilder(Words(), options["budget"], options["reserve"], **building)
    retrieval = retriever.retrieve("reviews", review, **selection)
    expected = builder.build(retriever.tasks["reviews"], review, retrieval, Format(options["format"]))
    # The service names its tokenizer, which has no name of its own here.
    assert prompt == replace(expected, tokenizer="fake-hash")
    assert client.prompt("reviews", review, tokenizer="fake-hash", **options) == prompt
    with pytest.raises(RequestError, match="this service has no tokenizer 'other'; it was started with fake-hash"):
        client.prompt("reviews", review, tokenizer="other", **options)
    assert prompt.index_version == retriever.index_version
    assert (bool(prompt.truncated), bool(prompt.decisions)) == ("truncate" in options, "explain" in options)


def test_tasks_demonstrations_and_info_are_the_retriever_s(client: Client, retriever: Retriever) -> None:
    assert client.tasks == dict(retriever.tasks)
    assert client.info()["index_version"] == retriever.index_version
    assert client.ready()
    for name in retriever.sizes:
        for id in ids(retriever.retrieve(name, dict.fromkeys(retriever.tasks[name].fields, "x"), 8)):
            assert client.demonstration(name, id) == retriever.demonstration(name, id)
