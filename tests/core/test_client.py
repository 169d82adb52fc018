"""The client: what it sends, what it makes of answers, and when it tries again."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx2
import pytest

from udr.client import PROBLEM, Client
from udr.errors import (
    ConfigError,
    InvalidInputError,
    OverloadedError,
    ServiceError,
    TooLongError,
    UdrError,
    UnknownTaskError,
)
from udr.prompt import Prompt, PromptDemonstration
from udr.types import Retrieval, RetrievedDemonstration

URL = "http://service:8000"

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
)


class Service:
    """Answers each request with the next of its answers, the last one for ever; remembers what it was sent."""

    def __init__(self, *answers: httpx2.Response) -> None:
        self.answers, self.requests = list(answers), list[httpx2.Request]()

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def client(self, **keys: Any) -> Client:
        return Client(URL, transport=httpx2.MockTransport(self), **keys)


def problem(status: int, name: str, detail: str, **headers: str) -> httpx2.Response:
    body = {"type": f"{PROBLEM}{name}", "title": "T", "status": status, "detail": detail, "instance": "/"}
    return httpx2.Response(status, json=body, headers={"Content-Type": "application/problem+json", **headers})


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The seconds that the client would have slept."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    yield slept


def test_retrieve_sends_what_is_asked_and_nothing_else() -> None:
    service = Service(httpx2.Response(200, json=RETRIEVAL.to_json()))
    with service.client() as client:
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


def test_prompt_sends_its_budget_and_reads_messages() -> None:
    service = Service(httpx2.Response(200, json={**PROMPT.to_json(), "index_version": "v1", "model": "m"}))
    assert service.client().prompt("trec", "Who ?", budget=64, reserve=8, format="messages") == PROMPT
    sent = json.loads(service.requests[0].content)
    assert sent["budget"] == 64 and sent["reserve"] == 8 and sent["format"] == "messages"


def test_a_url_may_have_a_path() -> None:
    service = Service(httpx2.Response(200, json=RETRIEVAL.to_json()))
    Client(f"{URL}/udr/", transport=httpx2.MockTransport(service)).retrieve("t", "x")
    assert str(service.requests[0].url) == f"{URL}/udr/v1/retrieve"


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (404, "unknown-task", UnknownTaskError),
        (422, "invalid-input", InvalidInputError),
        (413, "too-long", TooLongError),
    ],
)
def test_a_problem_is_the_error_that_the_retriever_would_raise(status: int, name: str, kind: type[UdrError]) -> None:
    with pytest.raises(kind, match=r"^k must be from 1 to 3$"):
        Service(problem(status, name, "k must be from 1 to 3")).client().retrieve("t", "x")


def test_another_problem_is_a_service_error_with_status_and_type() -> None:
    with pytest.raises(ServiceError, match=rf"^{URL}: it broke \(HTTP 500\)$") as raised:
        Service(problem(500, "internal", "it broke")).client().retrieve("t", "x")
    assert (raised.value.status, raised.value.type) == (500, f"{PROBLEM}internal")


@pytest.mark.parametrize("status", [429, 503])
def test_a_full_service_is_asked_again_when_it_says(status: int, pauses: list[float]) -> None:
    full = problem(status, "overloaded", "full", **{"Retry-After": "3"})
    service = Service(full, full, httpx2.Response(200, json=RETRIEVAL.to_json()))
    assert service.client(retries=2).retrieve("t", "x") == RETRIEVAL
    assert pauses == [3.0, 3.0]


def test_retries_end_in_an_overloaded_error(pauses: list[float]) -> None:
    service = Service(problem(429, "overloaded", "full"))
    with pytest.raises(OverloadedError, match=r"full \(HTTP 429\)"):
        service.client(retries=2).retrieve("t", "x")
    assert len(service.requests) == 3
    assert pauses == [0.5, 1.0]


def test_no_pause_is_longer_than_the_timeout(pauses: list[float]) -> None:
    service = Service(problem(503, "not-ready", "loading", **{"Retry-After": "3600"}))
    with pytest.raises(OverloadedError):
        service.client(timeout=5).retrieve("t", "x")
    assert len(service.requests) == 1 and not pauses


def failing(error: Callable[[httpx2.Request], Exception]) -> Client:
    def fail(request: httpx2.Request) -> httpx2.Response:
        raise error(request)

    return Client(URL, timeout=3, transport=httpx2.MockTransport(fail))


def test_an_unreachable_service_is_named() -> None:
    client = failing(lambda request: httpx2.ConnectError("Connection refused", request=request))
    with pytest.raises(ServiceError, match=rf"^{URL}: cannot be reached \(Connection refused\)"):
        client.retrieve("t", "x")
    assert client.ready() is False


def test_a_silent_service_is_named_with_the_timeout() -> None:
    client = failing(lambda request: httpx2.ReadTimeout("", request=request))
    with pytest.raises(ServiceError, match=rf"^{URL}: no answer within 3 seconds$"):
        client.retrieve("t", "x")


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"demonstrations": 3}', b'{"demonstrations": [1]}', b'{"tasks": [{}]}']
)
def test_an_answer_of_something_else_is_a_service_error(body: bytes) -> None:
    client = Service(httpx2.Response(200, content=body)).client()
    for ask in (
        lambda: client.retrieve("t", "x"),
        lambda: client.prompt("t", "x", budget=9),
        client.tasks,
        client.info,
    ):
        with pytest.raises(ServiceError, match="not a udr service's"):
            ask()


def test_a_redirect_or_a_foreign_error_is_a_service_error() -> None:
    for status in (301, 404, 502):
        with pytest.raises(ServiceError, match=f"HTTP {status}") as raised:
            Service(httpx2.Response(status, content=b"<html>")).client().retrieve("t", "x")
        assert raised.value.status == status and raised.value.type is None


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "localhost", "ftp://x", "http://", "", "http://[::1", "http://x:y"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="must be like http"):
        Client(url)


@pytest.mark.parametrize("input", [{"a": float("nan")}, {"a": object()}, {"a": {1, 2}}])
def test_an_input_that_json_cannot_say_is_refused_before_it_is_sent(input: Mapping[str, Any]) -> None:
    service = Service(httpx2.Response(200, json=RETRIEVAL.to_json()))
    with pytest.raises(InvalidInputError, match="JSON"):
        service.client().retrieve("t", input)
    assert not service.requests


def test_ready_is_what_readyz_says() -> None:
    assert Service(httpx2.Response(200, json={})).client().ready() is True
    service = Service(problem(503, "not-ready", "loading"))
    assert service.client().ready() is False
    assert len(service.requests) == 1


def test_an_exclude_that_is_a_text_is_sent_as_it_is_and_not_as_letters() -> None:
    service = Service(problem(422, "invalid-input", "/exclude: must be a valid list"))
    with pytest.raises(InvalidInputError):
        service.client().retrieve("t", "x", exclude="n01")
    assert json.loads(service.requests[0].content)["exclude"] == "n01"
