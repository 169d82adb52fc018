"""The gateway: chats with demonstrations, answered by an upstream."""

import json
import logging
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.fakes import NOTES
from tests.service.conftest import Words
from tests.service.running import running
from tests.tiny_models import byte_tokenizer
from tests.udr.models.test_tokenizer import save_word_tokenizer
from tests.udr.retrieval.conftest import note, open_pools
from tests.upstreams import COMPLETION, DONE, STREAM, Upstream, chunk, flows, hangs, hangs_up, refuses, upstream
from udr.models import load_tokenizer
from udr.retrieval import MODES, Retriever
from udr_service import Settings, create_app

CHAT = "/v1/chat/completions"
DULL = [{"role": "system", "content": "Give the mood."}, {"role": "user", "content": "a dull grey day"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def model() -> Iterator[Upstream]:
    with upstream() as fake:
        yield fake


@pytest.fixture
def gateway(retriever: Retriever, model: Upstream) -> Iterator[httpx2.Client]:
    with opened(retriever, model) as client:
        yield client


class opened:
    """A client of a gateway."""

    def __init__(self, retriever: Retriever, model: Upstream, **settings: Any) -> None:
        app = create_app(retriever, Settings(upstream=model.url, **settings), Words())
        self._running = running(app)

    def __enter__(self) -> httpx2.Client:
        self._client = httpx2.Client(base_url=self._running.__enter__(), timeout=20)
        return self._client

    def __exit__(self, *error: Any) -> None:
        self._client.close()
        self._running.__exit__(*error)


def ask(client: httpx2.Client, headers: dict[str, str] | None = None, **body: Any) -> httpx2.Response:
    return client.post(CHAT, json={"model": "notes@fake", "messages": DULL, **body}, headers=headers)


def test_demonstrations_of_the_last_user_message_come_before_the_conversation(
    gateway: httpx2.Client, model: Upstream, retriever: Retriever
) -> None:
    answer = ask(gateway, udr={"k": 2}, temperature=0.5, tools=[TOOL], response_format={"type": "json_object"})
    assert (answer.status_code, answer.json()) == (200, COMPLETION)
    best = retriever.retrieve("notes", "a dull grey day", k=2)
    turns: list[dict[str, Any]] = [
        {"role": role, "content": content}
        for each in reversed(best)
        for role, content in (("user", str(each.input["text"])), ("assistant", each.target))
    ]
    assert model.requests[0].path == CHAT
    assert model.requests[0].body == {
        **{"model": "fake", "messages": [DULL[0], *turns, DULL[1]]},
        **{"temperature": 0.5, "tools": [TOOL], "response_format": {"type": "json_object"}},
    }
    assert answer.headers["X-Udr-Demonstrations"] == f"{best[1].id},{best[0].id}"
    assert answer.headers["X-Udr-Tokens"] == str(sum(len(turn["content"].split()) for turn in turns))
    assert answer.headers["X-Udr-Task"] == "notes"
    assert gateway.post("/v1/outcomes", json={"prompt_id": answer.headers["X-Udr-Prompt-Id"], "score": 1}).is_success
    assert answer.headers["X-Udr-Index-Version"] == retriever.index_version
    assert re.fullmatch(r"(\w+;dur=[\d.]+, )*upstream;dur=[\d.]+, total;dur=[\d.]+", answer.headers["Server-Timing"])


def test_choices_may_be_the_one_field(model: Upstream, tmp_path: Path) -> None:
    row: dict[str, Any] = {"id": "1", "input": {}, "target": "glad", "choices": ["sun", "rain"]}
    keys = {**NOTES, "input": "Note: {choices}"}
    with open_pools(tmp_path, {"notes": [row]}, keys) as pool, opened(pool, model) as client:
        assert ask(client).status_code == 200
    assert [turn["content"] for turn in model.requests[0].body["messages"][1:3]] == ["sun, rain", "glad"]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"model": "fake", "udr": {"task": "notes"}}, {}),
        ({"model": "fake", "udr": None}, {"X-Udr-Task": "notes"}),
        ({"model": "notes@fake"}, {}),
        ({"model": "notes@fake", "udr": {"task": "notes"}}, {"X-Udr-Task": "notes"}),
    ],
)
def test_the_task_is_named_in_the_body_a_header_or_the_model(
    gateway: httpx2.Client, model: Upstream, body: Any, headers: dict[str, str]
) -> None:
    answer = ask(gateway, headers, **body)
    assert answer.status_code == 200 and len(answer.headers["X-Udr-Demonstrations"].split(",")) == 8
    sent = model.requests[0]
    assert sent.body.keys() == {"model", "messages"} and sent.body["model"] == "fake"
    assert len(sent.body["messages"]) == 18 and "X-Udr-Task" not in sent.headers


@pytest.mark.parametrize(
    "content", ["a dull day", [{"type": "text", "text": "a dull"}, {"type": "text", "text": "day"}]]
)
def test_parts_of_text_are_the_query(gateway: httpx2.Client, content: Any, retriever: Retriever) -> None:
    picture = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}
    asked = {"role": "user", "content": content}
    later = [{"role": "assistant", "content": None, "tool_calls": []}, {"role": "tool", "content": "7"}]
    answer = ask(gateway, messages=[picture, asked, *later], udr={"k": 1})
    query = content if isinstance(content, str) else "a dull\nday"
    assert answer.headers["X-Udr-Demonstrations"] == retriever.retrieve("notes", query, k=1)[0].id
    assert ask(gateway, messages=[asked, picture]).headers["X-Udr-Demonstrations"] == ""


def test_every_other_byte_is_as_it_came(gateway: httpx2.Client, model: Upstream) -> None:
    parts = [
        '{ "seed" : 1.0e2,"messages":[ ',
        '{"content": "\\u0061 dull day", "role":"user", "big": 1e999 } ] , ',
        "}",
    ]
    text = parts[0] + parts[1] + '"model" : "notes@f\\u00e4ke", "udr" : {"k": 1} , "last": "\\ud800" ' + parts[2]
    answer = gateway.post(CHAT, content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200
    shown = model.requests[0].content.decode()
    turns = shown.removeprefix(parts[0]).partition('{"content": "\\u0061')[0]
    assert [each["role"] for each in json.loads(f"[{turns} 0]")[:2]] == ["user", "assistant"]
    assert shown == parts[0] + turns + parts[1] + '"model" : "f\\u00e4ke", "last": "\\ud800" ' + parts[2]


@pytest.mark.parametrize(
    "udr", ['"udr": {"task": "notes"}, "n": 1', '"n": 1, "udr": {"task": "notes"}', '"n":1 ,"udr":null,"m":2']
)
def test_the_field_is_removed_wherever_it_stands(gateway: httpx2.Client, model: Upstream, udr: str) -> None:
    headers = {"Content-Type": "application/json", "X-Udr-Task": "notes"}
    assert gateway.post(CHAT, content=f"{{{udr}}}", headers=headers).status_code == 200
    assert model.requests[0].body in ({"n": 1}, {"n": 1, "m": 2})


@pytest.mark.parametrize(
    "text",
    [
        '{"model": "fake", "messages": [{"role": "user", "content": "a dull day"}]}',
        '{ "messages": 7 }',
        "{}",
        '{"model": "claude@2024"}',
    ],
)
def test_a_chat_without_a_task_is_forwarded_as_it_came(gateway: httpx2.Client, model: Upstream, text: str) -> None:
    answer = gateway.post(CHAT, content=text, headers={"Content-Type": "application/json"})
    assert answer.json() == COMPLETION and "X-Udr-Demonstrations" not in answer.headers
    assert model.requests[0].content.decode() == text


def test_without_a_demonstration_above_the_bound_a_chat_is_forwarded_as_it_came(
    retriever: Retriever, model: Upstream
) -> None:
    text = '{ "model":"fake", "messages": [ {"role": "user", "content": "a dull day"}]}'
    headers = {"Content-Type": "application/json", "X-Udr-Task": "notes"}
    with opened(retriever, model, gateway_min_similarity=1.1) as gateway:
        answer = gateway.post(CHAT, content=text, headers=headers)
        assert (answer.headers["X-Udr-Demonstrations"], answer.headers["X-Udr-Tokens"]) == ("", "0")
        assert model.requests[0].content.decode() == text
        # A request that wants none above the bound asks for nothing wrong.
        answer = ask(gateway, udr={"max_similarity": 0.4})
        assert (answer.status_code, answer.headers["X-Udr-Demonstrations"]) == (200, "")
        # A request may lower the operator's bound.
        assert ask(gateway, udr={"min_similarity": 0.1, "k": 1}).headers["X-Udr-Demonstrations"]


def test_the_operator_s_bound_is_for_mode_dense(model: Upstream, tmp_path: Path) -> None:
    rows = [note(f"n{number}", f"a dull grey day and {number} more") for number in range(6)]
    with (
        open_pools(tmp_path, {"notes": rows}, bm25=True, label_head=False) as both,
        opened(both, model, gateway_min_similarity=1.1, gateway_k=2) as gateway,
    ):
        shown = {mode: ask(gateway, udr={"mode": mode}).headers["X-Udr-Demonstrations"] for mode in MODES}
        best = {mode: [item.id for item in both.retrieve("notes", "a dull grey day", 2, mode=mode)] for mode in MODES}
    assert shown == {mode: "" if mode == "dense" else ",".join(reversed(best[mode])) for mode in MODES}


def test_a_budget_is_kept_by_what_is_added(retriever: Retriever, model: Upstream) -> None:
    with opened(retriever, model, gateway_budget=12, gateway_k=3) as gateway:
        answer = ask(gateway)
        assert 0 < int(answer.headers["X-Udr-Tokens"]) <= 12
        assert len(answer.headers["X-Udr-Demonstrations"].split(",")) == 2
        assert ask(gateway, udr={"budget": 1}).headers["X-Udr-Demonstrations"] == ""


def test_a_chat_names_one_of_the_tokenizers(retriever: Retriever, model: Upstream, tmp_path: Path) -> None:
    words, letters = str(save_word_tokenizer(tmp_path / "words")), str(tmp_path / "letters")
    byte_tokenizer().save_pretrained(letters)
    app = create_app(retriever, Settings.read(tokenizer=[words, letters], upstream=model.url))
    with running(app) as address, httpx2.Client(base_url=address, timeout=20) as gateway:
        for name in (None, words, letters):
            answer = ask(gateway, udr={"k": 2, "tokenizer": name})
            added = [turn["content"] for turn in model.requests[-1].body["messages"][1:-1]]
            counter = load_tokenizer(name or words)
            tokens = sum(counter.count(text) - counter.count("") for text in added)
            assert (len(added), answer.headers["X-Udr-Tokens"]) == (4, str(tokens))
        kept = {name: ask(gateway, udr={"k": 8, "budget": 40, "tokenizer": name}) for name in (words, letters)}
        shown = [each.headers["X-Udr-Demonstrations"].count(",") + 1 for each in kept.values()]
        assert shown[0] > shown[1] > 0 and all(int(each.headers["X-Udr-Tokens"]) <= 40 for each in kept.values())
        refused = ask(gateway, udr={"tokenizer": "gpt-9"})
        assert refused.status_code == 422
        assert f"has no tokenizer 'gpt-9'; it was started with {words}" in refused.json()["error"]["message"]


def test_fields_of_the_query_are_given_beside_it_and_templates_show_them(
    gateway: httpx2.Client, model: Upstream, retriever: Retriever
) -> None:
    refused = ask(gateway, model="reviews@fake")
    assert refused.status_code == 422 and "give each field by name" in refused.json()["error"]["message"]
    fields = {"thing": "kettle", "text": "works every day"}
    assert ask(gateway, model="reviews@fake", udr={"input": fields, "k": 1}).status_code == 200
    (best,) = retriever.retrieve("reviews", fields, k=1)
    shown = model.requests[0].body["messages"][1:3]
    assert [each["content"] for each in shown] == [
        f"Thing: {best.input['thing']}\nReview: {best.input['text']}\nMood:",
        best.target,
    ]


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        ({"role": "system", "content": 'Say "it".'}, {"role": "system", "content": 'Say "it".\n\n{}'}),
        ({"role": "developer", "content": []}, {"role": "developer", "content": [{"type": "text", "text": "{}"}]}),
        (
            {"content": [{"type": "text", "text": "Do."}], "role": "system"},
            {"role": "system", "content": [{"type": "text", "text": "Do."}, {"type": "text", "text": "{}"}]},
        ),
        (None, {"role": "system", "content": "{}"}),
    ],
)
def test_texts_can_go_to_the_system_message(
    gateway: httpx2.Client, model: Upstream, retriever: Retriever, first: Any, expected: Any
) -> None:
    (best,) = retriever.retrieve("notes", "a dull grey day", k=1)
    messages = [DULL[1]] if first is None else [first, DULL[1]]
    assert ask(gateway, messages=messages, udr={"k": 1, "layout": "system"}).status_code == 200
    filled = json.loads(json.dumps(expected).replace("{}", json.dumps(best.text)[1:-1]))
    assert model.requests[0].body["messages"] == [filled, DULL[1]]


@pytest.mark.parametrize(
    ("body", "headers", "status", "code", "message"),
    [
        ({"udr": {"k": "2"}}, {}, 422, "invalid-input", "/udr/k: must be a valid integer"),
        ({"udr": {"explain": True}}, {}, 422, "invalid-input", "/udr/explain: is not a field of this request"),
        ({"udr": {"seed": 3}}, {}, 422, "invalid-input", "the seed 3 has no effect with the order 'nearest_last'"),
        ({"model": "fake", "udr": {"k": 2}}, {}, 422, "invalid-input", "the field udr needs a task"),
        ({}, {"X-Udr-Task": "reviews"}, 422, "invalid-input", "a chat has one task; found the header X-Udr-Task 'rev"),
        ({"model": "fake"}, {"X-Udr-Task": "other"}, 404, "unknown-task", "unknown task 'other'"),
        ({"udr": {"k": 999}}, {}, 422, "k-too-large", "k must be at most 256"),
        ({"messages": [{"role": "user", "content": "x" * 40_000}]}, {}, 413, "too-long", "32768"),
        ({}, {"X-Udr-Index-Version": "other"}, 412, "version-mismatch", "asks for version 'other'"),
    ],
)
def test_what_is_wrong_for_udr_is_told_in_openai_s_shape(
    gateway: httpx2.Client, model: Upstream, body: Any, headers: Any, status: int, code: str, message: str
) -> None:
    answer = ask(gateway, headers, **body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert message in answer.json()["error"]["message"] and model.requests == []


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 1, "a": 2}', '{"messages": ' + "[" * 10**5])
def test_a_body_that_is_no_object_is_refused(gateway: httpx2.Client, model: Upstream, text: str) -> None:
    answer = gateway.post(CHAT, content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 413, 422) and answer.json()["error"]["message"] and model.requests == []


def test_a_stream_is_passed_on_as_it_comes(gateway: httpx2.Client, model: Upstream) -> None:
    go = threading.Event()
    model.behave = lambda exchange: exchange.stream(STREAM, lambda: go.wait(10))
    request = gateway.build_request("POST", CHAT, json={"model": "notes@fake", "messages": DULL, "stream": True})
    answer = gateway.send(request, stream=True)
    parts = answer.iter_raw()
    # Before the upstream has sent the next one.
    assert next(parts) == STREAM[0] and answer.headers["Content-Type"] == "text/event-stream"
    assert answer.headers["X-Udr-Demonstrations"]
    go.set()
    assert b"".join(parts) == b"".join(STREAM[1:])


def test_a_stream_that_breaks_breaks_for_the_client(gateway: httpx2.Client, model: Upstream) -> None:
    model.behave = lambda exchange: exchange.stream(STREAM[:2], whole=False)
    received: list[bytes] = []
    with (
        pytest.raises(httpx2.RemoteProtocolError, match="incomplete chunked read"),
        gateway.stream("POST", CHAT, json={"model": "fake", "messages": DULL, "stream": True}) as answer,
    ):
        received += answer.iter_raw()
    assert b"".join(received) == b"".join(STREAM[:2])
    assert 'udr_refused_total{reason="upstream"} 1.0' in gateway.get("/metrics").text
    # The next one is answered.
    model.behave = lambda exchange: exchange.stream(STREAM)
    assert ask(gateway, stream=True).content.endswith(DONE)


LIMITED = {"error": {"message": "Rate limit reached", "type": "requests", "param": None, "code": "rate_limit_exceeded"}}


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (429, LIMITED, {"Retry_After": "7", "X_Ratelimit_Remaining_Requests": "0"}),
        (401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}, {"WWW_Authenticate": "Bearer"}),
        (400, {"error": "no"}, {}),
        (503, {"error": {"message": "The engine is overloaded"}}, {}),
        (500, {}, {"Content_Type": "text/html"}),
    ],
)
def test_errors_and_rate_limits_of_the_upstream_are_unchanged(
    gateway: httpx2.Client, model: Upstream, status: int, body: Any, headers: dict[str, str]
) -> None:
    model.behave = refuses(status, body, **headers)
    answer = ask(gateway)
    assert (answer.status_code, answer.json()) == (status, body)
    expected = {"Content_Type": "application/json", **headers}
    assert {name: answer.headers[name.replace("_", "-")] for name in expected} == expected
    assert ("Retry-After" in answer.headers) == ("Retry_After" in headers)
    assert answer.headers["X-Udr-Demonstrations"]
    metrics = gateway.get("/metrics").text
    assert f'udr_requests_total{{route="{CHAT}",status="{status}"}} 1.0' in metrics
    # None of them is this service's.
    assert set(re.findall(r"udr_refused_total\{.*\} (.*)", metrics)) == {"0.0"}


def test_an_upstream_that_does_not_answer_is_told(retriever: Retriever, model: Upstream) -> None:
    with opened(retriever, model, upstream_timeout_seconds=0.2) as gateway:
        model.behave = hangs_up
        assert (answer := ask(gateway)).status_code == 502
        assert answer.json()["error"]["code"] == "upstream-failed" and answer.headers["Retry-After"] == "1"
        model.behave = hangs
        answer = ask(gateway)
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "upstream-timeout")
        assert "within 0.2 seconds" in answer.json()["error"]["message"] and model.hung_up.wait(10)
        # Once it has begun, an answer can only be cut off.
        model.behave = flows
        with pytest.raises(httpx2.RemoteProtocolError):
            ask(gateway, stream=True)
        assert 'udr_refused_total{reason="upstream"} 3.0' in gateway.get("/metrics").text
    with opened(retriever, Upstream("http://127.0.0.1:1/v1")) as gateway:
        answer = ask(gateway)
        assert answer.status_code == 502 and "cannot be reached" in answer.json()["error"]["message"]
        assert "127.0.0.1" not in answer.text


@pytest.mark.parametrize("behave", [hangs, flows])
def test_a_client_that_hangs_up_cancels_the_request(gateway: httpx2.Client, model: Upstream, behave: Any) -> None:
    model.behave = behave
    request = gateway.build_request("POST", CHAT, json={"model": "notes@fake", "messages": DULL, "stream": True})
    request.extensions["timeout"] = {"read": 0.5}
    if behave is hangs:
        with pytest.raises(httpx2.ReadTimeout):
            gateway.send(request)
    else:
        answer = gateway.send(request, stream=True)
        next(answer.iter_raw())
        answer.close()
    assert model.hung_up.wait(10)


def test_requests_above_the_limit_are_refused(retriever: Retriever, model: Upstream) -> None:
    model.behave = flows
    with opened(retriever, model, upstream_requests=1) as gateway:
        body = {"model": "notes@fake", "messages": DULL, "stream": True}
        with gateway.stream("POST", CHAT, json=body) as answer:
            parts = answer.iter_raw()
            next(parts)
            refused = ask(gateway)
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, "busy")
        model.behave = refuses(200, {})
        deadline = time.monotonic() + 10
        while ask(gateway).status_code != 200:
            assert time.monotonic() < deadline


def test_bodies_count_no_more_once_the_upstream_answers(retriever: Retriever, model: Upstream) -> None:
    model.behave = flows
    limits = {"max_body_bytes": 200_000, "max_bodies_bytes": 300_000}
    large = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x" * 150_000}}]}]
    with opened(retriever, model, **limits) as gateway:
        streams = []
        for _ in range(4):
            request = gateway.build_request("POST", CHAT, json={"messages": large, "stream": True})
            streams.append(gateway.send(request, stream=True))
            assert streams[-1].status_code == 200
        for stream in streams:
            stream.close()


def test_the_client_s_headers_and_parameters_go_upstream_but_not_those_of_udr(
    gateway: httpx2.Client, model: Upstream
) -> None:
    sent = {"Authorization": "Bearer sk-1", "OpenAI-Organization": "o", "Accept-Encoding": "gzip", "User-Agent": "me"}
    hidden = {
        "X-Api-Key": "udr_k",
        "X-Udr-Task": "notes",
        "X-Udr-Timeout": "5",
        "Cookie": "c=1",
        "X-Forwarded-For": "::1",
    }
    for _ in range(2):
        gateway.cookies.clear()
        answer = gateway.post(f"{CHAT}?api-version=1", json={"messages": DULL}, headers={**sent, **hidden})
        assert answer.status_code == 200
        assert model.requests[-1].path == f"{CHAT}?api-version=1"
        assert {name: model.requests[-1].headers[name] for name in sent} == sent
        assert not set(model.requests[-1].headers.keys()) & {*hidden, "cookie"}
        # Cookies are between the upstream and this service, and no client's.
        assert "Set-Cookie" not in answer.headers
    assert answer.headers["X-Upstream-Request-Id"] == "upstream-1" != answer.headers["X-Request-Id"]


@pytest.fixture
def keys(tmp_path: Any) -> Any:
    import hashlib

    path = tmp_path / "keys.toml"
    digest = hashlib.sha256(b"udr_own").hexdigest()
    path.write_text(f'[[keys]]\nname = "app"\nscope = "read"\nsha256 = "{digest}"\ntasks = ["notes"]\n')
    return path


def test_udr_s_key_is_in_a_header_of_its_own(
    retriever: Retriever, model: Upstream, keys: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with opened(retriever, model, keys=keys) as gateway:
        own, theirs = {"X-Api-Key": "udr_own"}, {"Authorization": "Bearer sk-secret"}
        assert ask(gateway, {**own, **theirs}).status_code == 200
        assert model.requests[0].headers["Authorization"] == "Bearer sk-secret"
        refused = ask(gateway, {"Authorization": "Bearer udr_own"})
        assert refused.status_code == 401 and "none in X-Api-Key" in refused.json()["error"]["message"]
        misplaced = ask(gateway, {**own, "Authorization": "Bearer udr_own"})
        assert misplaced.status_code == 401 and "send it in X-Api-Key" in misplaced.json()["error"]["message"]
        assert ask(gateway, own, model="fake", udr={"task": "reviews"}).status_code == 403
        # A task that the key is not for is as unknown as any other.
        assert ask(gateway, own, model="reviews@fake").status_code == 200
        assert model.requests[-1].body["model"] == "reviews@fake"
    with opened(retriever, model, keys=keys, upstream_key="sk-operator") as gateway:
        assert ask(gateway, {**own, **theirs}).status_code == 200
        assert model.requests[-1].headers.get_all("Authorization") == ["Bearer sk-operator"]
    ours = [record for record in caplog.records if record.name.startswith("udr")]
    assert ours and not [record for record in ours if re.search("sk-|udr_own", str(vars(record)))]


def test_without_an_upstream_there_is_no_gateway(service: Any) -> None:
    assert service.post(CHAT, json={}).status_code == 404


def test_a_chunk_of_the_stand_in_is_openai_s() -> None:
    assert json.loads(chunk("s").removeprefix(b"data: "))["object"] == "chat.completion.chunk"
