"""The clients: what they send, and what they make of answers. ``test_http_protocol`` has when they send it again."""

import inspect
import json
import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import httpx2
import pytest

from tests.clients import KINDS, URL, Connect, Service, connecting, problem
from udr.client import PROBLEM, AsyncClient, Client
from udr.errors import (
    AccessError,
    ConfigError,
    DeadlineError,
    InvalidInputError,
    OverloadedError,
    ServiceError,
    TooLongError,
    UdrError,
    UnknownTaskError,
)
from udr.prompts import Prompt, PromptDemonstration
from udr.retrieval import Retrieval, RetrievalRequest, RetrievedDemonstration, Retriever
from udr.types import Row

RETRIEVAL = Retrieval(
    demonstrations=(
        RetrievedDemonstration(
            id="1", task="trec", similarity=0.8312, rank=1, input={"question": "{x} 🙂"}, target="human", text="Q\nA"
        ),
    ),
    index_version="v1",
    model="m",
)
PROMPT = Prompt(
    messages=({"role": "system", "content": "Say."}, {"role": "user", "content": "Q"}),
    tokens=5,
    demonstrations=(PromptDemonstration(id="1", task="trec", similarity=0.5, rank=1, tokens=3),),
    index_version="v1",
    model="m",
)
ROW = Row(id="a/b", input={"q": "x"}, target="y", choices=("y", "z"), references=("y",), metadata={"n": 2})


@pytest.fixture(params=KINDS)
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    with connecting(request.param) as connect:
        yield connect


def test_retrieve_sends_what_is_asked_and_nothing_else(connect: Connect) -> None:
    service = Service(httpx2.Response(200, json=RETRIEVAL.to_json()))
    client = connect(service)
    assert client.retrieve("trec", {"question": "Who ?"}, 3) == RETRIEVAL
    assert client.retrieve(family="topic", input="Who ?", exclude=["a"], min_similarity=0.0) == RETRIEVAL
    first, second = service.requests
    assert (first.method, str(first.url)) == ("POST", f"{URL}/v1/retrieve")
    assert json.loads(first.content) == {"task": "trec", "input": {"question": "Who ?"}, "k": 3, "exclude": []}
    assert json.loads(second.content) == {
        "family": "topic",
        "input": "Who ?",
        "k": 8,
        "exclude": ["a"],
        "min_similarity": 0.0,
    }


def test_prompt_sends_its_budget_and_reads_messages(connect: Connect) -> None:
    service = Service(httpx2.Response(200, json=PROMPT.to_json()))
    assert connect(service).prompt("trec", "Who ?", budget=64, reserve=8, format="messages") == PROMPT
    sent = json.loads(service.requests[0].content)
    assert sent["budget"] == 64 and sent["reserve"] == 8 and sent["format"] == "messages"


@pytest.mark.parametrize("id", ["1", "a/b", "..", ".", "a b?c#d%25", "é🙂", "{x}", "\\"])
def test_a_demonstration_is_asked_for_by_its_path(connect: Connect, id: str) -> None:
    answer = {**ROW.to_json(), "task": "a.b"}
    service = Service(httpx2.Response(200, json=answer))
    assert connect(service).demonstration("a.b", id) == ROW
    path = service.requests[0].url.raw_path.decode()
    assert path.count("/") == 5 and "?" not in path and "#" not in path
    assert unquote(path) == f"/v1/tasks/a.b/demonstrations/{id}"


def test_a_name_that_no_url_can_say_is_refused_before_it_is_sent(connect: Connect) -> None:
    service = Service(httpx2.Response(200, json={}))
    with pytest.raises(InvalidInputError, match=r"'a\\ud800' cannot be said in a URL"):
        connect(service).demonstration("t", "a\ud800")
    with pytest.raises(ServiceError, match="URL too long"):
        connect(service).demonstration("t", "a" * 70_000)
    assert not service.requests


def test_every_request_says_how_long_it_is_waited_for(connect: Connect) -> None:
    service = Service(httpx2.Response(200, json={"tasks": []}))
    connect(service).tasks()
    connect(service, timeout=0.25).tasks()
    assert [request.headers["X-Udr-Timeout"] for request in service.requests] == ["10", "0.25"]


def test_a_url_may_have_a_path(connect: Connect) -> None:
    service = Service(httpx2.Response(200, json=RETRIEVAL.to_json()))
    connect(service, f"{URL}/udr/").retrieve("t", "x")
    assert str(service.requests[0].url) == f"{URL}/udr/v1/retrieve"


PROBLEMS = [
    (404, "unknown-task", UnknownTaskError),
    (422, "invalid-input", InvalidInputError),
    (422, "k-too-large", InvalidInputError),
    (413, "too-long", TooLongError),
]
SERVICE_PROBLEMS = [
    (413, "batch-too-large", ServiceError),
    (413, "body-too-large", ServiceError),
    (429, "overloaded", OverloadedError),
    (503, "not-ready", OverloadedError),
    (504, "deadline-exceeded", DeadlineError),
    (401, "unauthorized", AccessError),
    (403, "forbidden", AccessError),
    (500, "internal", ServiceError),
]


@pytest.mark.parametrize(("status", "name", "kind"), PROBLEMS)
def test_a_problem_of_a_request_is_the_error_that_the_retriever_would_raise(
    connect: Connect, status: int, name: str, kind: type[UdrError]
) -> None:
    with pytest.raises(UdrError, match=r"^k must be from 1 to 3$") as raised:
        connect(Service(problem(status, name, "k must be from 1 to 3"))).retrieve("t", "x")
    assert type(raised.value) is kind


@pytest.mark.parametrize(("status", "name", "kind"), SERVICE_PROBLEMS)
def test_every_other_problem_is_an_error_of_the_service_with_status_and_type(
    connect: Connect, status: int, name: str, kind: type[ServiceError]
) -> None:
    with pytest.raises(ServiceError, match=rf"^{URL}: it said so \(HTTP {status}\)") as raised:
        connect(Service(problem(status, name, "it said so")), retries=0).retrieve("t", "x")
    assert type(raised.value) is kind
    assert (raised.value.status, raised.value.type) == (status, f"{PROBLEM}{name}")


def batch(*results: Retrieval | httpx2.Response) -> httpx2.Response:
    items = [one.to_json() if isinstance(one, Retrieval) else one.json() for one in results]
    return httpx2.Response(200, json={"results": items})


def asked(count: int) -> list[RetrievalRequest]:
    return [RetrievalRequest(task="t", input=f"text {number}") for number in range(1, count + 1)]


def sent(request: httpx2.Request) -> list[str]:
    return [item["input"] for item in json.loads(request.content)["requests"]]


def test_a_batch_is_sent_as_single_requests_are(connect: Connect) -> None:
    service = Service(batch(RETRIEVAL, RETRIEVAL))
    requests = [
        RetrievalRequest(task="t", input={"a": "b"}, k=3),
        RetrievalRequest(scope="all", input="x", exclude=("n",), min_similarity=0.5, mode="bm25"),
    ]
    assert connect(service).retrieve_batch(requests) == [RETRIEVAL, RETRIEVAL]
    (request,) = service.requests
    assert (request.method, request.url.path) == ("POST", "/v1/retrieve/batch")
    assert request.headers["Content-Type"] == "application/json"
    assert json.loads(request.content)["requests"] == [
        {"task": "t", "input": {"a": "b"}, "k": 3, "exclude": []},
        {"scope": "all", "input": "x", "k": 8, "exclude": ["n"], "min_similarity": 0.5, "mode": "bm25"},
    ]


def test_an_empty_batch_asks_nobody(connect: Connect) -> None:
    service = Service(httpx2.Response(500))
    assert connect(service).retrieve_batch([]) == []
    assert not service.requests


class Batching:
    """A service that takes so many requests at once; its answers name them, or refuse those it is told to."""

    def __init__(self, max_batch: int, refused: Mapping[str, httpx2.Response] = MappingProxyType({})) -> None:
        self.max_batch, self.refused, self.infos, self.batches = max_batch, refused, 0, list[int]()

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/info":
            self.infos += 1
            return httpx2.Response(200, json={"index_version": "v1", "limits": {"max_batch": self.max_batch}})
        texts = sent(request)
        self.batches.append(len(texts))
        if len(texts) > self.max_batch:
            return problem(413, "batch-too-large", f"the limit is {self.max_batch}")
        answers = (Retrieval(demonstrations=(), index_version="v1", model=text) for text in texts)
        return batch(*(self.refused.get(answer.model, answer) for answer in answers))


@pytest.mark.parametrize(
    ("count", "max_batch", "batches", "infos"),
    [
        (64, 64, [64], 0),
        (65, 64, [64, 1], 1),
        (65, 100, [65], 1),
        (130, 50, [50, 50, 30], 1),
        (66, 1, [1] * 66, 1),
    ],
)
def test_a_long_batch_is_sent_in_pieces_in_order(
    connect: Connect, count: int, max_batch: int, batches: list[int], infos: int
) -> None:
    service = Batching(max_batch)
    found = connect(service).retrieve_batch(asked(count))
    assert [one.model for one in found] == [f"text {number}" for number in range(1, count + 1)]
    assert (service.batches, service.infos) == (batches, infos)


def test_the_limit_of_batches_is_asked_for_once(connect: Connect) -> None:
    service = Batching(50)
    client = connect(service)
    for count in (65, 130, 60):
        assert len(client.retrieve_batch(asked(count))) == count
    assert service.infos == 1 and max(service.batches) == 50


@pytest.mark.parametrize("limits", [{}, {"max_batch": None}, {"max_batch": 0}, {"max_batch": "many"}, 3])
def test_a_limit_that_is_none_is_a_service_error(connect: Connect, limits: object) -> None:
    service = Service(httpx2.Response(200, json={"index_version": "v1", "limits": limits}))
    with pytest.raises(ServiceError, match="not a udr service's"):
        connect(service).retrieve_batch(asked(65))
    assert [request.url.path for request in service.requests] == ["/v1/info"]


@pytest.mark.parametrize(("status", "name", "kind"), PROBLEMS)
def test_the_first_failed_request_of_a_batch_is_raised_with_its_place(
    connect: Connect, status: int, name: str, kind: type[UdrError]
) -> None:
    refused = {"text 3": problem(status, name, "not so"), "text 4": problem(500, "internal", "later")}
    with pytest.raises(UdrError, match=r"^request 3: not so$") as raised:
        connect(Batching(64, refused)).retrieve_batch(asked(5))
    assert type(raised.value) is kind


@pytest.mark.parametrize(("status", "name", "kind"), SERVICE_PROBLEMS)
def test_what_the_service_failed_at_in_a_batch_is_named_by_its_place(
    connect: Connect, status: int, name: str, kind: type[ServiceError]
) -> None:
    service = Batching(64, {"text 2": problem(status, name, "it said so")})
    with pytest.raises(ServiceError, match=rf"^{URL}: request 2: it said so \(HTTP {status}\)") as raised:
        connect(service).retrieve_batch(asked(2))
    assert type(raised.value) is kind and raised.value.type == f"{PROBLEM}{name}"


def test_places_go_on_from_piece_to_piece_and_nothing_is_sent_after_a_failure(connect: Connect) -> None:
    service = Batching(30, {"text 32": problem(404, "unknown-task", "no")})
    with pytest.raises(UnknownTaskError, match=r"^request 32: no$"):
        connect(service).retrieve_batch(asked(90))
    assert service.batches == [30, 30]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_more_or_fewer_results_than_requests_are_a_service_error(connect: Connect, count: int) -> None:
    with pytest.raises(ServiceError, match="not a udr service's"):
        connect(Service(batch(*[RETRIEVAL] * count))).retrieve_batch(asked(2))


def test_a_request_of_a_batch_that_json_cannot_say_is_named_before_any_is_sent(connect: Connect) -> None:
    service = Batching(64)
    requests = [*asked(2), RetrievalRequest(task="t", input={"a": math.nan})]
    with pytest.raises(InvalidInputError, match=r"^request 3: the request cannot be said in JSON"):
        connect(service).retrieve_batch(requests)
    assert not service.batches


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"demonstrations": 3}',
        b'{"demonstrations": [1]}',
        b'{"tasks": [{}]}',
        b'{"results": 3}',
        b'{"results": [3]}',
        b'{"results": ["demonstrations"]}',
        b'{"results": [{"status": []}]}',
        b'{"results": [{"status": "x", "detail": "", "type": ""}]}',
        b"[" * 100_000,
    ],
    ids=lambda body: body[:40].decode(),
)
def test_an_answer_of_something_else_is_a_service_error(connect: Connect, body: bytes) -> None:
    client = connect(Service(httpx2.Response(200, content=body)))
    for ask in (
        lambda: client.retrieve("t", "x"),
        lambda: client.retrieve_batch(asked(1)),
        lambda: client.prompt("t", "x", budget=9),
        lambda: client.demonstration("t", "x"),
        client.tasks,
        client.info,
    ):
        with pytest.raises(ServiceError, match="not a udr service's"):
            ask()


@pytest.mark.parametrize("body", [b"<html>", b'{"type": [], "detail": {}}', b'{"type": 3}'])
@pytest.mark.parametrize(
    ("status", "kind"),
    [(301, ServiceError), (404, ServiceError), (502, ServiceError), (401, AccessError), (504, DeadlineError)],
)
def test_a_redirect_or_a_foreign_error_is_a_service_error(
    connect: Connect, status: int, kind: type[ServiceError], body: bytes
) -> None:
    with pytest.raises(ServiceError, match=f"HTTP {status}") as raised:
        connect(Service(httpx2.Response(status, content=body))).retrieve("t", "x")
    assert type(raised.value) is kind
    assert raised.value.status == status and raised.value.type is None


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "localhost", "ftp://x", "http://", "", "http://[::1", "http://x:y"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_url_that_is_none_is_refused(kind: type[Client] | type[AsyncClient], url: str) -> None:
    with pytest.raises(ConfigError, match="must be like http"):
        kind(url)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_url_with_a_password_is_refused_and_not_shown(kind: type[Client] | type[AsyncClient]) -> None:
    with pytest.raises(ConfigError, match="without a password; give the client an api_key") as raised:
        kind("http://me:geheim@service")
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize(
    "keys", [{"timeout": 0}, {"timeout": -1}, {"timeout": math.inf}, {"timeout": math.nan}], ids=str
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_timeout_that_is_none_is_refused(kind: type[Client] | type[AsyncClient], keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="timeout must be a number of seconds above 0"):
        kind(URL, **keys)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_fewer_retries_than_none_are_refused(kind: type[Client] | type[AsyncClient]) -> None:
    with pytest.raises(ConfigError, match="retries must be 0 or more, found -1"):
        kind(URL, retries=-1)


@pytest.mark.parametrize("input", [{"a": float("nan")}, {"a": object()}, {"a": {1, 2}}])
def test_an_input_that_json_cannot_say_is_refused_before_it_is_sent(connect: Connect, input: Mapping[str, Any]) -> None:
    service = Service(httpx2.Response(200, json=RETRIEVAL.to_json()))
    with pytest.raises(InvalidInputError, match="JSON"):
        connect(service).retrieve("t", input)
    assert not service.requests


def test_an_input_that_is_missing_is_refused_before_it_is_sent(connect: Connect) -> None:
    service = Service(httpx2.Response(200, json=RETRIEVAL.to_json()))
    with pytest.raises(InvalidInputError, match=r"^the input is missing"):
        connect(service).retrieve("t")
    assert not service.requests


def test_an_input_may_be_any_mapping(connect: Connect) -> None:
    service = Service(httpx2.Response(200, json=RETRIEVAL.to_json()))
    connect(service).retrieve("t", MappingProxyType({"a": ("b", 1)}))
    assert json.loads(service.requests[0].content)["input"] == {"a": ["b", 1]}


@pytest.mark.parametrize(("exclude", "said"), [("n01", "n01"), (3, 3), (("a", "b"), ["a", "b"]), ({"a"}, ["a"])])
def test_an_exclude_is_sent_as_a_list_if_it_is_one_and_a_text_not_as_its_letters(
    connect: Connect, exclude: Any, said: object
) -> None:
    service = Service(problem(422, "invalid-input", "/exclude: must be a valid list"))
    with pytest.raises(InvalidInputError):
        connect(service).retrieve("t", "x", exclude=exclude)
    assert json.loads(service.requests[0].content)["exclude"] == said


def test_ready_is_what_readyz_says_and_is_asked_once(connect: Connect) -> None:
    assert connect(Service(httpx2.Response(200, json={}))).ready() is True
    service = Service(problem(503, "not-ready", "loading"))
    assert connect(service).ready() is False
    assert [request.url.path for request in service.requests] == ["/readyz"]


SHARED = ("retrieve", "retrieve_batch", "demonstration")


@pytest.mark.parametrize("name", SHARED)
def test_the_signatures_are_the_retriever_s(name: str) -> None:
    assert inspect.signature(getattr(Client, name)) == inspect.signature(getattr(Retriever, name))


@pytest.mark.parametrize("name", [*SHARED, "prompt", "tasks", "info", "ready", "close"])
def test_the_asynchronous_client_has_the_same_signatures_and_is_awaited(name: str) -> None:
    method = getattr(AsyncClient, name)
    assert inspect.iscoroutinefunction(method)
    assert inspect.signature(method) == inspect.signature(getattr(Client, name))
