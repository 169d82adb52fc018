"""The requests that the clients send, and the results and errors from responses; ``test_transport`` covers retries."""

import inspect
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

import httpx2
import numpy as np
import pytest

from tests.clients import URL, Connect, Service, problem
from udr import errors
from udr.client import PROBLEM, AsyncClient, Client
from udr.prompts import Prompt, PromptDemonstration, SpecialToken, Truncation
from udr.retrieval import (
    DEFAULT_K,
    Decision,
    DefaultK,
    Retrieval,
    RetrievalRequest,
    RetrievedDemonstration,
    Retriever,
)
from udr.types import Row, TokenCount

DECISION = Decision(id="1", task="trec", similarity=0.8312, stage="choice", kept=True, reason="chosen")
PLAIN = RetrievedDemonstration(
    id="1", task="trec", similarity=0.8312, rank=1, input={"question": "{x} 🙂"}, target="human", text="Q\nA"
)
COUNTED = replace(PLAIN, metadata={"n": [1]}, tokens=TokenCount(tokenizer="t", count=3))
RETRIEVAL = Retrieval(demonstrations=(PLAIN, COUNTED), decisions=(DECISION,), index_version="v1", model="m")
SHOWN = PromptDemonstration(id="1", task="t", similarity=0.5, rank=1, tokens=3)
TEXT = Prompt(text="Q", tokens=5, demonstrations=(SHOWN,), index_version="v1", model="m")
PROMPTS = [
    replace(TEXT, special_tokens=(SpecialToken(token="<s>", task="t", id=None),)),
    replace(TEXT, text=None, messages=({"role": "user", "content": "Q"},), decisions=(DECISION,)),
    replace(TEXT, text=None, records=({"q": "x"},), truncated=Truncation(field="q", kept=1, length=2)),
]
ROW = Row(id="a/b", input={"q": "x"}, target="y", choices=("y", "z"), references=("y",), metadata={"n": 2})


def ok(body: object) -> Service:
    return Service(httpx2.Response(200, json=body))


def body_of(service: Service) -> Any:
    (request,) = service.requests
    return json.loads(request.content)


def test_retrieve_sends_only_what_differs_from_the_defaults(connect: Connect) -> None:
    service = ok(RETRIEVAL.to_json())
    assert connect(service).retrieve("trec", {"question": "Who ?"}, 3) == RETRIEVAL
    assert (service.requests[0].method, str(service.requests[0].url)) == ("POST", f"{URL}/v1/retrieve")
    assert body_of(service) == {"task": "trec", "input": {"question": "Who ?"}, "k": 3}
    service = ok(RETRIEVAL.to_json())
    options: dict[str, Any] = {"family": "topic", "input": "Who ?", "exclude": ["a"], "min_similarity": 0.0}
    assert connect(service).retrieve(**options) == RETRIEVAL
    assert body_of(service) == options


@pytest.mark.parametrize("prompt", PROMPTS)
def test_prompt_sends_its_budget_and_reads_every_format(connect: Connect, prompt: Prompt) -> None:
    service = ok(prompt.to_json())
    assert (
        connect(service).prompt("trec", "Who ?", budget=64, reserve=8, format="messages", list_options=True) == prompt
    )
    expected = {"budget": 64, "reserve": 8, "format": "messages", "list_options": True}
    assert body_of(service) == {**expected, "task": "trec", "input": "Who ?"}


@pytest.mark.parametrize("id", ["1", "a/b", "..", ".", "a b?c#d%25", "é🙂", "{x}", "\\"])
def test_demonstration_escapes_its_path(connect: Connect, id: str) -> None:
    service = ok({**ROW.to_json(), "task": "a.b"})
    assert connect(service).demonstration("a.b", id) == ROW
    path = service.requests[0].url.raw_path.decode()
    assert path.count("/") == 5 and "?" not in path and "#" not in path
    assert unquote(path) == f"/v1/tasks/a.b/demonstrations/{id}"


def test_a_name_that_no_url_can_hold_is_refused_before_sending(connect: Connect) -> None:
    service = ok({})
    with pytest.raises(errors.InvalidInputError, match=r"'a\\ud800' cannot be encoded in a URL"):
        connect(service).demonstration("t", "a\ud800")
    with pytest.raises(errors.ServiceError, match="URL too long"):
        connect(service).demonstration("t", "a" * 70_000)
    assert not service.requests


def test_requests_carry_the_timeout_and_keep_the_path_of_the_url(connect: Connect) -> None:
    service = ok({"tasks": []})
    _ = connect(service).tasks
    _ = connect(service, f"{URL}/udr/", timeout=0.25).tasks
    assert [request.headers["X-Udr-Timeout"] for request in service.requests] == ["10", "0.25"]
    assert [str(request.url) for request in service.requests] == [f"{URL}/v1/tasks", f"{URL}/udr/v1/tasks"]


PROBLEMS = [
    *((404, "unknown-task", errors.UnknownTaskError), (422, "invalid-input", errors.InvalidInputError)),
    *((422, "k-too-large", errors.InvalidInputError), (413, "too-long", errors.TooLongError)),
    *((413, "batch-too-large", errors.ServiceError), (429, "overloaded", errors.OverloadedError)),
    *((503, "not-ready", errors.OverloadedError), (504, "deadline-exceeded", errors.DeadlineError)),
    *((401, "unauthorized", errors.AccessError), (403, "forbidden", errors.AccessError)),
    (500, "internal", errors.ServiceError),
]


@pytest.mark.parametrize("in_batch", [False, True])
@pytest.mark.parametrize(("status", "name", "kind"), PROBLEMS)
def test_a_problem_raises_its_error(
    connect: Connect, status: int, name: str, kind: type[errors.UdrError], in_batch: bool
) -> None:
    failure = problem(status, name, "k must be from 1 to 3")
    with pytest.raises(errors.UdrError) as raised:
        if in_batch:
            later = problem(500, "internal", "later")
            connect(Batching(64, {"text 2": failure, "text 3": later})).retrieve_batch(requests(4))
        else:
            connect(Service(failure), retries=0).retrieve("t", "x")
    message = "request 2: k must be from 1 to 3" if in_batch else "k must be from 1 to 3"
    assert type(raised.value) is kind
    if isinstance(raised.value, errors.ServiceError):
        assert str(raised.value).startswith(f"{URL}: {message} (HTTP {status})")
        assert (raised.value.status, raised.value.type) == (status, f"{PROBLEM}{name}")
        assert str(raised.value).endswith("; give the client an api_key, or set UDR_API_KEY") == (status == 401)
    else:
        assert str(raised.value) == message


def batch(*results: Retrieval | httpx2.Response) -> httpx2.Response:
    items = [result.to_json() if isinstance(result, Retrieval) else result.json() for result in results]
    return httpx2.Response(200, json={"results": items})


def requests(count: int) -> list[RetrievalRequest]:
    return [RetrievalRequest(task="t", input=f"text {number}") for number in range(1, count + 1)]


def test_a_batch_sends_its_requests_like_single_ones(connect: Connect) -> None:
    service = Service(batch(RETRIEVAL, RETRIEVAL))
    asked = [
        RetrievalRequest(task="t", input={"a": "b"}, k=3),
        RetrievalRequest(scope="all", input="x", exclude=("n",), min_similarity=0.5, mode="bm25"),
    ]
    assert connect(service).retrieve_batch(asked) == [RETRIEVAL, RETRIEVAL]
    (request,) = service.requests
    assert (request.method, request.url.path) == ("POST", "/v1/retrieve/batch")
    assert request.headers["Content-Type"] == "application/json"
    assert body_of(service)["requests"] == [
        {"task": "t", "input": {"a": "b"}, "k": 3},
        {"scope": "all", "input": "x", "exclude": ["n"], "min_similarity": 0.5, "mode": "bm25"},
    ]


class Batching:
    """A service with a batch limit, whose answers repeat the input as the model, except the refused ones."""

    def __init__(
        self, max_batch: int, refused: Mapping[str, httpx2.Response] = MappingProxyType({}), max_bytes: float = math.inf
    ) -> None:
        self.max_batch, self.refused, self.infos, self.batches = max_batch, refused, 0, list[int]()
        self.max_bytes, self.largest, self.too_large = max_bytes, 0, 0

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/info":
            self.infos += 1
            return httpx2.Response(200, json={"index_version": "v1", "limits": {"max_batch": self.max_batch}})
        texts = [item["input"] for item in json.loads(request.content)["requests"]]
        if len(texts) > self.max_batch or len(request.content) > self.max_bytes:
            self.too_large += 1
            return problem(413, "batch-too-large", f"the limit is {self.max_batch}")
        self.batches.append(len(texts))
        self.largest = max(self.largest, len(request.content))
        retrievals = {text: Retrieval(demonstrations=(), index_version="v1", model=text) for text in texts}
        return batch(*(self.refused.get(text, retrievals[text]) for text in texts))


@pytest.mark.parametrize(
    ("count", "max_batch", "batches", "infos"),
    [
        (0, 64, [], 0),
        (64, 64, [64], 0),
        (65, 64, [64, 1], 1),
        (65, 100, [65], 1),
        (130, 50, [50, 50, 30], 1),
        (66, 1, [1] * 66, 1),
    ],
)
def test_a_long_batch_is_sent_in_order_in_batches_of_the_limit(
    connect: Connect, count: int, max_batch: int, batches: list[int], infos: int
) -> None:
    service = Batching(max_batch)
    client = connect(service)
    for _ in range(2):
        retrievals = client.retrieve_batch(requests(count))
        assert [retrieval.model for retrieval in retrievals] == [f"text {n}" for n in range(1, count + 1)]
    assert (service.batches, service.infos) == (batches * 2, infos)


@pytest.mark.parametrize(("max_bytes", "batches"), [(math.inf, [10, 10]), (300, [5, 5, 5, 5])])
def test_a_batch_that_a_service_refuses_as_too_large_is_sent_in_smaller_ones(
    connect: Connect, max_bytes: float, batches: list[int]
) -> None:
    service = Batching(16, max_bytes=max_bytes)
    client = connect(service)
    assert [each.model for each in client.retrieve_batch(requests(20))] == [f"text {n}" for n in range(1, 21)]
    assert service.batches == batches
    # Its limit is known from then on.
    refused = service.too_large
    client.retrieve_batch(requests(32 if max_bytes == math.inf else 5))
    assert service.too_large == refused


def test_a_request_that_is_too_large_alone_is_an_error(connect: Connect) -> None:
    with pytest.raises(errors.ServiceError, match="413") as raised:
        connect(Batching(16, max_bytes=10)).retrieve_batch(requests(4))
    assert raised.value.status == 413


def test_batches_of_long_texts_stay_below_a_megabyte(connect: Connect) -> None:
    service, text = Batching(64), "长" * 32_768
    asked = [RetrievalRequest(task="t", input=text)] * 30
    assert len(connect(service).retrieve_batch(asked)) == 30
    # Three bytes a character, not six.
    assert service.batches == [10, 10, 10] and service.largest < 1_000_000
    assert service.too_large == 0


@pytest.mark.parametrize("limits", [{}, {"max_batch": None}, {"max_batch": 0}, {"max_batch": "many"}, 3])
def test_an_invalid_batch_limit_is_a_service_error(connect: Connect, limits: object) -> None:
    service = ok({"index_version": "v1", "limits": limits})
    with pytest.raises(errors.ServiceError, match="not from a udr service"):
        connect(service).retrieve_batch(requests(65))
    assert [request.url.path for request in service.requests] == ["/v1/info"]


def test_positions_count_over_all_batches_and_a_failure_stops_sending(connect: Connect) -> None:
    service = Batching(30, {"text 32": problem(404, "unknown-task", "no")})
    with pytest.raises(errors.UnknownTaskError, match=r"^request 32: no$"):
        connect(service).retrieve_batch(requests(90))
    assert service.batches == [30, 30]


BODIES = ["", "<html>", "[]", "[" * 100_000, "{}", '{"demonstrations": 3}', '{"demonstrations": [1]}']
BODIES += ['{"tasks": [{}]}', '{"prompt": "", "tokens": 1, "demonstrations": []}']
BODIES += [f'{{"results": {text}}}' for text in ("3", "[3]", '["demonstrations"]', "[]", "[1, 2]", '[{"status": []}]')]
BODIES += ['{"results": [{"status": "x", "detail": "", "type": ""}]}']
CALLS: dict[str, Callable[[Client], object]] = {
    "retrieve": lambda client: client.retrieve("t", "x"),
    "retrieve_batch": lambda client: client.retrieve_batch(requests(1)),
    "prompt": lambda client: client.prompt("t", "x", budget=9),
    "demonstration": lambda client: client.demonstration("t", "x"),
    "tasks": lambda client: client.tasks,
    "info": lambda client: client.info(),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_body_of_something_else_is_a_service_error(connect: Connect, call: str) -> None:
    for body in BODIES:
        with pytest.raises(errors.ServiceError, match="not from a udr service"):
            CALLS[call](connect(Service(httpx2.Response(200, content=body))))


@pytest.mark.parametrize("body", [b"<html>", b'{"type": [], "detail": {}}', b'{"type": 3}'])
@pytest.mark.parametrize(
    ("status", "kind"), [(301, errors.ServiceError), (502, errors.ServiceError), (401, errors.AccessError)]
)
def test_a_redirect_or_another_servers_error_is_a_service_error(
    connect: Connect, status: int, kind: type[errors.ServiceError], body: bytes
) -> None:
    with pytest.raises(errors.ServiceError, match=f"HTTP {status}") as raised:
        connect(Service(httpx2.Response(status, content=body)), retries=0).retrieve("t", "x")
    assert type(raised.value) is kind
    assert raised.value.status == status and raised.value.type is None


@pytest.mark.parametrize(
    ("url", "keys", "message"),
    [
        *((url, {}, "must be like http") for url in ("127.0.0.1:8000", "localhost", "ftp://x", "http://", "")),
        *((url, {}, "must be like http") for url in ("http://[::1", "http://x:y")),
        ("http://me:geheim@service", {}, "without a password; give the client an api_key"),
        *((URL, {"timeout": timeout}, "a number of seconds above 0") for timeout in (0, -1, math.inf, math.nan)),
        (URL, {"retries": -1}, "retries must be 0 or more, found -1"),
    ],
)
def test_invalid_settings_are_refused_without_showing_secrets(
    connect: Connect, url: str, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(errors.ConfigError, match=message) as raised:
        connect(url, **keys)
    assert "geheim" not in str(raised.value)


@pytest.mark.parametrize("input", [{"a": float("nan")}, {"a": object()}, {"a": {1, 2}}, None])
def test_an_input_that_json_cannot_hold_is_refused_before_sending(connect: Connect, input: Any) -> None:
    service = ok(RETRIEVAL.to_json())
    with pytest.raises(errors.InvalidInputError, match="JSON" if input else r"^the input is missing"):
        connect(service).retrieve("t", input)
    if input:
        with pytest.raises(errors.InvalidInputError, match=r"^request 3: the request cannot be encoded as JSON"):
            connect(service).retrieve_batch([*requests(2), RetrievalRequest(task="t", input=input)])
    assert not service.requests


@pytest.mark.parametrize(("exclude", "sent"), [("n01", "n01"), (3, 3), (("a", "b"), ["a", "b"]), ({"a"}, ["a"])])
def test_any_mapping_and_collection_is_sent_but_never_a_string_as_its_letters(
    connect: Connect, exclude: Any, sent: object
) -> None:
    service = ok(RETRIEVAL.to_json())
    connect(service).retrieve("t", MappingProxyType({"a": ("b", 1)}), exclude=exclude)
    assert (body_of(service)["input"], body_of(service)["exclude"]) == ({"a": ["b", 1]}, sent)


def test_numbers_and_arrays_of_numpy_are_sent(connect: Connect) -> None:
    service = ok(RETRIEVAL.to_json())
    options: dict[str, Any] = {
        "diversity": np.float32(0.5),
        "exclude": np.array(["a", "b"]),
        "candidates": np.int64(60),
    }
    whole: Callable[[int], Any] = np.int64
    real: Callable[[float], Any] = np.float32
    connect(service).retrieve("t", {"n": whole(2), "all": [real(0.25)]}, whole(3), **options)
    expected = {"task": "t", "input": {"n": 2, "all": [0.25]}, "k": 3, "diversity": 0.5, "exclude": ["a", "b"]}
    assert body_of(service) == {**expected, "candidates": 60}
    service = ok({"told": 1})
    connect(service).outcome("p", real(0.5))
    assert body_of(service)["score"] == 0.5


def test_a_default_k_that_is_not_the_service_s_is_refused(connect: Connect) -> None:
    service = ok(RETRIEVAL.to_json())
    connect(service).retrieve("t", "x", DEFAULT_K)
    assert "k" not in body_of(service)
    with pytest.raises(errors.InvalidInputError, match="a service has its own default of k; found a DefaultK of 5"):
        connect(service).retrieve("t", "x", DefaultK(5))


def test_a_closed_client_says_so(connect: Connect) -> None:
    client = connect(ok(RETRIEVAL.to_json()))
    client.close()
    for call in (lambda: client.retrieve("t", "x"), client.ready):
        with pytest.raises(errors.ConfigError, match="this client is closed; make another"):
            call()


def test_ready_asks_readyz_once(connect: Connect) -> None:
    assert connect(ok({})).ready() is True
    service = Service(problem(503, "not-ready", "loading"))
    assert connect(service).ready() is False
    assert [request.url.path for request in service.requests] == ["/readyz"]


SHARED = ("retrieve", "retrieve_batch", "demonstration")


@pytest.mark.parametrize("name", [*SHARED, "prompt", "info", "ready", "close"])
def test_both_clients_and_the_retriever_have_the_same_signatures(name: str) -> None:
    signature = inspect.signature(getattr(Client, name))
    assert inspect.iscoroutinefunction(getattr(AsyncClient, name))
    assert inspect.signature(getattr(AsyncClient, name)) == signature
    assert name not in SHARED or inspect.signature(getattr(Retriever, name)) == signature


def test_tasks_are_an_attribute_of_the_client_and_of_the_retriever() -> None:
    assert isinstance(Client.tasks, property) and isinstance(Retriever.tasks, property)
    assert inspect.iscoroutinefunction(AsyncClient.tasks)
